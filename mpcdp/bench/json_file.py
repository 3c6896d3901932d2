"""What the processes of a benchmark hand to each other: dataclasses of plain values, in files."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self, cast

from pydantic import TypeAdapter

__all__ = ["JsonFile"]


class JsonFile:
    """A dataclass that is written to a file by one process and read by another."""

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(json.dumps(asdict(cast(Any, self))), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote."""
        return TypeAdapter(cls).validate_python(json.loads(path.read_text(encoding="utf-8")))
