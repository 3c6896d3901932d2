"""Tables larger than memory: the same blocks, and so the same sums to the last bit, however files are cut."""

import resource
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from mpcdp.data.records import ParquetRecords, open_records
from mpcdp.data.schema import Schema
from mpcdp.data.table import read_dataset
from mpcdp.errors import DataError
from mpcdp.learning.gradient_perturbation import SAMPLING_STEPS, GradientPerturbation
from mpcdp.learning.linear import LinearModel, MarginResiduals
from mpcdp.learning.losses import LogisticLoss
from mpcdp.learning.method import Method, TrainingState
from mpcdp.learning.statistics import SufficientStatistics
from mpcdp.secret_sharing.fixed_point import Encoding
from mpcdp.secret_sharing.randomness import KeyStream

SCHEMA = Schema.model_validate(
    {
        "row_radius": 1.5,
        "label": {"column": "ill", "classes": ["no", "yes"]},
        "features": [
            {"name": "age", "lower": 0.0, "upper": 100.0},
            {"name": "score", "lower": -1.0, "upper": 1.0},
            {"name": "smoker", "categories": ["no", "yes"]},
        ],
    }
)
KEY = bytes(range(32))


def parquet_table(count: int, *, seed: int = 0) -> pa.Table:
    generator = np.random.default_rng(seed)
    score = generator.normal(size=count)
    score[::7] = np.nan
    return pa.table(
        {
            "age": generator.integers(-5, 130, size=count),
            "score": score,
            "smoker": generator.choice(["no", "yes", "?"], size=count),
            "ill": generator.choice(["no", "yes", ""], size=count, p=[0.45, 0.45, 0.1]),
        }
    )


def write_folder(folder: Path, table: pa.Table, cuts: list[int], row_group: int) -> Path:
    folder.mkdir()
    ends = sorted({0, *(min(cut, table.num_rows) for cut in cuts), table.num_rows})
    for number, (start, end) in enumerate(pairwise(ends)):
        parquet.write_table(table.slice(start, end - start), folder / f"{number:03}.parquet", row_group_size=row_group)
    return folder


def methods() -> list[tuple[Method, float]]:
    model = LinearModel(kind=MarginResiduals(LogisticLoss()), dimension=SCHEMA.dimension)
    full = GradientPerturbation(model=model, rounds=1, learning_rate=1.0, clipping_norm=0.3)
    sampled = GradientPerturbation(
        model=model,
        rounds=1,
        learning_rate=1.0,
        clipping_norm=0.3,
        sampling_rate=(SAMPLING_STEPS // 10) / SAMPLING_STEPS,
    )
    return [(full, 1e4), (sampled, 1e4), (SufficientStatistics(parameter_count=SCHEMA.dimension), 1e5)]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    count=st.integers(1, 5000),
    cuts=st.lists(st.integers(1, 5000), max_size=4),
    row_group=st.integers(1, 3000),
    seed=st.integers(0, 10),
)
def test_the_ring_vector_does_not_depend_on_how_a_table_is_cut(
    tmp_path_factory: pytest.TempPathFactory, count: int, cuts: list[int], row_group: int, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("table")
    table = parquet_table(count, seed=seed)
    parquet.write_table(table, folder / "whole.parquet")
    whole = read_dataset(folder / "whole.parquet", SCHEMA)
    parts = open_records(write_folder(folder / "parts", table, cuts, row_group), SCHEMA)
    assert isinstance(parts, ParquetRecords)
    assert (parts.record_count, parts.dimension, parts.class_count) == (count, SCHEMA.dimension, 2)
    point = np.linspace(-2, 2, SCHEMA.dimension)
    state = TrainingState(round_index=0, point=point, model=point)
    for method, bound in methods():
        one, other = (method.contribution(records, state, key=KEY) for records in (whole, parts))
        np.testing.assert_array_equal(one, other)
        encoding = Encoding(scale=2.0**30, bound=bound)
        np.testing.assert_array_equal(encoding.encode(one), encoding.encode(other))


def test_a_sample_goes_on_from_block_to_block(tmp_path: Path) -> None:
    """One word of one keystream per record: the blocks of a table do not repeat each other's draw."""
    parquet.write_table(parquet_table(2500), tmp_path / "t.parquet")
    whole = read_dataset(tmp_path / "t.parquet", SCHEMA)
    _, (method, _), _ = methods()
    assert isinstance(method, GradientPerturbation)
    words = KeyStream(KEY).words(2500).view(np.uint64) >> np.uint64(32)
    drawn = whole.select(words < np.uint64(round(method.sampling_rate * SAMPLING_STEPS)))
    assert 150 < drawn.record_count < 350
    point = np.linspace(-2, 2, SCHEMA.dimension)
    state = TrainingState(round_index=0, point=point, model=point)
    expected = method.model.clipped_sum(drawn, point, clipping_norm=method.clipping_norm)
    np.testing.assert_allclose(method.contribution(whole, state, key=KEY), expected, rtol=1e-12)


def test_blocks_are_defined_by_row_numbers_alone(tmp_path: Path) -> None:
    table = parquet_table(1000)
    records = ParquetRecords(write_folder(tmp_path / "parts", table, [1, 2, 500, 731], 64), SCHEMA)
    whole = records.in_memory()
    blocks = list(records.blocks(300))
    assert [block.record_count for block in blocks] == [300, 300, 300, 100]
    np.testing.assert_array_equal(np.concatenate([block.features for block in blocks]), whole.features)
    np.testing.assert_array_equal(np.concatenate([block.labels for block in blocks]), whole.labels)
    for mine, theirs in zip(blocks, whole.blocks(300), strict=True):
        np.testing.assert_array_equal(mine.features, theirs.features)


def test_a_sum_over_the_whole_table_at_once_would_differ(tmp_path: Path) -> None:
    """What the blocks are for: without them, the last bits depend on how rows are grouped."""
    features = read_dataset(write_folder(tmp_path / "parts", parquet_table(5000), [], 5000), SCHEMA).features
    groups = [sum(features[start : start + size].sum(axis=0) for start in range(0, 5000, size)) for size in (300, 512)]
    assert not np.array_equal(*groups)


def test_numbers_mean_what_their_text_means(tmp_path: Path) -> None:
    """Doubles and integers are not turned into text first; all other types are."""
    cells = [0.1, 1e300, -0.0, 2.0**53 + 2, float("inf"), 33.3]
    columns = {
        "double": pa.array(cells),
        "text": pa.array([repr(cell) for cell in cells]),
        "whole": pa.array([0, 2**53 + 1, -(2**63), None, 5, 99], type=pa.int64()),
        "whole_text": pa.array(["0", str(2**53 + 1), str(-(2**63)), None, "5", "99"]),
        "single": pa.array(cells, type=pa.float32()),
        "single_text": pa.array(cells, type=pa.float32()).cast(pa.string()),
        "ill": ["no"] * 6,
    }
    parquet.write_table(pa.table(columns), tmp_path / "t.parquet")
    features = [{"name": name, "lower": -50.0, "upper": 40.0} for name in columns if name != "ill"]
    schema = Schema.model_validate(
        {"label": {"column": "ill", "classes": ["no", "yes"]}, "features": features, "row_radius": 9.0}
    )
    rows = read_dataset(tmp_path / "t.parquet", schema).features
    for left in (0, 2, 4):
        np.testing.assert_array_equal(rows[:, left], rows[:, left + 1])


def test_a_folder_that_is_no_table_is_refused_before_a_session(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"there is no \.parquet file"):
        open_records(tmp_path / "empty", SCHEMA)
    none = write_folder(tmp_path / "none", parquet_table(5), [], 5)
    parquet.write_table(parquet_table(5).slice(0, 0), none / "000.parquet")
    with pytest.raises(DataError, match="hold no records"):
        open_records(none, SCHEMA)
    mixed = write_folder(tmp_path / "mixed", parquet_table(20), [10], 5)
    parquet.write_table(parquet_table(10).drop_columns(["age"]), mixed / "001.parquet")
    with pytest.raises(DataError, match="no column 'age'"):
        open_records(mixed, SCHEMA)
    (mixed / "001.parquet").write_bytes(b"not parquet")
    with pytest.raises(DataError, match="cannot be read"):
        open_records(mixed, SCHEMA)


def test_files_that_change_under_a_session_are_noticed(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "parts", parquet_table(100), [50], 10)
    records = ParquetRecords(folder, SCHEMA)
    parquet.write_table(parquet_table(40), folder / "001.parquet")
    with pytest.raises(DataError, match="changed while they were read"):
        list(records.blocks(30))


_MEASURE = """
import resource, sys
from pathlib import Path
import numpy as np
from mpcdp.data.records import open_records
from mpcdp.data.schema import Schema
from mpcdp.learning.statistics import SufficientStatistics
from mpcdp.learning.linear import LinearModel, MarginResiduals
from mpcdp.learning.losses import LogisticLoss
schema = Schema.model_validate({
    "label": {"column": "y", "classes": ["0", "1"]},
    "features": [{"name": f"x{i}", "lower": -3.0, "upper": 3.0} for i in range(39)],
})
model = LinearModel(kind=MarginResiduals(LogisticLoss()), dimension=schema.dimension)
def run(path):
    records = open_records(Path(path), schema)
    total = model.clipped_sum(records, np.zeros(schema.dimension), clipping_norm=0.3)
    SufficientStatistics(parameter_count=schema.dimension).contribution(records, None, key=b"")
    return records.record_count
run(sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
count = run(sys.argv[2])
print(count, before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_memory_stays_below_a_tenth_of_a_table(tmp_path: Path) -> None:
    """320 MiB of rows, in row groups of a few MiB, pass through a process that grows by less than 32 MiB."""
    generator = np.random.default_rng(0)
    rows_per_file, files, limit = 2**16, 16, 32 * 2**20
    for name, count in (("small", 1), ("large", files)):
        (tmp_path / name).mkdir()
        for number in range(count):
            numbers = {f"x{i}": generator.normal(size=rows_per_file) for i in range(39)}
            columns = {**numbers, "y": generator.integers(0, 2, size=rows_per_file)}
            parquet.write_table(pa.table(columns), tmp_path / name / f"{number:02}.parquet", row_group_size=2**13)
    assert rows_per_file * files * 40 * 8 >= 10 * limit
    output = subprocess.run(
        [sys.executable, "-c", _MEASURE, str(tmp_path / "small"), str(tmp_path / "large")],
        capture_output=True,
        text=True,
        check=True,
    )
    count, before, after = map(int, output.stdout.split())
    assert count == rows_per_file * files
    assert (after - before) * 1024 < limit, f"grew by {(after - before) / 1024:.0f} MiB"
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 > limit  # the figure is measured at all
