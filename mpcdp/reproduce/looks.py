"""How each method is drawn and called: the same everywhere. Most colours are Okabe and Ito's, for all kinds of eyes."""

from dataclasses import dataclass

__all__ = ["LOOKS", "Look", "calibration_name"]


@dataclass(frozen=True)
class Look:
    """A method in figures and tables.

    Args:
        title: its name.
        colour: of line and marker.
        marker: of its points.
        style: of its line.
    """

    title: str
    colour: str
    marker: str
    style: str = "-"


LOOKS = {
    "pathak": Look("Pathak et al. 2010", "#999999", "v"),
    "local_output": Look("local output", "#E69F00", "s"),
    "local_objective": Look("local objective", "#CC79A7", "D"),
    "local_gradient": Look("local gradient", "#D55E00", "^"),
    "rajkumar_agarwal": Look("Rajkumar & Agarwal 2012", "#B8A000", "P"),
    "mpc_output": Look("paper: MPC output", "#56B4E9", "o"),
    "mpc_gradient": Look("paper: MPC gradient", "#009E73", "X"),
    "our_output": Look("ours: output, Gaussian", "#0072B2", "o", "--"),
    "our_laplace_output": Look("ours: output, Laplace", "#5B3E96", "h", ":"),
    "our_gradient": Look("ours: gradient", "#000000", "*", "--"),
    "our_statistics": Look("ours: statistics", "#0072B2", "s", "--"),
    "our_statistics_pooled": Look("ours: statistics, one pooled table", "#0072B2", "x", ":"),
    "our_output_pooled": Look("ours: output, one pooled table", "#0072B2", "x", ":"),
    "our_gradient_pooled": Look("ours: gradient, one pooled table", "#000000", "x", ":"),
    "per_owner_output": Look("noise of every owner's own (output)", "#E69F00", "s"),
    "per_owner_gradient": Look("noise of every owner's own (gradient)", "#D55E00", "^"),
    "diffprivlib": Look("central: diffprivlib", "#CC79A7", "D", "-."),
    "opacus": Look("central: Opacus", "#B8A000", "P", "-."),
}


def calibration_name(calibration: str) -> str:
    """Return what a calibration is called in tables."""
    return {"paper": "the paper's", "valid": "valid", "ours": "valid (a session's plan)"}[calibration]
