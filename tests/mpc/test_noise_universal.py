"""The universal noise: its schedule is what sampling consumes, its samples stay in range, importing it is light."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from backend_contract import RecordingBackend
from scripted_streams import fixed_stream

from mpcdp.mpc.backend import CorrelationRequest
from mpcdp.mpc.noise import OFFSET, Distribution, Mode, UniversalNoise, universal_noise
from mpcdp.mpc.plaintext_backend import PlaintextBackend

KINDS: list[tuple[Distribution, Mode]] = [
    ("gaussian", "joint"),
    ("gaussian", "per-party"),
    ("laplace", "joint"),
    ("laplace", "per-party"),
]


@pytest.mark.parametrize("count", [1, 64, 65, 2**13, 2**13 + 1, 3 * 2**13 + 1, 2**17, 2**17 + 1])
@pytest.mark.parametrize(("distribution", "mode"), KINDS)
def test_schedule_is_what_sampling_consumes(distribution: Distribution, mode: Mode, count: int) -> None:
    noise = universal_noise(distribution, mode)
    backend = RecordingBackend(PlaintextBackend())
    samples = noise.sample(backend, count)
    assert samples.dimension == count
    assert np.abs(samples.values).max() <= noise.largest
    assert tuple(backend.requests) == noise.schedule(count)


def masks(request: CorrelationRequest) -> int:
    """Words of the most that one step holds: a mask for each row and set of selectors."""
    return request.fan * request.words * ((1 << request.selectors) - 1)


def test_memory_stays_bounded() -> None:
    """However many samples are made, no step works on more than 2^17 of them."""
    for distribution, mode in KINDS:
        noise = universal_noise(distribution, mode)
        widest = max(map(masks, noise.schedule(2**17)))
        assert max(map(masks, noise.schedule(10**6))) <= widest
        assert widest * 8 <= 16 * 2**20


@pytest.mark.parametrize(
    ("distribution", "count", "rounds"),
    [
        ("gaussian", 1, 22),
        ("gaussian", 2**13, 22),
        ("gaussian", 2**13 + 1, 44),
        ("laplace", 1, 14),
        ("laplace", 2**13 + 1, 17),
        ("laplace", 3 * 2**13, 17),
        ("laplace", 3 * 2**13 + 1, 39),
        ("laplace", 2**17, 39),
    ],
)
def test_rounds_depend_on_the_count_and_hardly_on_the_scale(
    distribution: Distribution, count: int, rounds: int
) -> None:
    """Few for few samples. Wider noise has more columns to add."""
    for mode, more in (("joint", 0), ("per-party", 1)):
        noise = universal_noise(distribution, mode)  # type: ignore[arg-type]
        backend = RecordingBackend(PlaintextBackend())
        noise.sample(backend, count)
        assert len(backend.opened) == rounds + more
        assert tuple(backend.requests) == noise.schedule(count)


def test_samples_are_new_at_every_call_and_repeat_only_with_the_key() -> None:
    noise = universal_noise("gaussian", "per-party")
    backend = PlaintextBackend()
    first, second = noise.sample(backend, 100).values, noise.sample(backend, 100).values
    assert not np.any(first == second)
    third, fourth = (noise.sample(PlaintextBackend(stream=fixed_stream("again")), 100).values for _ in range(2))
    assert np.array_equal(third, fourth)


def test_chunks_do_not_repeat() -> None:
    values = universal_noise("gaussian", "per-party").sample(PlaintextBackend(), 3 * 2**17).values.reshape(3, -1)
    assert np.sum(values[0] == values[1]) <= 1
    assert np.sum(values[1] == values[2]) <= 1


@pytest.mark.parametrize("count", [0, -1])
def test_count_is_positive(count: int) -> None:
    noise = universal_noise("laplace", "joint")
    with pytest.raises(ValueError, match="positive"):
        noise.sample(PlaintextBackend(), count)
    with pytest.raises(ValueError, match="positive"):
        noise.schedule(count)


@pytest.mark.parametrize(
    "change", [{"scale": 0}, {"largest": 0}, {"total_variation": -1e-9}, {"distribution": "cauchy"}]
)
def test_refuses(change: dict[str, object]) -> None:
    arguments = {"distribution": "laplace", "scale": 5, "total_variation": 0.0, "largest": 256} | change
    with pytest.raises(ValueError, match="noise"):
        UniversalNoise(**arguments)  # type: ignore[arg-type]


def test_requests_scale_with_the_width() -> None:
    noise = universal_noise("laplace", "joint")
    one, three = noise.schedule(64), noise.schedule(3 * 64)
    assert three == tuple(replace(request, words=3 * request.words) for request in one)


def test_offset_makes_the_noise_symmetric() -> None:
    values = universal_noise("laplace", "joint").sample(PlaintextBackend(stream=fixed_stream("offset")), 1000).values
    assert OFFSET == 0.5
    assert abs(np.sign(values + OFFSET).sum()) <= 6 * 1000**0.5


def test_import_is_light() -> None:
    """No heavy library and no table: a process that only plans or uploads pays for neither."""
    program = (
        "import sys, mpcdp.mpc.noise as noise, mpcdp.mpc.noise.tables as tables\n"
        "noise.universal_noise('gaussian', 'joint')\n"
        "assert not {'torch', 'crypten', 'scipy', 'sklearn'} & set(sys.modules), sorted(sys.modules)\n"
        "assert tables.half_gaussian.cache_info().currsize == 0\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
