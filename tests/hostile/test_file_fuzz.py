"""Damaged files: each is read, or refused with one sentence for its user."""

import logging
import random
import resource
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mutations import mutate_text

from mpcdp.config import ComputePartyConfig, CoordinatorConfig, DealerConfig, OwnerConfig, load_config
from mpcdp.data.schema import load_schema
from mpcdp.data.table import read_dataset
from mpcdp.errors import InputError
from mpcdp.learning.model import PrivacyStatement, TrainedModel
from mpcdp.task import load_task

_COUNT = 10_000
_QUICK = 150
_PARTIES = Path(__file__).parents[2] / "parties"
_SCHEMA = b"""
[schema]
row_radius = 2.0
label = { column = "label", classes = ["no", "yes"] }
features = [
  { name = "age", lower = 0.0, upper = 120.0 },
  { name = "colour", categories = ["red", "green", "blue"] },
]
"""
_TABLE = b'age,colour,label\n30,red,no\n41.5,"green",yes\n-7,blue,no\n1e3,red,yes\n,violet,maybe\n'


def _read_config(path: Path, kind: type[Any]) -> None:
    load_config(path, kind)


def _read_table(path: Path) -> None:
    schema_path = path.with_name("schema.toml")
    schema_path.write_bytes(_SCHEMA)
    dataset = read_dataset(path, load_schema(schema_path))
    assert np.isfinite(dataset.features).all()
    assert (np.linalg.norm(dataset.features, axis=1) <= 1.0).all()
    assert set(dataset.labels) <= {-1.0, 1.0}


def _model() -> bytes:
    """Return a model file as a session writes it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.json"
        (Path(folder) / "schema.toml").write_bytes(_SCHEMA)
        TrainedModel(
            task="a task",
            task_digest=64 * "a",
            session=64 * "b",
            kind="logistic-regression",
            record_schema=load_schema(Path(folder) / "schema.toml"),
            coefficients=(0.5, -1e3, 0.0, 2.0**-40, 1.5),
            owners=("owner-1", "owner-2"),
            privacy=PrivacyStatement(epsilon=1.0, delta=1e-6, relation="replace one record", text="(1, 1e-6)-DP"),
        ).save(path)
        return path.read_bytes()


def _read_model(path: Path) -> None:
    """Load a model and use it: one that is accepted works, and can be saved again as it is."""
    model = TrainedModel.load(path)
    if model.module is not None or model.kind == "update":
        return  # the first imports what it names, the second is no model of records
    rows = np.eye(model.record_schema.dimension)
    with np.errstate(over="ignore"):
        assert not np.isnan(model.decision(rows)).any()
    model.save(path)
    assert TrainedModel.load(path) == model


_FILES: dict[str, tuple[bytes, Callable[[Path], object]]] = {
    **{
        name: ((_PARTIES / name).read_bytes(), load_task)
        for name in ("task.toml", "task-gradient.toml", "task-statistics.toml")
    },
    **{
        f"{role}.toml": (
            (_PARTIES / role / f"{role}.toml").read_bytes(),
            partial(_read_config, kind=kind),
        )
        for role, kind in (
            ("owner", OwnerConfig),
            ("compute", ComputePartyConfig),
            ("dealer", DealerConfig),
            ("coordinator", CoordinatorConfig),
        )
    },
    "schema.toml": (_SCHEMA, load_schema),
    "table.csv": (_TABLE, _read_table),
    "model.json": (_model(), _read_model),
}


def _check_sentence(text: str) -> None:
    assert text
    assert "Traceback" not in text
    assert len(text) < 3000, text


def _fuzz(folder: Path, count: int, seed: int) -> Counter[tuple[str, str]]:
    generator = random.Random(seed)  # noqa: S311 (a test's damage)
    ends: Counter[tuple[str, str]] = Counter()
    for name in generator.choices(list(_FILES), k=count):
        content, read = _FILES[name]
        path = folder / name
        damaged = mutate_text(content, generator)
        path.write_bytes(damaged)
        start = time.monotonic()
        try:
            read(path)
        except InputError as error:
            _check_sentence(str(error))
            ends[name, "refused"] += 1
        except BaseException as error:
            (folder / "culprit").write_bytes(damaged)
            raise AssertionError(f"{name} with {damaged!r}") from error
        else:
            ends[name, "read"] += 1
        assert time.monotonic() - start < 30.0, f"{name} takes too long: {damaged!r}"
    return ends


def test_the_files_are_good_before_they_are_damaged(tmp_path: Path) -> None:
    for name, (content, read) in _FILES.items():
        (tmp_path / name).write_bytes(content)
        read(tmp_path / name)


def test_damaged_files_are_refused_in_one_sentence(tmp_path: Path) -> None:
    ends = _fuzz(tmp_path, _QUICK, seed=1)
    assert {end for _, end in ends} == {"read", "refused"}


@pytest.mark.exhaustive
@pytest.mark.timeout(900)
def test_ten_thousand_damaged_files_are_refused_in_one_sentence(tmp_path: Path) -> None:
    _fuzz(tmp_path, 200, seed=2)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.monotonic()
    ends = _fuzz(tmp_path, _COUNT, seed=3)
    logging.getLogger(__name__).info("%s in %.1f s", ends, time.monotonic() - start)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10
    for name in _FILES:
        assert ends[name, "refused"], name
