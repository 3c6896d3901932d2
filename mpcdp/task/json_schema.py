"""The JSON Schema of ``task.toml``, for editors; made from the models that read it."""

from typing import Any

from mpcdp.task.task import Task

__all__ = ["task_json_schema"]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_FILLED_IN = {"Participant": "certificate", "Owner": "certificate", "SessionRules": "minimum_owners"}
"""What reading fills in where a task leaves it out, so that a file need not have it."""


def task_json_schema() -> dict[str, Any]:
    """Return the schema. A file that fits it may still contradict itself; reading it finds that."""
    schema = Task.model_json_schema(by_alias=True, mode="validation")
    _leave_out(schema, "session")
    for name, field in _FILLED_IN.items():
        _leave_out(schema["$defs"][name], field)
    return {"$schema": _DIALECT, **schema, "title": "mpcdp task"}


def _leave_out(schema: dict[str, Any], field: str) -> None:
    """Make a field optional."""
    schema["required"] = [name for name in schema["required"] if name != field]
