"""A row of the benchmark: real processes sample real noise, and what they report is put together."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from keeping_worker import measure_and_keep
from numpy.typing import NDArray

from mpcdp.bench.noise import Row, and_gates, document
from mpcdp.bench.published import PUBLISHED
from mpcdp.bench.setting import Sampler, Setting
from mpcdp.mpc.noise import Distribution, universal_noise

TINY = Setting(Sampler.LAPLACE, parties=2, dimension=128, runs=1, crypten=True)


def check_our_figures(row: Row, setting: Setting) -> None:
    assert (row.sampler, row.parties, row.dimension) == (setting.sampler.value, setting.parties, setting.dimension)
    assert row.runs == setting.runs == len(row.seconds_by_run)
    assert 0 < min(row.seconds_by_run) <= row.seconds <= max(row.seconds_by_run) < 60
    assert row.samples_per_second == pytest.approx(row.dimension / row.seconds)
    assert 20 < row.idle_memory_mib <= row.peak_memory_mib < 2000


def check_joint_figures(row: Row, setting: Setting) -> None:
    """No circuit does with fewer ANDs than the noise has bits, or opens less than a bit for each of a few ANDs."""
    assert 3 <= row.rounds < 200
    assert 64 <= row.ands_per_sample == and_gates(setting.noise.schedule(setting.dimension)) / setting.dimension
    assert 8 <= row.bytes_sent_per_sample < row.ands_per_sample * setting.parties
    assert 8 <= row.dealer_bytes_per_sample < row.ands_per_sample


def largest_correlation(series: NDArray[np.float64]) -> float:
    """Return the largest correlation between two rows."""
    matrix: NDArray[np.float64] = np.asarray(np.corrcoef(series))
    return float(np.abs(matrix[np.triu_indices(len(series), 1)]).max())


def test_a_tiny_run_measures_ours_and_crypten_and_samples_noise() -> None:
    row, shares = measure_and_keep(TINY)
    check_our_figures(row, TINY)
    check_joint_figures(row, TINY)
    assert row.crypten_seconds_by_run == (row.crypten_seconds,)
    assert row.crypten_seconds is not None
    assert row.ratio == pytest.approx(row.seconds / row.crypten_seconds)
    # CrypTen 0.4.1 opens as much as it did when the figures it is quoted with were measured.
    assert (row.crypten_rounds, row.crypten_bytes_sent_per_sample) == (43, 856)
    assert list(shares) == ["warm-up", "run-0"]
    assert shares["run-0"].shape == (2, 128)
    noise = shares["run-0"].sum(axis=0)
    assert 0.5 < np.abs(noise).mean() / TINY.noise.scale < 2
    assert np.abs(noise).max() <= TINY.noise.largest
    assert np.unique(noise).size > 100
    assert np.abs(shares["run-0"]).mean() > 2**60  # each share alone is uniform


@pytest.mark.parametrize(
    ("distribution", "words", "gates"),
    [("laplace", 1, 1713), ("laplace", 1024, 912), ("gaussian", 1, 3966), ("gaussian", 1024, 2685)],
)
def test_gates_are_counted_as_the_samplers_state_them(distribution: Distribution, words: int, gates: int) -> None:
    assert and_gates(universal_noise(distribution, "joint").schedule(64 * words)) == gates * 64 * words


@pytest.mark.slow
@pytest.mark.parametrize("parties", [2, 3])
@pytest.mark.parametrize("sampler", [Sampler.GAUSSIAN, Sampler.LAPLACE])
def test_every_batch_is_fresh_noise_of_the_right_scale(sampler: Sampler, parties: int) -> None:
    setting = Setting(sampler, parties, dimension=5000, runs=3, crypten=False)
    row, shares = measure_and_keep(setting)
    check_our_figures(row, setting)
    check_joint_figures(row, setting)
    assert (row.crypten_seconds, row.ratio, row.crypten_rounds, row.crypten_seconds_by_run) == (None, None, None, ())
    batches = [shares[f"run-{number}"].sum(axis=0) / setting.noise.scale for number in range(3)]
    for batch in batches:
        assert batch.std() == pytest.approx(1 if sampler is Sampler.GAUSSIAN else np.sqrt(2), rel=0.1)
    assert largest_correlation(np.stack(batches)) < 6 / np.sqrt(5000)


@pytest.mark.slow  # real processes that sample alone are run by test_bench_command
def test_parties_that_sample_alone_send_nothing() -> None:
    setting = Setting(Sampler.PER_PARTY, parties=3, dimension=2000, runs=2, crypten=False)
    row, shares = measure_and_keep(setting)
    check_our_figures(row, setting)
    assert (row.rounds, row.ands_per_sample, row.bytes_sent_per_sample, row.dealer_bytes_per_sample) == (0, 0, 0, 0)
    assert (row.crypten_seconds, row.ratio) == (None, None)
    own = shares["run-0"] / setting.noise.scale
    assert own.std(axis=1) == pytest.approx(1, rel=0.1)
    assert largest_correlation(own) < 6 / np.sqrt(2000)


def test_the_document_is_json_and_says_where_it_was_measured() -> None:
    row = Row(
        sampler="gaussian",
        parties=2,
        dimension=128,
        runs=1,
        seconds=0.02,
        samples_per_second=6400.0,
        rounds=22,
        ands_per_sample=4543.0,
        bytes_sent_per_sample=1143.0,
        dealer_bytes_per_sample=1016.0,
        peak_memory_mib=290.0,
        idle_memory_mib=280.0,
        crypten_seconds=None,
        ratio=None,
        crypten_rounds=None,
        crypten_bytes_sent_per_sample=None,
        seconds_by_run=(0.02,),
        crypten_seconds_by_run=(),
        notes=("a note",),
    )
    written = json.loads(json.dumps(document([row, replace(row, dimension=256)])))
    assert set(written) == {"rows", "published", "command", "machine", "versions"}
    assert [entry["dimension"] for entry in written["rows"]] == [128, 256]
    assert set(written["rows"][0]) == set(asdict(row))
    assert written["rows"][0]["crypten_seconds"] is None
    assert len(written["published"]) == len(PUBLISHED) >= 5
    assert all(entry["work"] and entry["setting"] and entry["figure"] for entry in written["published"])
    assert written["machine"]["cores"] >= 1
    assert written["machine"]["memory_mib"] > 100
    assert set(written["versions"]) >= {"mpcdp", "python", "crypten", "torch", "numpy", "grpcio"}
