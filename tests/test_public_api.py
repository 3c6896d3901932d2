"""The public API is what API.md lists: names, and what they are in a sentence."""

import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

import mpcdp

API = (Path(__file__).parents[1] / "API.md").read_text(encoding="utf-8")
PUBLIC = re.findall(r"^## `(mpcdp[\w.]*)`$", API, re.MULTILINE)


def _listed(module: str) -> dict[str, str]:
    section = API.split(f"## `{module}`\n")[1].split("\n## ")[0]
    return dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", section, re.MULTILINE))


@pytest.mark.parametrize("module", PUBLIC)
def test_every_public_name_is_listed_with_its_first_sentence(module: str) -> None:
    found = importlib.import_module(module)
    expected = {}
    for name in found.__all__:
        if not (inspect.isclass(getattr(found, name)) or inspect.isroutine(getattr(found, name))):
            continue  # constants and types' names have no docstring of their own
        text = inspect.getdoc(getattr(found, name)) or ""
        expected[name] = " ".join(re.split(r"(?<=\.)\s|\n\n", text)[0].split())
    assert _listed(module) == expected, "\n".join(f"| `{name}` | {text} |" for name, text in expected.items())


def test_what_people_call_is_public() -> None:
    assert {"mpcdp.estimators", "mpcdp.errors", "mpcdp.task", "mpcdp.plan", "mpcdp.learning.export"} <= set(PUBLIC)


def test_every_module_says_what_it_offers() -> None:
    """Names without an entry in ``__all__`` are nobody's to call."""
    for info in pkgutil.walk_packages(mpcdp.__path__, "mpcdp."):
        if info.name.startswith("mpcdp.flower"):
            continue  # its environment is another: tests/flower
        if not info.name.startswith("mpcdp.pb") and "worker" not in info.name:
            source = inspect.getsource(importlib.import_module(info.name)) if "crypten" not in info.name else "__all__"
            public = re.search(
                r"^(def|class) [a-z A-Z]", re.sub(r"^(def|class) _\w+", "", source, flags=re.MULTILINE), re.M
            )
            assert public is None or "__all__" in source, f"{info.name} has no __all__"
