"""From a table's cells to rows: the rule for each cell, hostile cells, and what is refused before joining."""

import csv
import gzip
import io
import subprocess
import sys
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pyarrow import parquet

from mpcdp.data import text_columns
from mpcdp.data.dataset import Dataset
from mpcdp.data.schema import Schema
from mpcdp.data.table import read_dataset, read_features
from mpcdp.data.text_columns import _cells
from mpcdp.errors import DataError

RADIUS = 4.0
SCHEMA = Schema.model_validate(
    {
        "row_radius": RADIUS,
        "label": {"column": "diagnosis", "classes": ["benign", "malignant"]},
        "features": [
            {"name": "age", "lower": 0, "upper": 120},
            {"name": "smoker", "categories": ["no", "yes"]},
            {"name": "mean.radius", "lower": -1, "upper": 3},
        ],
    }
)
HEADER = ["age", "smoker", "mean.radius", "diagnosis"]
GOOD = ["30", "no", "1", "benign"]
PLAIN = ",".join(HEADER) + "\n"


@pytest.fixture(scope="module", name="folder")
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of all examples that Hypothesis makes: each writes its own table over the last one."""
    return tmp_path_factory.mktemp("examples")


def write_csv(path: Path, records: list[list[str]], header: list[str] = HEADER) -> Path:
    text = io.StringIO()
    one_line = [[cell.replace("\n", " ") for cell in record] for record in records]  # in CSV, a record is one line
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows([header, *one_line])
    content = text.getvalue().encode("utf-8")
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def write_parquet(path: Path, records: list[list[str]], header: list[str] = HEADER) -> Path:
    columns: list[Any] = [pa.array([record[i] for record in records], pa.string()) for i in range(len(header))]
    parquet.write_table(pa.Table.from_arrays(columns, names=header), path)
    return path


def scaled_rows(dataset: Dataset) -> NDArray[np.float64]:
    """Undo the division by the radius."""
    return dataset.features * RADIUS


def one_row(tmp_path: Path, **cells: str) -> tuple[list[float], float]:
    """Read a record beside a good one, which keeps every column as a whole sensible."""
    record = [cells.get(name.replace(".", "_"), good) for name, good in zip(HEADER, GOOD, strict=True)]
    dataset = read_dataset(write_csv(tmp_path / "t.csv", [GOOD, record]), SCHEMA)
    return scaled_rows(dataset)[1].tolist(), float(dataset.labels[1])


def test_a_good_record_is_scaled_and_gets_a_bias(tmp_path: Path) -> None:
    assert one_row(tmp_path) == ([-0.5, 1.0, 0.0, 0.0, 1.0], -1.0)


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("0", -1.0),
        ("120", 1.0),
        ("60", 0.0),
        ("90", 0.5),
        (" 9e1 ", 0.5),
        ("+90.0", 0.5),
        ("-5", -1.0),
        ("1e300", 1.0),
        ("-1e300", -1.0),
        ("", 0.0),
        ("?", 0.0),
        ("ninety", 0.0),
        ("nan", 0.0),
        ("inf", 0.0),
        ("-Infinity", 0.0),
        ("1e999", 0.0),
        ("9" * 5000, 0.0),
        ("0x1F", 0.0),
        ("90,0", 0.0),
    ],
)
def test_numeric_cells(tmp_path: Path, cell: str, value: float) -> None:
    assert one_row(tmp_path, age=cell)[0] == [value, 1.0, 0.0, 0.0, 1.0]


@pytest.mark.parametrize(
    ("cell", "coordinates"),
    [
        ("no", [1.0, 0.0]),
        (" yes\t", [0.0, 1.0]),
        ("Yes", [0.0, 0.0]),
        ("", [0.0, 0.0]),
        ("maybe", [0.0, 0.0]),
        ("no,yes", [0.0, 0.0]),
    ],
)
def test_categorical_cells(tmp_path: Path, cell: str, coordinates: list[float]) -> None:
    assert one_row(tmp_path, smoker=cell)[0] == [-0.5, *coordinates, 0.0, 1.0]


def test_the_second_class_is_positive(tmp_path: Path) -> None:
    assert one_row(tmp_path, diagnosis="malignant") == ([-0.5, 1.0, 0.0, 0.0, 1.0], 1.0)


@pytest.mark.parametrize("cell", ["", "?", "Benign", "benign; malignant"])
def test_a_record_without_a_class_counts_and_contributes_nothing(tmp_path: Path, cell: str) -> None:
    assert one_row(tmp_path, diagnosis=cell) == ([0.0] * 5, 1.0)


def other_label(tmp_path: Path, label: dict[str, Any], cells: list[str]) -> Dataset:
    """Read good records that differ in their label's cell alone."""
    schema = Schema.model_validate({**SCHEMA.model_dump(), "label": {"column": "diagnosis", **label}})
    return read_dataset(write_csv(tmp_path / "t.csv", [[*GOOD[:3], cell] for cell in cells]), schema)


def test_one_of_several_classes_is_its_position(tmp_path: Path) -> None:
    dataset = other_label(tmp_path, {"classes": ["low", "middle", "high"]}, ["high", " low ", "High", "middle", ""])
    assert dataset.class_count == 3
    np.testing.assert_array_equal(dataset.labels, [2.0, 0.0, 0.0, 1.0, 0.0])
    np.testing.assert_array_equal(np.any(dataset.features != 0, axis=1), [True, True, False, True, False])


def test_a_number_to_predict_is_clipped_and_scaled(tmp_path: Path) -> None:
    cells = ["0", "500", " 125 ", "-7", "1e300", "", "many", "nan", "inf", "1e999"]
    dataset = other_label(tmp_path, {"lower": 0, "upper": 500}, cells)
    assert dataset.class_count == 0
    np.testing.assert_array_equal(dataset.labels, [-1.0, 1.0, -0.5, -1.0, 1.0, *[0.0] * 5])
    np.testing.assert_array_equal(np.any(dataset.features != 0, axis=1), [True] * 5 + [False] * 5)


@given(st.floats(), st.floats(-1e300, 1e300), st.floats(-1e300, 1e300))
@settings(max_examples=100)
def test_a_number_to_predict_never_leaves_its_bounds(folder: Path, number: float, first: float, second: float) -> None:
    lower, upper = min(first, second), max(first, second)
    assume(lower < upper)
    dataset = other_label(folder, {"lower": lower, "upper": upper}, [repr(number), repr(upper)])
    assert abs(dataset.labels[0]) <= 1
    assert dataset.labels[1] == 1


def test_long_rows_are_clipped_to_the_unit_ball(tmp_path: Path) -> None:
    schema = SCHEMA.model_copy(update={"row_radius": 1.0})
    dataset = read_dataset(write_csv(tmp_path / "t.csv", [["0", "no", "3", "benign"]]), schema)
    np.testing.assert_allclose(dataset.features, [[-0.5, 0.5, 0.0, 0.5, 0.5]], rtol=1e-9)


# --- no cell's value can make an owner fail, or reach another record's row -------------------------------------------

hostile_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.sampled_from(
    [
        "",
        '"',
        '""',
        ",",
        "\n",
        "\r\n",
        "\r",
        "\x00",
        "nan",
        "-inf",
        "1e999",
        "yes",
        "malignant",
        "120",
        "'",
        "#",
        "\ufeff",
    ]
)
hostile_records = st.lists(hostile_texts, min_size=4, max_size=4)
ORDINARY = [["30", "no", "1", "benign"], ["70", "yes", "2.5", "malignant"], ["55", "yes", "0.125", "benign"]]


@given(hostile_records)
@settings(max_examples=150)
def test_hostile_cells_never_raise_and_change_no_other_row(folder: Path, record: list[str]) -> None:
    base = read_dataset(write_csv(folder / "base.csv", ORDINARY), SCHEMA)
    tables = [[*ORDINARY[:index], record, *ORDINARY[index + 1 :]] for index in range(3)]
    for index, table in enumerate(tables):
        dataset = read_dataset(write_csv(folder / "t.csv", table), SCHEMA)
        assert dataset.record_count == 3
        others = [i for i in range(3) if i != index]
        np.testing.assert_array_equal(dataset.features[others], base.features[others])
        np.testing.assert_array_equal(dataset.labels[others], base.labels[others])
        assert sum(Fraction(x) ** 2 for x in dataset.features[index].tolist()) <= 1
    # The same record gives the same row wherever it stands, and from Parquet as from CSV.
    first = read_dataset(write_csv(folder / "t.csv", tables[0]), SCHEMA)
    last = read_dataset(write_parquet(folder / "t.parquet", tables[2]), SCHEMA)
    np.testing.assert_array_equal(first.features[0], last.features[2])
    assert first.labels[0] == last.labels[2]


lines_of_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"), max_size=30) | st.text(
    st.sampled_from('",\r\x00 1nobeig'), max_size=30
)


@given(
    st.sampled_from([".csv", ".csv.gz"]),
    lines_of_text | st.sampled_from(['"30,no,1,benign', '30,no,1,"benign', '30,"no"",1,benign', "30,no", "1,2,3,4,5"]),
)
@settings(max_examples=300)
def test_any_line_never_raises_and_changes_its_own_row_only(folder: Path, suffix: str, line: str) -> None:
    path = folder / f"t{suffix}"
    lines = [",".join(record) for record in ORDINARY]
    base = read_dataset(write_csv(path, ORDINARY), SCHEMA)
    for index in range(3):
        content = "\n".join([",".join(HEADER), *lines[:index], line, *lines[index + 1 :], ""]).encode()
        path.write_bytes(gzip.compress(content) if suffix == ".csv.gz" else content)
        dataset = read_dataset(path, SCHEMA)
        assert dataset.record_count == 3
        others = [i for i in range(3) if i != index]
        np.testing.assert_array_equal(dataset.features[others], base.features[others])
        np.testing.assert_array_equal(dataset.labels[others], base.labels[others])


@given(st.binary(max_size=30).filter(lambda line: b"\n" not in line))
@settings(max_examples=200)
def test_any_bytes_change_their_own_row_only(folder: Path, line: bytes) -> None:
    path = folder / "t.csv"
    path.write_bytes(PLAIN.encode() + line + b"\n70,yes,2.5,malignant\n")
    dataset = read_dataset(path, SCHEMA)
    np.testing.assert_allclose(scaled_rows(dataset)[1], [1 / 6, 0.0, 1.0, 0.75, 1.0])
    assert dataset.record_count == 2


@pytest.mark.parametrize("size", [3, 5000])
def test_malformed_lines_are_records_of_zeros_wherever_they_stand(
    tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_columns, "_BATCH_SIZE", 4)
    path = tmp_path / "t.csv"
    lines = ["30,no,1,benign"] * size
    for index, line in ((0, "30,no,1"), (size // 2, ""), (size - 1, "30,no,1,benign,5")):
        lines[index] = line
    path.write_text(PLAIN + "\n".join(lines) + "\n")
    dataset = read_dataset(path, SCHEMA)
    zero = ~dataset.features.any(axis=1)
    assert np.flatnonzero(zero).tolist() == [0, size // 2, size - 1]
    assert dataset.record_count == size
    np.testing.assert_array_equal(dataset.labels[zero], 1.0)
    np.testing.assert_array_equal(read_features(path, SCHEMA), dataset.features)


def test_a_column_that_fits_nowhere_is_read(tmp_path: Path) -> None:
    """One cell decides whether there is such a column, so it must not decide whether an owner joins."""
    dataset = read_dataset(write_csv(tmp_path / "t.csv", [["?", "maybe", "-", "benign"]] * 2), SCHEMA)
    np.testing.assert_array_equal(scaled_rows(dataset), [[0.0, 0.0, 0.0, 0.0, 1.0]] * 2)
    nothing = read_dataset(write_csv(tmp_path / "t.csv", [["30", "no", "1", "?"]]), SCHEMA)
    assert not nothing.features.any()


@given(st.lists(hostile_records, min_size=1, max_size=8))
@settings(max_examples=50)
def test_csv_and_parquet_give_the_same_dataset(folder: Path, records: list[list[str]]) -> None:
    table = [*ORDINARY, *records]
    datasets = [
        read_dataset(write_csv(folder / "t.csv", table), SCHEMA),
        read_dataset(write_csv(folder / "t.csv.gz", table), SCHEMA),
        read_dataset(write_parquet(folder / "t.parquet", table), SCHEMA),
    ]
    for dataset in datasets[1:]:
        np.testing.assert_array_equal(dataset.features, datasets[0].features)
        np.testing.assert_array_equal(dataset.labels, datasets[0].labels)


@given(hostile_records)
@settings(max_examples=50)
def test_prediction_accepts_what_no_training_table_could_be(folder: Path, record: list[str]) -> None:
    path = write_csv(folder / "t.csv", [record])
    assert read_features(path, SCHEMA).shape == (1, SCHEMA.dimension)


def test_bytes_that_are_not_utf8_and_giant_cells_pass(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    giant = b"9" * 3_000_000
    path.write_bytes(
        b"age,smoker,mean.radius,diagnosis\n30,no,1,benign\n\xff\xfe,\x80,1,benign\n" + giant + b",no,1,benign\n"
    )
    rows = scaled_rows(read_dataset(path, SCHEMA))
    np.testing.assert_array_equal(rows[1], [0.0, 0.0, 0.0, 0.0, 1.0])
    np.testing.assert_array_equal(rows[2], [0.0, 1.0, 0.0, 0.0, 1.0])


def test_prediction_reads_the_rows_that_training_reads_and_needs_no_label(tmp_path: Path) -> None:
    dataset = read_dataset(write_csv(tmp_path / "train.csv", ORDINARY), SCHEMA)
    unlabelled = [record[:3] for record in ORDINARY]
    rows = read_features(write_csv(tmp_path / "predict.csv", unlabelled, HEADER[:3]), SCHEMA)
    np.testing.assert_array_equal(rows, dataset.features)


def test_a_table_of_one_column_keeps_its_empty_cells(tmp_path: Path) -> None:
    schema = Schema.model_validate(
        {"label": {"column": "y", "classes": ["a", "b"]}, "features": [{"name": "x", "lower": -1, "upper": 1}]}
    )
    path = tmp_path / "t.csv"
    path.write_text("x\n1\n\n-1\n")
    np.testing.assert_array_equal(np.sign(read_features(path, schema)[:, 0]), [1.0, 0.0, -1.0])


# --- files as people write them --------------------------------------------------------------------------------------


def test_column_order_extra_columns_line_ends_and_byte_order_marks_do_not_matter(tmp_path: Path) -> None:
    expected = read_dataset(write_csv(tmp_path / "t.csv", ORDINARY), SCHEMA)
    path = tmp_path / "other.csv"
    lines = ["note, diagnosis ,mean.radius,age,smoker"]
    lines += [f'"a, ""b"" \r c",{d},{r},{a},{s}' for a, s, r, d in ORDINARY]
    for end in ("\n", "\r\n"):
        for last in ("", end):
            path.write_bytes(("\ufeff" + end.join(lines) + last).encode())
            dataset = read_dataset(path, SCHEMA)
            np.testing.assert_array_equal(dataset.features, expected.features)
            np.testing.assert_array_equal(dataset.labels, expected.labels)


@pytest.mark.parametrize(
    ("line", "cells"),
    [
        ("", [""]),
        (",", ["", ""]),
        ('"a,b",c', ["a,b", "c"]),
        ('"a ""b"" c",""', ['a "b" c', ""]),
        ('a"b,c""d', ['a"b', 'c""d']),
        ('"a"b,c', ["ab", "c"]),
        ('a,"b,c', ["a", "b,c"]),
        ('"', [""]),
        ('a,"""b', ["a", '"b']),
    ],
)
def test_a_line_s_cells(line: str, cells: list[str]) -> None:
    assert _cells(line + "\n") == cells


@given(st.text(st.sampled_from('",ab ;\t\x0b\u2028'), max_size=12))
@settings(max_examples=300)
def test_a_line_s_cells_are_those_of_the_standard_library(line: str) -> None:
    if line:  # the standard library sees no cell in an empty line
        assert [_cells(line)] == list(csv.reader([line]))


@pytest.mark.parametrize(
    ("ages", "smokers"),
    [
        (pa.array([30, 70, 55], pa.int8()), pa.array(["no", "yes", "yes"]).dictionary_encode()),
        (pa.array([30.0, 70.0, 55.0], pa.float32()), pa.array([b"no", b"yes", b"yes"])),
        (pa.array([30.0, 70.0, 55.0]), pa.array(["no", "yes", "yes"], pa.large_string())),
        (pa.array([Decimal("30.00"), Decimal("70.00"), Decimal("55.00")]), pa.array(["no", "yes", "yes"])),
        (pa.array(["30", "70", "55"], pa.string_view()), pa.array([b"no", b"yes", b"yes"], pa.large_binary())),
    ],
)
def test_parquet_column_types_do_not_matter(tmp_path: Path, ages: Any, smokers: Any) -> None:
    expected = read_dataset(write_csv(tmp_path / "t.csv", ORDINARY), SCHEMA)
    table = pa.table(
        {
            "diagnosis": ["benign", "malignant", "benign"],
            "nested": [[1], [2], [3]],
            "age": ages,
            "smoker": smokers,
            "mean.radius": [1.0, 2.5, 0.125],
        }
    )
    parquet.write_table(table, tmp_path / "t.parquet")
    np.testing.assert_array_equal(read_dataset(tmp_path / "t.parquet", SCHEMA).features, expected.features)


@given(st.lists(st.floats(width=64), min_size=1, max_size=20))
@settings(max_examples=50)
def test_numbers_in_parquet_are_read_to_the_last_bit(folder: Path, numbers: list[float]) -> None:
    schema = Schema.model_validate(
        {
            "label": {"column": "y", "classes": ["a", "b"]},
            "features": [{"name": "x", "lower": -1e300, "upper": 1e300}],
        }
    )
    parquet.write_table(pa.table({"x": pa.array(numbers)}), folder / "t.parquet")
    write_csv(folder / "t.csv", [[repr(number)] for number in numbers], ["x"])
    np.testing.assert_array_equal(read_features(folder / "t.parquet", schema), read_features(folder / "t.csv", schema))


def test_empty_cells_of_parquet_are_missing_values(tmp_path: Path) -> None:
    table = pa.table(
        {"age": [30, None], "smoker": ["no", None], "mean.radius": [1.0, None], "diagnosis": ["benign", "malignant"]}
    )
    parquet.write_table(table, tmp_path / "t.parquet")
    np.testing.assert_array_equal(
        scaled_rows(read_dataset(tmp_path / "t.parquet", SCHEMA)),
        [[-0.5, 1.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0, 1.0]],
    )


# --- what is refused before joining ----------------------------------------------------------------------------------

PRIVATE = "31.4159"


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        (PLAIN.replace("age", "years") + f"{PRIVATE},no,1,benign\n", "no column 'age'"),
        (PLAIN.replace(",diagnosis", "") + f"{PRIVATE},no,1\n", "no column 'diagnosis'"),
        (PLAIN.replace("smoker", "age") + f"{PRIVATE},no,1,benign\n", "'age' occurs 2 times"),
        (f"{PRIVATE},no,1,benign\n", "no column 'age'; the first line names every column"),
        ("", "no column"),
        (PLAIN, "at least one record is needed"),
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_a_faulty_csv_is_refused_and_never_quoted(tmp_path: Path, text: str, hint: str, suffix: str) -> None:
    path = tmp_path / f"t{suffix}"
    path.write_bytes(gzip.compress(text.encode()) if suffix == ".csv.gz" else text.encode())
    with pytest.raises(DataError, match=hint) as caught:
        read_dataset(path, SCHEMA)
    assert PRIVATE not in str(caught.value)
    assert "t.csv" in str(caught.value)


@pytest.mark.parametrize(
    ("column", "hint"),
    [
        (pa.array([[30], [70]]), "column 'age' has the type list"),
        (pa.array([0, 1], pa.timestamp("s")), "column 'age' has the type timestamp"),
    ],
)
def test_a_parquet_column_of_the_wrong_type_is_refused(tmp_path: Path, column: Any, hint: str) -> None:
    table = pa.table(
        {"age": column, "smoker": ["no", "no"], "mean.radius": [1, 1], "diagnosis": ["benign", "malignant"]}
    )
    parquet.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(DataError, match=hint):
        read_dataset(tmp_path / "t.parquet", SCHEMA)


def test_faulty_parquet_headers_and_empty_tables_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    write_parquet(path, [], HEADER)
    with pytest.raises(DataError, match="at least one record"):
        read_dataset(path, SCHEMA)
    write_parquet(path, [GOOD], ["age", "smoker", "mean.radius", "outcome"])
    with pytest.raises(DataError, match="no column 'diagnosis'"):
        read_dataset(path, SCHEMA)
    write_parquet(path, [[*GOOD, "1"]], [*HEADER, "age"])
    with pytest.raises(DataError, match="'age' occurs 2 times"):
        read_dataset(path, SCHEMA)


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.parquet"])
def test_an_unreadable_file_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_dataset(tmp_path / name, SCHEMA)
    (tmp_path / name).write_bytes(b"\x00\x01 not a table \xff")
    with pytest.raises(DataError, match=name):
        read_dataset(tmp_path / name, SCHEMA)


def test_an_unknown_kind_of_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.xlsx").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"end in \.csv, \.csv\.gz or \.parquet"):
        read_dataset(tmp_path / "t.xlsx", SCHEMA)


def test_importing_the_data_and_learning_rooms_is_light() -> None:
    heavy = ("torch", "crypten", "sklearn", "pandas", "pyarrow", "matplotlib", "scipy")
    code = (
        "import sys, mpcdp.data.table, mpcdp.learning.output_perturbation\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout.strip() == "[]"
