"""What a process loads: owners of linear models need neither torch nor crypten, and keys never enter git."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GENERATORS = re.compile(
    r"\bnp\.random|numpy\.random|^\s*(import|from) random\b|torch\.rand|manual_seed|default_rng", re.MULTILINE
)
ROLES = "mpcdp.roles.owner, mpcdp.roles.coordinator, mpcdp.roles.dealer, mpcdp.roles.compute_party"
HEAVY = {"torch", "crypten", "sklearn", "pyarrow", "matplotlib", "pandas"}


@pytest.mark.parametrize(
    ("modules", "forbidden"),
    [
        ("mpcdp.task, mpcdp.plan, mpcdp.cli, mpcdp.cli.bench", HEAVY | {"grpc"}),
        (f"mpcdp.privacy.ledger, mpcdp.roles.process, {ROLES}", HEAVY),
        ("mpcdp.data.records, mpcdp.learning.export, mpcdp.report", HEAVY | {"grpc", "onnx", "jinja2"}),
        ("mpcdp", HEAVY | {"grpc", "numpy", "pydantic", "typer", "rich", "structlog"}),
    ],
)
def test_importing_does_not_load_heavy_libraries(modules: str, forbidden: set[str]) -> None:
    program = f"import sys, {modules}\nprint(*sys.modules)"
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not forbidden & set(output.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "forbidden"),
    [
        (["--help"], HEAVY | {"grpc", "numpy", "scipy", "structlog", "cryptography", "mpcdp.task", "mpcdp.roles"}),
        (["--version"], HEAVY | {"grpc", "numpy", "scipy", "structlog", "cryptography", "mpcdp.task", "rich.console"}),
        (["plan", "parties/task.toml", "--json"], HEAVY | {"grpc", "onnx", "jinja2"}),
        (["task", "schema"], HEAVY | {"grpc", "onnx", "jinja2"}),
    ],
)
def test_a_command_loads_what_it_needs_and_no_more(arguments: list[str], forbidden: set[str]) -> None:
    """What makes the command line answer at once: `--help` takes 0.35 s of a core, `import mpcdp` 0.05 s."""
    program = (
        "import sys, atexit, mpcdp.cli\n"
        "atexit.register(lambda: print(*sys.modules, file=sys.stderr))\n"
        f"sys.argv = ['mpcdp', *{arguments!r}]\nmpcdp.cli.main()"
    )
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not forbidden & set(output.stderr.split())


def test_no_secret_is_drawn_from_a_generator_with_a_small_seed() -> None:
    """numpy, torch and ``random`` generators appear nowhere but where the demo shuffles its table, where a module's
    first parameters, which are public, are drawn, and in studies of public tables, which protect nothing."""
    allowed = {ROOT / "mpcdp" / "cli" / "demo_table.py", ROOT / "mpcdp" / "learning" / "module_model.py"}
    allowed |= set((ROOT / "mpcdp" / "reproduce").rglob("*.py"))
    # Made-up vectors for other libraries, which import nothing of ours.
    allowed |= set((ROOT / "mpcdp" / "bench" / "peer_scripts").rglob("*.py"))
    for path in (ROOT / "mpcdp").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        found = GENERATORS.search(text)
        assert path in allowed or found is None, f"{path} uses {found and found[0]}"


def test_no_pickle_in_the_product() -> None:
    for path in (ROOT / "mpcdp").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        for module in ("import pickle", "torch.load", "torch.save", "import dill", "import marshal", "eval(", "exec("):
            assert module not in text, f"{path} uses {module}"


def test_keys_and_certificates_are_ignored_by_git(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)  # noqa: S607
    (tmp_path / ".gitignore").write_text((ROOT / ".gitignore").read_text())
    for name in ("a.key", "deep/er/b.pem", "c.crt"):
        found = subprocess.run(["git", "check-ignore", "-q", name], cwd=tmp_path, check=False)  # noqa: S607
        assert found.returncode == 0, name
