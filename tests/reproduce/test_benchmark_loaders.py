"""Loaders of the public tables: from files like the real ones, from scikit-learn's fetchers, and what they refuse."""

import gzip
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mpcdp.errors import DataError
from mpcdp.reproduce.tables import TABLES, adult, kddcup99, load_table
from mpcdp.reproduce.tables.california_housing import load_california_housing
from mpcdp.reproduce.tables.kddcup98 import load_kddcup98


def _write(path: Path, lines: list[str]) -> None:
    path.write_bytes(gzip.compress("\n".join(lines).encode()))


def _connections(count: int) -> list[str]:
    rng = np.random.default_rng(0)
    numbers = rng.integers(0, 9, (count, 38))
    labels = np.where(rng.random(count) < 0.2, "normal.", "smurf.")
    return [
        f"{row[0]},tcp,{'http' if row[1] > 4 else 'smtp'},SF,{','.join(map(str, row[1:]))},{label}"
        for row, label in zip(numbers, labels, strict=True)
    ]


@pytest.fixture(name="short")
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kddcup99, "_TRAINING", 50)
    monkeypatch.setattr(kddcup99, "_TEST", 20)
    monkeypatch.setattr(adult, "_TRAINING", 40)


@pytest.mark.usefixtures("short")
def test_kddcup99_is_the_same_from_a_file_and_from_the_fetcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = _connections(90)
    _write(tmp_path / "kddcup99-10percent.csv.gz", lines)
    table = load_table("kddcup99", tmp_path)
    assert (table.training.record_count, table.test.record_count) == (50, 20)
    assert table.training.dimension == 38 + 1 + 2 + 1 + 1
    assert 0 < np.mean(table.training.labels == 1) < 0.5
    assert table.source == "kddcup99-10percent.csv.gz"

    def fetch(*, percent10: bool) -> SimpleNamespace:
        assert percent10
        cells = [line.split(",") for line in lines]
        texts = [[c.encode() if i in (1, 2, 3) else int(c) for i, c in enumerate(row[:-1])] for row in cells]
        return SimpleNamespace(data=np.array(texts, dtype=object), target=np.array([r[-1].encode() for r in cells]))

    monkeypatch.setattr("sklearn.datasets.fetch_kddcup99", fetch)
    fetched = load_table("kddcup99", None)
    np.testing.assert_array_equal(fetched.training.features, table.training.features)
    np.testing.assert_array_equal(fetched.test.labels, table.test.labels)


def _persons(count: int, ending: str = "") -> list[str]:
    jobs = ["Private", "?", "State-gov"]
    return [
        f"{20 + i % 50}, {jobs[i % 3]}, 77516, Bachelors, 13, Divorced, Sales, Husband, White, Male, {i % 7}, 0, 40, "
        f"Cuba, {'>50K' if i % 4 == 0 else '<=50K'}{ending}"
        for i in range(count)
    ]


@pytest.mark.usefixtures("short")
def test_adult_has_its_own_test_records(tmp_path: Path) -> None:
    _write(tmp_path / "adult-train.csv.gz", [*_persons(40), ""])
    _write(tmp_path / "adult-test.csv.gz", ["|1x3 Cross validator", *_persons(15, ending=".")])
    table = load_table("adult", tmp_path)
    assert (table.training.record_count, table.test.record_count) == (40, 15)
    assert table.training.dimension == 6 + 2 + 7 * 1 + 1
    assert np.mean(table.test.labels == 1) == pytest.approx(4 / 15)
    _write(tmp_path / "adult-train.csv.gz", _persons(39))
    with pytest.raises(DataError, match="39 records of 15 cells, not 40"):
        load_table("adult", tmp_path)


@pytest.mark.usefixtures("short")
def test_adult_from_the_fetcher_is_split_at_random(monkeypatch: pytest.MonkeyPatch) -> None:
    import pandas as pd

    rows = [[cell.strip() for cell in line.split(",")] for line in _persons(60)]
    frame = pd.DataFrame(rows, columns=[*adult._COLUMNS, "class"]).replace("?", np.nan)
    asked: list[Any] = []

    def fetch(name: str, *, version: int, as_frame: bool) -> SimpleNamespace:
        asked.append((name, version, as_frame))
        return SimpleNamespace(frame=frame)

    monkeypatch.setattr("sklearn.datasets.fetch_openml", fetch)
    table = load_table("adult", None)
    assert asked == [("adult", 2, True)]
    assert (table.training.record_count, table.test.record_count) == (40, 20)
    assert "workclass=?" not in table.schema.feature_names


def test_california_housing_from_the_fetcher_has_the_files_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["MedInc", "HouseAge", "AveRooms", "AveBedrms", "Population", "AveOccup", "Latitude", "Longitude"]
    one = np.array([8.3252, 41.0, 880 / 126, 129 / 126, 322.0, 322 / 126, 37.88, -122.23])
    fetched = SimpleNamespace(feature_names=names, data=np.tile(one, (16_600, 1)), target=np.full(16_600, 4.526))
    monkeypatch.setattr("sklearn.datasets.fetch_california_housing", lambda: fetched)
    table = load_california_housing(None)
    assert (table.training.record_count, table.training.dimension) == (16_512, 9)
    row = dict(zip(table.header, map(float, table.rows[0]), strict=True))
    assert row["total_rooms"] == pytest.approx(880)
    assert row["total_bedrooms"] == pytest.approx(129)
    assert row["households"] == pytest.approx(126)
    assert row["median_house_value"] == pytest.approx(452_600)
    assert table.regression


def test_a_users_kddcup98_is_read(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    header = "CONTROLN,AGE,STATE,INCOME,ZIP,TARGET_B,TARGET_D"
    states, incomes = rng.choice(["CA", "TX", " "], 120), rng.choice(["", "1", "7"], 120)
    lines = [f"{i},{rng.integers(20, 90)},{states[i]},{incomes[i]},{10_000 + i}-,0,{i % 30}" for i in range(120)]
    (tmp_path / "cup98LRN.txt").write_text("\n".join([header, *lines]), encoding="latin-1")
    table = load_kddcup98(tmp_path, training=90, test=30)
    assert (table.training.record_count, table.test.record_count) == (90, 30)
    # Age, income and two states; ZIP codes are all different, the number and the other target are left out. The states
    # are not collinear, as a third one is blank.
    assert table.training.dimension == 4 + 1
    assert table.regression
    norms = np.linalg.norm(table.training.features, axis=1)
    assert 0.5 < np.median(norms) <= 1
    dollars = table.schema.label.unscale(table.training.labels)
    assert dollars.min() >= 0
    assert dollars.max() == pytest.approx(29, abs=1.01)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    for name in TABLES:
        with pytest.raises(DataError, match="--data"):
            load_table(name, tmp_path)
    (tmp_path / "cup98LRN.txt").write_text("AGE,STATE\n1,CA\n")
    with pytest.raises(DataError, match="no column TARGET_D"):
        load_table("kddcup98", tmp_path)
    _write(tmp_path / "kddcup99-10percent.csv.gz", _connections(90))
    with pytest.raises(DataError, match="more than 50000 are needed"):
        load_table("kddcup99", tmp_path)
