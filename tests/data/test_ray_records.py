"""A folder of Parquet files gone over by Ray: the same ring vector, and words for what does not go."""

import os
import secrets
import subprocess
from pathlib import Path

import pytest
import tomli_w
from extra_environment import ROOT, extra, make_environment
from networks import task_document
from pydantic import ValidationError
from test_records import SCHEMA, parquet_table, write_folder

from mpcdp.config import DataConfig
from mpcdp.errors import ConfigError
from mpcdp.roles.owner import check_table
from mpcdp.task import Task, load_task

RECORDS = 300_000
RAY = DataConfig(engine="ray", address="auto")


def _task(folder: Path, records: int) -> Task:
    document = task_document([records], method={"kind": "statistics"})
    document["model"] = {"kind": "ridge-regression"}
    document["schema"] = SCHEMA.model_dump(mode="json", exclude_none=True)
    (folder / "task.toml").write_bytes(tomli_w.dumps(document).encode())
    return load_task(folder / "task.toml")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_rays_workers_give_the_same_ring_vector(tmp_path: Path) -> None:
    python = make_environment(tmp_path, *extra("ray"))
    _task(tmp_path, RECORDS)
    write_folder(tmp_path / "table", parquet_table(RECORDS), [1000, 120_000, 120_001], 7000)
    # Ray listens to other machines; this keeps them out.
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    folders = os.pathsep.join(str(ROOT / path) for path in (".", "tests/data"))
    result = subprocess.run(
        [python, ROOT / "tests" / "data" / "ray_rounds.py", tmp_path],
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
        env={**os.environ, **token, "PYTHONPATH": folders},
    )
    assert result.returncode == 0, result.stderr[-4000:]
    *compared, last = result.stdout.splitlines()
    assert compared == [
        "GradientPerturbation same",  # of all records
        "GradientPerturbation same",  # of a sample
        "SufficientStatistics same",
        "GradientPerturbation same",  # of a module
    ]
    assert "a Ray worker failed" in last


def test_without_ray_the_error_says_what_to_install(tmp_path: Path) -> None:
    task = _task(tmp_path, 10)
    folder = write_folder(tmp_path / "table", parquet_table(10), [], 10)
    with pytest.raises(ConfigError, match=r'"ray" needs Ray: pip install "mpcdp\[ray\]"'):
        check_table(task, "owner-1", folder, RAY)


def test_what_ray_does_not_compute_is_refused(tmp_path: Path) -> None:
    task = _task(tmp_path, 10)
    with pytest.raises(ConfigError, match=r"table\.csv is none"):
        check_table(task, "owner-1", tmp_path / "table.csv", RAY)
    document = task_document([10])
    document["schema"] = SCHEMA.model_dump(mode="json", exclude_none=True)
    (tmp_path / "other.toml").write_bytes(tomli_w.dumps(document).encode())
    with pytest.raises(ConfigError, match="trains on all at once"):
        check_table(load_task(tmp_path / "other.toml"), "owner-1", tmp_path, RAY)


@pytest.mark.parametrize("wrong", [{"engine": "ray"}, {"address": "auto"}, {"engine": "spark", "address": "auto"}])
def test_a_cluster_is_named_and_never_started(wrong: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        DataConfig.model_validate(wrong)
