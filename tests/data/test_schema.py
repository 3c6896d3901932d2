"""The public schema: what it accepts, what it derives, and which mistakes it names."""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from mpcdp.data.schema import DIMENSION_LIMIT, CategoricalFeature, NumericFeature, Schema, load_schema
from mpcdp.errors import DataError

EXAMPLE = """
[schema]
row_radius = 4.0

[schema.label]
column = "diagnosis"
classes = ["benign", "malignant"]

[[schema.features]]
name = "age"
lower = 0
upper = 120

[[schema.features]]
name = "smoker"
categories = ["no", "yes"]
"""

CONTENT: dict[str, Any] = {
    "row_radius": 4.0,
    "label": {"column": "diagnosis", "classes": ["benign", "malignant"]},
    "features": [{"name": "age", "lower": 0, "upper": 120}, {"name": "smoker", "categories": ["no", "yes"]}],
}


def test_reads_a_toml_file(tmp_path: Path) -> None:
    file = tmp_path / "schema.toml"
    file.write_text(EXAMPLE)
    schema = load_schema(file)
    assert schema == Schema.model_validate(CONTENT)
    assert schema.features == (
        NumericFeature(name="age", lower=0.0, upper=120.0),
        CategoricalFeature(name="smoker", categories=("no", "yes")),
    )
    assert schema.label.classes == ("benign", "malignant")


def test_dimension_counts_numbers_categories_and_the_bias() -> None:
    schema = Schema.model_validate(CONTENT)
    assert schema.dimension == 1 + 2 + 1
    assert schema.feature_names == ("age", "smoker=no", "smoker=yes", "(bias)")


def test_row_radius_is_one_unless_given() -> None:
    content = deepcopy(CONTENT)
    del content["row_radius"]
    assert Schema.model_validate(content).row_radius == 1.0


def test_survives_dumping_and_is_the_same_for_whole_and_decimal_numbers() -> None:
    schema = Schema.model_validate(CONTENT)
    assert Schema.model_validate(schema.model_dump()) == schema
    assert Schema.model_validate_json(schema.model_dump_json()) == schema
    decimal = deepcopy(CONTENT)
    decimal["features"][0].update(lower=0.0, upper=120.0)
    assert Schema.model_validate(decimal).model_dump_json() == schema.model_dump_json()


def with_label(**label: Any) -> Schema:
    return Schema.model_validate({**CONTENT, "label": {"column": "y", **label}})


def test_the_kind_of_label_follows_from_its_classes_or_bounds() -> None:
    assert (Schema.model_validate(CONTENT).label.kind, Schema.model_validate(CONTENT).label.class_count) == (
        "binary",
        2,
    )
    several, number = with_label(classes=["a", "b", "c"]), with_label(lower=-1, upper=3)
    assert (several.label.kind, several.label.class_count) == ("multi-class", 3)
    assert (number.label.kind, number.label.class_count, number.label.bounds) == ("number", 0, (-1.0, 3.0))
    for schema in (several, number):
        assert Schema.model_validate(schema.model_dump()) == schema
        assert Schema.model_validate_json(schema.model_dump_json()) == schema


def test_a_label_is_written_down_as_it_was_declared() -> None:
    for label in ({"column": "y", "classes": ["a", "b"]}, {"column": "y", "lower": 0.0, "upper": 2.5}):
        dumped = Schema.model_validate({**CONTENT, "label": label}).model_dump(mode="json")
        assert dumped["label"] == label


def test_predicted_numbers_are_mapped_back_into_the_bounds() -> None:
    label = with_label(lower=-1, upper=3).label
    np.testing.assert_array_equal(
        label.unscale(np.array([-1.0, 0.0, 0.5, 1.0, 1.7, -np.inf])), [-1.0, 1.0, 2.0, 3.0, 3.0, -1.0]
    )


def test_a_class_has_no_bounds() -> None:
    with pytest.raises(ValueError, match="'diagnosis' is a class"):
        Schema.model_validate(CONTENT).label.unscale(np.zeros(1))


def test_cannot_be_changed() -> None:
    schema = Schema.model_validate(CONTENT)
    with pytest.raises(ValidationError, match="frozen"):
        schema.row_radius = 2.0


MISTAKES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "unknown key": (lambda c: c.update(colour="red"), "colour"),
    "unknown key in a feature": (lambda c: c["features"][0].update(unit="years"), "unit"),
    "both kinds at once": (lambda c: c["features"][0].update(categories=["a"]), "lower"),
    "no kind": (lambda c: c["features"].append({"name": "x"}), "lower"),
    "bounds in the wrong order": (lambda c: c["features"][0].update(lower=121), "lower has to be below upper"),
    "equal bounds": (lambda c: c["features"][0].update(lower=120), "lower has to be below upper"),
    "infinite bound": (lambda c: c["features"][0].update(upper=float("inf")), "both finite"),
    "bound that is not a number": (lambda c: c["features"][0].update(lower=float("nan")), "both finite"),
    "interval beyond double precision": (lambda c: c["features"][0].update(lower=-1e308, upper=1e308), "both finite"),
    "bound as text": (lambda c: c["features"][0].update(lower="0"), "valid number"),
    "bound as boolean": (lambda c: c["features"][0].update(lower=False), "valid number"),
    "no category": (lambda c: c["features"][1].update(categories=[]), "at least one category"),
    "category twice": (lambda c: c["features"][1].update(categories=["a", "a"]), "named once only"),
    "category that is a number": (lambda c: c["features"][1].update(categories=[1, 2]), "valid string"),
    "category no stripped cell can equal": (lambda c: c["features"][1].update(categories=["a "]), "ends with a space"),
    "categories in one text": (lambda c: c["features"][1].update(categories="ab"), "valid tuple"),
    "categories without an order": (lambda c: c["features"][1].update(categories={"a", "b"}), "valid tuple"),
    "one class": (lambda c: c["label"].update(classes=["a"]), "at least two classes"),
    "no class": (lambda c: c["label"].update(classes=[]), "either classes, or both lower and upper"),
    "classes and bounds": (lambda c: c["label"].update(lower=0, upper=1), "either classes, or both lower and upper"),
    "classes and one bound": (lambda c: c["label"].update(lower=0), "either classes, or both lower and upper"),
    "label with one bound": (
        lambda c: c.update(label={"column": "y", "upper": 1}),
        "either classes, or both lower and upper",
    ),
    "label with bounds in the wrong order": (
        lambda c: c.update(label={"column": "y", "lower": 1, "upper": 1}),
        "label's lower has to be below upper",
    ),
    "label with an infinite bound": (
        lambda c: c.update(label={"column": "y", "lower": 0, "upper": float("inf")}),
        "both finite",
    ),
    "label with a bound that is not a number": (
        lambda c: c.update(label={"column": "y", "lower": float("nan"), "upper": 1}),
        "both finite",
    ),
    "equal classes": (lambda c: c["label"].update(classes=["a", "a"]), "named once only"),
    "label among the features": (lambda c: c["label"].update(column="age"), "also a feature"),
    "feature twice": (lambda c: c["features"].append(c["features"][0]), "named once only"),
    "no features": (lambda c: c.update(features=[]), "at least one feature"),
    "column without a name": (lambda c: c["label"].update(column=""), "is empty"),
    "radius zero": (lambda c: c.update(row_radius=0.0), "row_radius"),
    "radius infinite": (lambda c: c.update(row_radius=float("inf")), "row_radius"),
    "label missing": (lambda c: c.pop("label"), "Field required"),
    "too many coordinates": (
        lambda c: c["features"][1].update(categories=[str(i) for i in range(DIMENSION_LIMIT)]),
        "coordinates",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_refuses(mistake: str) -> None:
    content = deepcopy(CONTENT)
    spoil, hint = MISTAKES[mistake]
    spoil(content)
    with pytest.raises(ValidationError, match=hint):
        Schema.model_validate(content)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("not toml", "give a readable TOML file"),
        ("[other]\n", r"no \[schema\] table"),
        (EXAMPLE.replace("lower = 0", "lower = 200"), "schema.features.0.numeric: .*lower has to be below upper"),
        (EXAMPLE.replace("row_radius", "radius"), "schema.radius: Extra inputs"),
    ],
)
def test_a_faulty_file_is_refused_by_name_and_field(tmp_path: Path, text: str, hint: str) -> None:
    file = tmp_path / "schema.toml"
    file.write_text(text)
    with pytest.raises(DataError, match=hint) as caught:
        load_schema(file)
    assert "schema.toml" in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        load_schema(tmp_path / "schema.toml")
