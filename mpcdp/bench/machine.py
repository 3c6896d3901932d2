"""Where figures were measured."""

import os
import platform
import shlex
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mpcdp import __version__

__all__ = ["typed_command", "where_measured"]

_LIBRARIES = ("crypten", "torch", "numpy", "grpcio", "protobuf", "cryptography")


def typed_command() -> str:
    """Return the command that this process was started with, as it was typed."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def where_measured(*others: str) -> dict[str, Any]:
    """Describe the command as it was typed, the machine and the versions, for ``--json``.

    Args:
        others: further libraries that count; those that are not installed are said to be "not installed".
    """
    return {
        "command": typed_command(),
        "machine": _machine(),
        "versions": {
            "mpcdp": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in _LIBRARIES},
            **{name: _version(name) for name in others},
        },
    }


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "not installed"


def _machine() -> dict[str, Any]:
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
        "system": platform.platform(),
        "load_average": os.getloadavg(),
    }


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text(encoding="utf-8").splitlines() if information.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
