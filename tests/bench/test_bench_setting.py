"""What a row's processes are told."""

from pathlib import Path

import pytest

from mpcdp.bench.setting import Sampler, Setting

SETTING = Setting(
    Sampler.GAUSSIAN,
    parties=3,
    dimension=1000,
    runs=2,
    crypten=True,
    session="ab" * 32,
    addresses={"dealer": "127.0.0.1:5001"},
)


def test_processes_read_the_setting_that_was_written(tmp_path: Path) -> None:
    SETTING.save(tmp_path / "setting.json")
    loaded = Setting.load(tmp_path / "setting.json")
    assert loaded == SETTING
    assert loaded.ref == SETTING.ref
    assert loaded.sampler is Sampler.GAUSSIAN


def test_joint_noise_has_a_dealer_and_per_party_noise_has_none() -> None:
    assert SETTING.process_names == ("dealer", "party-1", "party-2", "party-3")
    assert [member.role for member in SETTING.members] == ["dealer", "compute", "compute", "compute"]
    alone = Setting(Sampler.PER_PARTY, parties=2, dimension=1000, runs=2, crypten=False)
    assert alone.process_names == ("party-1", "party-2")
    assert (alone.noise.distribution, alone.noise.scale) == ("gaussian", 2**32)


def test_every_run_has_a_batch_of_its_own() -> None:
    assert SETTING.batches == {"warm-up": 64, "run-0": 1000, "run-1": 1000}


def test_deadlines_grow_with_the_work_and_contain_each_other() -> None:
    limits = SETTING.limits
    assert limits.connect_seconds <= limits.message_seconds <= limits.session_seconds
    assert limits.session_seconds >= (1 + SETTING.runs) * 2 * SETTING.run_seconds


@pytest.mark.parametrize(("parties", "dimension", "runs"), [(1, 10, 1), (6, 10, 1), (2, 0, 1), (2, 10, 0)], ids=str)
def test_numbers_out_of_range_are_refused(parties: int, dimension: int, runs: int) -> None:
    with pytest.raises(ValueError, match="2 to 5 parties and at least one sample"):
        Setting(Sampler.GAUSSIAN, parties, dimension, runs, crypten=False)


def test_crypten_has_no_per_party_noise() -> None:
    with pytest.raises(ValueError, match="no per-party noise"):
        Setting(Sampler.PER_PARTY, parties=2, dimension=10, runs=1, crypten=True)
