"""Every example of the README is one that works."""

import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from mpcdp.cli.command_table import COMMANDS, load_command
from mpcdp.data.schema import load_schema
from mpcdp.plan import make_plan
from mpcdp.privacy.attacks import success_bound
from mpcdp.task import load_task

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
# Tested elsewhere: the release test installs; the other two are this test run and tests/cli/test_commands.py.
ELSEWHERE = ("python3 -m venv", ". .venv/bin/activate", "pip install", "make demo", "make test")
TOUR = README[README.index("## Five minutes") : README.index("## What it proves")]


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the file it stands for (if any), and its text."""

    language: str
    file: str
    text: str


def _blocks(text: str) -> list[Block]:
    found = re.findall(r"^```(\w+) ?(\S*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [Block(*block) for block in found]


def _commands(text: str) -> list[str]:
    lines = (line for block in _blocks(text) if block.language == "console" for line in block.text.splitlines())
    return [line.removeprefix("$ ").split("  #")[0].strip() for line in lines if line.startswith("$ ")]


def test_the_two_commands_come_first() -> None:
    assert _commands(README)[:2] == ["make demo", "make test"]
    assert README.index("## Two commands") < README.index("## Five minutes")


@pytest.mark.parametrize("line", [line for line in _commands(README) if line.startswith("mpcdp ")])
def test_every_command_line_is_one_that_is_taken(line: str) -> None:
    words = shlex.split(line)[1:]
    command = load_command(words.pop(0))
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known
    positional = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    values = [
        word
        for number, word in enumerate(words)
        if not word.startswith("--") and (number == 0 or not words[number - 1].startswith("--"))
    ]
    assert len([each for each in positional if each.required]) <= len(values) <= len(positional), line


def test_every_other_command_line_is_tested_elsewhere() -> None:
    rest = [line for line in _commands(README) if not line.startswith(("mpcdp ", "cp "))]
    assert all(line.startswith(ELSEWHERE) for line in rest), rest


def test_every_command_is_mentioned() -> None:
    for name in COMMANDS:
        assert f"mpcdp {name}" in README, f"README.md does not mention mpcdp {name}"


def test_files_in_the_text_are_what_they_claim(tmp_path: Path) -> None:
    files = {block.file: block.text for block in _blocks(README) if block.file}
    assert set(files) == {"schema.toml", "task.toml"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
        tomllib.loads(text)
    assert load_schema(tmp_path / "schema.toml").dimension == 5
    assert not make_plan(load_task(tmp_path / "task.toml")).warnings()


def test_messages_in_the_list_of_what_goes_wrong_are_those_of_the_code() -> None:
    section = README[README.index("### What goes wrong") : README.index("Every command has")]
    quoted = re.findall(r"^\| `(.+?)` \|", section, re.MULTILINE)
    assert len(quoted) >= 8
    source = " ".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "mpcdp").rglob("*.py")))
    joined = re.sub(r'"\s*f?"', "", source)  # texts that go on in the next line
    for message in quoted:
        for part in re.split(r" ?\.\.\. ?|'\w+'", message):
            assert part in joined, f"no error says {part!r}"


def test_python_compiles() -> None:
    blocks = [block for block in _blocks(README) if block.language == "python"]
    assert blocks
    for block in blocks:
        compile(block.text, "README.md", "exec")


def test_the_table_of_epsilons_has_the_bound() -> None:
    rows = [line for line in README.splitlines() if line.startswith(("| epsilon |", "| right guesses"))]
    epsilons, shares = ([cell.strip() for cell in row.strip("|").split("|")][1:] for row in rows)
    for epsilon, share in zip(epsilons, shares, strict=True):
        exact = 100 * success_bound(epsilon=float(epsilon), delta=1e-6)
        shown = float(share.removesuffix(" %"))
        assert exact <= shown <= exact + 0.1, f"epsilon {epsilon}: {exact}"


def _write_tables(folder: Path) -> None:
    generator = np.random.default_rng(0)
    count = 800
    age, size = generator.uniform(20, 90, count), generator.uniform(0, 60, count)
    history = generator.choice(["no", "yes"], count)
    ill = size / 60 + age / 180 + 0.3 * (history == "yes") + generator.normal(0, 0.2, count) > 0.95
    lines = [
        f"hospital-{1 + number % 3},{age[number]:.1f},{size[number]:.1f},{history[number]},"
        + ("malignant" if ill[number] else "benign")
        for number in range(count)
    ]
    header = "hospital,age,tumour_size,family_history,diagnosis"
    for name, part in {
        "patients": lines,
        "new-patients": lines[:20],
        "hospital-1": lines[:300],
        "hospital-2": lines[300:500],
    }.items():
        (folder / f"{name}.csv").write_text("\n".join([header, *part]) + "\n")


@pytest.mark.exhaustive
def test_the_tour_runs_from_start_to_end(tmp_path: Path) -> None:
    _write_tables(tmp_path)
    for block in _blocks(TOUR):
        if block.file:
            (tmp_path / block.file).write_text(block.text)
        elif block.language == "python":
            output = _run([sys.executable, "-c", block.text], tmp_path)
            assert "(epsilon, delta)-differentially private" in output
            assert "1 sessions" in output
        for line in _commands(f"```console\n{block.text}```\n") if block.language == "console" else ():
            if not line.startswith(ELSEWHERE):
                words = shlex.split(line)
                _run(
                    [str(Path(sys.executable).with_name("mpcdp")), *words[1:]] if words[0] == "mpcdp" else words,
                    tmp_path,
                )
    for made in ("report.html", "report-1.html", "model.onnx", "net/hospital-2/state/model.json"):
        assert (tmp_path / made).stat().st_size > 0


def _run(command: list[str], folder: Path) -> str:
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=280)
    assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
    return result.stdout
