"""A release: wheel and sdist are built, installed into an empty environment, and work there."""

import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
_SMOKE = """
import json, sys, pathlib
import mpcdp
from mpcdp.plan import make_plan
from mpcdp.task import load_task
from mpcdp.simulation import simulate
assert not str(pathlib.Path(mpcdp.__file__)).startswith(sys.argv[2]), mpcdp.__file__
plan = make_plan(load_task(pathlib.Path(sys.argv[1])))
print(json.dumps({"version": mpcdp.__version__, "epsilon": plan.cost.epsilon}))
"""
_FIT = """
import numpy as np
from mpcdp.estimators import Federation, PrivateLogisticRegression
if __name__ == "__main__":
    X = np.random.default_rng(0).normal(size=(400, 3)); y = (X[:, 0] > 0).astype(int)
    federation = Federation.local(parties=2, noise="per-party")
    model = PrivateLogisticRegression(epsilon=5.0, delta=1e-6, bounds=(-3, 3), classes=(0, 1),
        federation=federation, method="output-perturbation", regularization=0.05)
    model.fit(X, y, owners=np.arange(400) % 2)
    print(federation.ledger.total.epsilon, len(model.predict(X)), *model.owners_)
"""


def _run(*command: str | Path, cwd: Path) -> str:
    # Without PYTHONPATH: what is installed is used, not this checkout.
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(cwd), "PIP_CACHE_DIR": _cache()}
    result = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
        env=_with_pip(environment),
    )
    assert result.returncode == 0, f"{command}\n{result.stdout[-3000:]}\n{result.stderr[-3000:]}"
    return result.stdout


def _pip(*arguments: str | Path, cwd: Path, into: Path | None = None) -> None:
    where = () if into is None else ("--python", into)
    _run(sys.executable, "-m", "pip", *where, "install", "--quiet", "--no-compile", *arguments, cwd=cwd)


def _cache() -> str:
    return subprocess.run(
        [sys.executable, "-m", "pip", "cache", "dir"], capture_output=True, text=True, check=True
    ).stdout.strip()


def _with_pip(environment: dict[str, str]) -> dict[str, str]:
    import os

    return {**{name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_"))}, **environment}


def _build(folder: Path) -> tuple[Path, Path]:
    """Build from a copy of what git knows, so that nothing else slips in."""
    source = folder / "source"
    source.mkdir()
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, capture_output=True, check=True)  # noqa: S607
    subprocess.run(["tar", "-x", "-C", str(source)], input=archive.stdout, check=True)  # noqa: S607
    program = "import setuptools.build_meta as b; to = sys.argv[1]; b.build_sdist(to); b.build_wheel(to)"
    _pip("--target", folder / "builder", "setuptools>=77", cwd=folder)
    _run(sys.executable, "-c", f"import sys; sys.path.insert(0, '{folder / 'builder'}'); {program}", folder, cwd=source)
    return next(folder.glob("*.whl")), next(folder.glob("*.tar.gz"))


@pytest.mark.exhaustive
@pytest.mark.timeout(1800)
def test_wheel_and_sdist_install_into_an_empty_environment_and_work(tmp_path: Path) -> None:
    wheel, sdist = _build(tmp_path)
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {"mpcdp/py.typed", "mpcdp/report/page.html", "parties/owner/__main__.py"} <= set(names)
    assert not any(name.startswith(("tests/", "deploy/")) for name in names)
    with tarfile.open(sdist) as archive_:
        inside = {name.partition("/")[2] for name in archive_.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "mpcdp/report/page.html"} <= inside
    environment = tmp_path / "environment"
    _run(sys.executable, "-m", "venv", "--without-pip", environment, cwd=tmp_path)
    binaries = environment / "bin"
    _pip("-c", ROOT / "constraints.txt", wheel, cwd=tmp_path, into=environment)
    _run(sys.executable, "-m", "pip", "--python", environment, "check", cwd=tmp_path)
    assert '"epsilon": 1.0' in _run(
        binaries / "python", "-c", _SMOKE, ROOT / "parties" / "task.toml", str(ROOT), cwd=tmp_path
    )
    assert re.fullmatch(r"mpcdp [0-9.]+\n", _run(binaries / "mpcdp", "--version", cwd=tmp_path))
    assert "Example: mpcdp run net" in _run(binaries / "mpcdp", "run", "--help", cwd=tmp_path)
    (tmp_path / "fit.py").write_text(_FIT)
    assert _run(binaries / "python", "fit.py", cwd=tmp_path) == "5.0 400 owner-0 owner-1\n"
    # The sdist gives the same package.
    _pip("--no-deps", "--force-reinstall", sdist, cwd=tmp_path, into=environment)
    assert "mpcdp" in _run(binaries / "mpcdp", "--version", cwd=tmp_path)
