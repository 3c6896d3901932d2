"""What a check says."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["Finding", "error", "fine", "warning"]


@dataclass(frozen=True)
class Finding:
    """The outcome of one check.

    Args:
        check: what was looked at.
        level: an error keeps the process from its session; a warning may.
        text: what was found; never anything that depends on a record.
        cure: what to do about it; empty when there is nothing to do, or when the text says it.
    """

    check: str
    level: Literal["ok", "warning", "error"]
    text: str
    cure: str = ""


def fine(check: str, text: str) -> Finding:
    """Report that all is well."""
    return Finding(check, "ok", text)


def warning(check: str, text: str, cure: str) -> Finding:
    """Report what may go wrong."""
    return Finding(check, "warning", text, cure)


def error(check: str, text: str | Exception, cure: str = "") -> Finding:
    """Report what will go wrong; the package's own errors bring their cure along."""
    return Finding(check, "error", str(text), cure)
