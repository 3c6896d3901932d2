"""Environments that have an extra beside what mpcdp needs; Flower and the development tools want different versions."""

import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

__all__ = ["ROOT", "extra", "make_environment"]

ROOT = Path(__file__).parents[2]
_OF_THE_TOOLS = ("typer", "rich", "packaging", "click")
"""What constraints.txt pins for the development tools and Flower wants older; mpcdp's own ranges allow both."""


def extra(name: str) -> list[str]:
    """Return what an extra of this package requires."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    requirements: list[str] = project["optional-dependencies"][name]
    return requirements


def make_environment(folder: Path, *requirements: str) -> Path:
    """Install requirements into a new environment on top of this one; everything else keeps its version.

    Returns:
        The environment's Python.
    """
    _run(sys.executable, "-m", "venv", "--without-pip", str(folder / "environment"))
    python = folder / "environment" / "bin" / "python"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = folder / "environment" / "lib" / version / "site-packages"
    (packages / "zz-development.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    kept = [pin for pin in pins if pin.partition("==")[0].lower() not in _OF_THE_TOOLS]
    (folder / "constraints.txt").write_text("\n".join(kept) + "\n", encoding="utf-8")
    pip = (sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-compile")
    _run(*pip, "-c", str(folder / "constraints.txt"), *requirements)
    return python


def _run(*command: str) -> None:
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    assert result.returncode == 0, f"{command}\n{result.stdout[-2000:]}\n{result.stderr[-2000:]}"
