"""The JSON Schema of task files: what reads a task is what an editor checks."""

import json
import tomllib
from pathlib import Path
from typing import Any

import fastjsonschema
import pytest

from mpcdp.task import Task
from mpcdp.task.json_schema import task_json_schema

ROOT = Path(__file__).parents[1]
SAMPLES = sorted((ROOT / "parties").glob("task*.toml"))
SCHEMA = task_json_schema()
CHECK = fastjsonschema.compile({**SCHEMA, "$schema": "http://json-schema.org/draft-07/schema#"})


def _fits(content: dict[str, Any]) -> bool:
    try:
        CHECK(content)
    except fastjsonschema.JsonSchemaValueException:
        return False
    return True


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.name)
def test_samples_fit(sample: Path) -> None:
    content = tomllib.loads(sample.read_text(encoding="utf-8"))
    Task.model_validate(content)
    assert _fits(content)


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("privacy", "epsilon", -1.0),
        ("privacy", "epsilonn", 1.0),
        ("privacy", "noise", "none"),
        ("model", "kind", "linear"),
        ("task", "version", 2),
        ("session", "minimum_owners", 0),
        ("method", "sampling_rate", 1.5),
        ("model", "loss", "hinge"),
    ],
)
def test_what_reading_refuses_in_a_section_does_not_fit(section: str, key: str, value: Any) -> None:
    content = tomllib.loads(SAMPLES[0].read_text(encoding="utf-8"))
    content[section][key] = value
    with pytest.raises(ValueError, match=key):
        Task.model_validate(content)
    assert not _fits(content), f"{section}.{key} = {value!r} fits the schema"


@pytest.mark.parametrize("path", [("privacy", "epsilon"), ("model",), ("owners",), ("task", "name")])
def test_what_is_required_is_required(path: tuple[str, ...]) -> None:
    content = tomllib.loads(SAMPLES[0].read_text(encoding="utf-8"))
    parent = content
    for name in path[:-1]:
        parent = parent[name]
    del parent[path[-1]]
    with pytest.raises(ValueError, match=path[-1]):
        Task.model_validate(content)
    assert not _fits(content)


@pytest.mark.parametrize("path", [("session",), ("deadlines",), ("coordinator", "certificate")])
def test_what_is_filled_in_may_be_left_out(path: tuple[str, ...]) -> None:
    content = tomllib.loads(SAMPLES[0].read_text(encoding="utf-8"))
    parent = content
    for name in path[:-1]:
        parent = parent[name]
    del parent[path[-1]]
    Task.model_validate(content)
    assert _fits(content)


def test_every_key_is_explained_in_the_sections() -> None:
    """Editors show the descriptions: each section has one."""
    sections = [name for name in SCHEMA["$defs"] if name not in ("Participant",)]
    assert all(SCHEMA["$defs"][name].get("description") for name in sections)
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA
