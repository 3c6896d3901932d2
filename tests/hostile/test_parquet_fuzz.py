"""Damaged folders of Parquet files: each is read, or refused with one sentence that names the file."""

import logging
import random
import resource
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from mutations import mutate_file
from pyarrow import parquet

from mpcdp.data.records import ParquetRecords
from mpcdp.data.schema import Schema, load_schema
from mpcdp.errors import DataError

_COUNT = 6_000
_QUICK = 100
_SCHEMA = """
[schema]
row_radius = 2.0
label = { column = "label", classes = ["no", "yes"] }
features = [
  { name = "age", lower = 0.0, upper = 120.0 },
  { name = "colour", categories = ["red", "green", "blue"] },
]
"""
_ROWS = 40
_COLUMNS: dict[str, Sequence[Any]] = {
    "age": [float(number) for number in range(_ROWS)],
    "colour": [("red", "green", "blue", None)[number % 4] for number in range(_ROWS)],
    "label": [("no", "yes")[number % 2] for number in range(_ROWS)],
}


@pytest.fixture
def schema(tmp_path: Path) -> Schema:
    path = tmp_path / "schema.toml"
    path.write_text(_SCHEMA)
    return load_schema(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A table of two good files."""
    folder = tmp_path / "table"
    folder.mkdir()
    for name, options in (("a.parquet", {}), ("b.parquet", {"compression": "zstd", "use_dictionary": False})):
        parquet.write_table(pa.table(_COLUMNS), folder / name, row_group_size=16, **options)
    return folder


def _read(folder: Path, schema: Schema) -> int:
    """Go over all records, as training does, and return how many there are."""
    records = ParquetRecords(folder, schema)
    count = 0
    for block in records.blocks(7):
        count += block.record_count
        assert np.isfinite(block.features).all()
        assert (np.linalg.norm(block.features, axis=1) <= 1.0).all()
        assert set(block.labels) <= {-1.0, 1.0}
    assert count == records.record_count
    return count


def test_the_folder_is_good_before_it_is_damaged(folder: Path, schema: Schema) -> None:
    assert _read(folder, schema) == 2 * _ROWS


def _replaced(**columns: Any) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        parquet.write_table(pa.table({**_COLUMNS, **columns}), path)

    return write


def _without(name: str) -> Callable[[Path], None]:
    return lambda path: parquet.write_table(pa.table(_COLUMNS).drop_columns([name]), path)


def _with_two(name: str) -> Callable[[Path], None]:
    table = pa.table(_COLUMNS)
    return lambda path: parquet.write_table(table.append_column(name, table.column(name)), path)


def _cut(part: slice) -> Callable[[Path], None]:
    return lambda path: _ignore(path.write_bytes(path.read_bytes()[part]))


def _ignore(_: object) -> None:
    pass


_DAMAGES: dict[str, Callable[[Path], None]] = {
    "no bytes": lambda path: _ignore(path.write_bytes(b"")),
    "another format": lambda path: _ignore(path.write_bytes(b"age,colour,label\n30,red,no\n")),
    "only the first half": _cut(slice(0, 900)),
    "without its footer": _cut(slice(0, -8)),
    "without its beginning": _cut(slice(100, None)),
    "the magic bytes alone": lambda path: _ignore(path.write_bytes(b"PAR1" + bytes(4) + b"PAR1")),
    "a footer longer than the file": lambda path: _ignore(path.write_bytes(b"PAR1\xff\xff\xff\x7fPAR1")),
    "a missing feature": _without("age"),
    "a missing label": _without("label"),
    "a feature twice": _with_two("age"),
    "lists": _replaced(age=[[1.0]] * _ROWS),
    "structs": _replaced(colour=[{"red": 1}] * _ROWS),
}


@pytest.mark.parametrize("damage", _DAMAGES)
@pytest.mark.parametrize("name", ["a.parquet", "b.parquet"])
def test_a_bad_file_of_a_folder_is_named(folder: Path, schema: Schema, damage: str, name: str) -> None:
    _DAMAGES[damage](folder / name)
    with pytest.raises(DataError) as refused:
        _read(folder, schema)
    assert str(folder / name) in str(refused.value)
    assert "\n" not in str(refused.value)


def _check_sentence(text: str, path: Path) -> None:
    # What changes the number of records is a matter of the whole folder.
    assert str(path) in text or f"{path.parent}: its files changed while they were read" in text
    assert "\n" not in text


def _fuzz(folder: Path, schema: Schema, count: int, seed: int) -> Counter[str]:
    generator = random.Random(seed)  # noqa: S311 (a test's damage)
    good = {path: path.read_bytes() for path in sorted(folder.iterdir())}
    ends: Counter[str] = Counter()
    for _ in range(count):
        path = generator.choice(list(good))
        damaged = mutate_file(good[path], generator)
        path.write_bytes(damaged)
        start = time.monotonic()
        try:
            _read(folder, schema)
            ends["read"] += 1
        except DataError as error:
            ends["refused"] += 1
            _check_sentence(str(error), path)
        except BaseException as error:
            (folder.parent / "culprit").write_bytes(damaged)
            raise AssertionError(f"see {folder.parent / 'culprit'}") from error
        assert time.monotonic() - start < 30.0
        path.write_bytes(good[path])
    return ends


def test_damaged_bytes_are_refused_in_one_sentence(folder: Path, schema: Schema) -> None:
    ends = _fuzz(folder, schema, _QUICK, seed=1)
    assert ends["refused"] > 0


@pytest.mark.exhaustive
@pytest.mark.timeout(900)
def test_thousands_of_damaged_bytes_are_refused_in_one_sentence(folder: Path, schema: Schema) -> None:
    _fuzz(folder, schema, 100, seed=2)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.monotonic()
    ends = _fuzz(folder, schema, _COUNT, seed=3)
    logging.getLogger(__name__).info("%s in %.1f s", ends, time.monotonic() - start)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 256 << 10
    assert ends["refused"] > _COUNT / 10
