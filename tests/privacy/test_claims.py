"""The page of claims names tests that exist."""

import re
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_PAGE = (_ROOT / "mpcdp" / "privacy" / "README.md").read_text(encoding="utf-8")
_ROWS = [line for line in _PAGE.split("## Claims")[1].split("## Proofs")[0].splitlines() if line.startswith("| ")][1:]


@pytest.mark.parametrize("row", _ROWS, ids=lambda row: row.split("|")[1].strip())
def test_every_claim_has_its_tests(row: str) -> None:
    tests = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row.split("|")[-2])
    assert tests
    for path, name in tests:
        assert re.search(rf"^ *def {name}\(", (_ROOT / path).read_text(encoding="utf-8"), flags=re.MULTILINE), name
