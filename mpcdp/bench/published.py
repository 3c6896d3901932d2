"""Figures that others published for noise sampled inside a secure computation, as they state them."""

from dataclasses import dataclass

__all__ = ["PUBLISHED", "Published"]


@dataclass(frozen=True)
class Published:
    """A figure from the literature: another machine, another network, mostly another trust model.

    Args:
        work: where it was published.
        setting: what was measured.
        figure: the result.
    """

    work: str
    setting: str
    figure: str


PUBLISHED = (
    Published(
        "ePrint 2025/805",
        "noise from look-up tables, 3 parties, semi-honest, lambda = 40",
        "0.125 ms and 51 B per party per sample",
    ),
    Published(
        "Fu and Wang, CCS 2024",
        "Laplace, 3 parties, lambda = 128, epsilon = 0.1",
        "1,330 ANDs per sample, about 91 samples/s",
    ),
    Published(
        "Fu and Wang, CCS 2024",
        "Gaussian, 3 parties, lambda = 128, epsilon = 0.1",
        "6,588 ANDs per sample, about 20 samples/s",
    ),
    Published("Fu and Wang, CCS 2024", "3 parties, lambda = 64", "690 ANDs per Laplace, 3,251 per Gaussian"),
    Published("Wei et al., CCS 2023", "2^15 discrete Gaussians", "90 s"),
    Published("Franzese et al., CCS 2025", "16 parties", "0.06 s and 11.59 MB per sample"),
    Published(
        "Keller et al., ePrint 2023/1594",
        "2 parties, in batches",
        "about 1 ms online per sample, 51 ms to 5.6 s offline",
    ),
    Published(
        "Tian et al. 2016",
        "Obliv-C, aggregation of d = 200 from m = 100 owners, without noise",
        "2.06 M gates, under 2 s",
    ),
)
