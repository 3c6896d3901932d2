"""What is in deploy/, read for the tests."""

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from mpcdp.config import ComputePartyConfig, Config, CoordinatorConfig, DealerConfig, OwnerConfig
from mpcdp.transport.access import CALLERS, HEALTH, REACH
from mpcdp.transport.channel import Role

__all__ = [
    "CONFIGS",
    "DEPLOY",
    "ROOT",
    "callers_and_called",
    "code_blocks",
    "compose",
    "guide",
    "section",
    "table",
    "tool",
]

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
CONFIGS: Mapping[Role, type[Config]] = {
    "owner": OwnerConfig,
    "compute": ComputePartyConfig,
    "dealer": DealerConfig,
    "coordinator": CoordinatorConfig,
}


def tool(name: str) -> str:
    """Return the path of a program; the test is skipped where it is not installed."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def callers_and_called() -> set[tuple[Role, Role]]:
    """Return which role calls which, by the table that the servers go by."""
    return {
        (caller, called)
        for (called, method), callers in CALLERS.items()
        if method not in (REACH, HEALTH)
        for caller in callers
    }


def guide() -> str:
    """Return the guide."""
    return (DEPLOY / "README.md").read_text(encoding="utf-8")


def section(number: int) -> str:
    """Return a numbered section of the guide."""
    found = re.search(rf"^## {number}\. .*?(?=^## |\Z)", guide(), re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[0]


def code_blocks(text: str, language: str) -> list[str]:
    """Return the code blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def table(text: str) -> list[list[str]]:
    """Return the cells of a text's first table, without its head."""
    found = re.search(r"(?:^\|.*\n?)+", text, re.MULTILINE)
    assert found is not None
    lines = [line.strip("|").split("|") for line in found[0].splitlines()]
    return [[cell.strip() for cell in line] for line in lines[2:]]


def compose(environment: Mapping[str, str]) -> dict[str, Any]:
    """Read compose.yaml with its variables filled in.

    Raises:
        KeyError: a variable without a default is not given.
    """

    def value(match: "re.Match[str]") -> str:
        name, default = match[1], match[2]
        return environment[name] if default is None else environment.get(name, default)

    text = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    lines = (
        line if line.startswith("#") else re.sub(r"\$\{(\w+)(?::-([^}]*)|:\?[^}]*)?\}", value, line)
        for line in text.splitlines()
    )
    content: dict[str, Any] = yaml.safe_load(os.linesep.join(lines))
    return content
