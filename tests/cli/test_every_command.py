"""What holds for every command of the app, those that come later included."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import Done, mpcdp
from typer.testing import CliRunner

from mpcdp.cli import application
from mpcdp.cli.command_table import COMMANDS, load_command
from mpcdp.errors import TaskError

ROOT = Path(__file__).parents[2]
RUNNER = CliRunner()
NO_JSON = {
    "predict": "its output is a CSV table",
    "health": "its exit code is its answer",
    "reproduce figures": "it writes results.json",
    "reproduce frontier": "it writes results.json",
    "reproduce report": "it writes a page, from what is JSON already",
    "noise discard": "it asks before it destroys; its output is one sentence",
}
LONG_WORK = {
    *("demo", "run", "simulate", "noise fill", "reproduce figures", "reproduce frontier"),
    *("bench noise", "bench rounds", "bench check", "bench protocol"),
}


def _walk(path: tuple[str, ...], command: Any) -> Iterator[tuple[str, Any]]:
    children = getattr(command, "commands", None)
    if not children:
        yield " ".join(path), command
        return
    for name, child in children.items():
        yield from _walk((*path, name), child)


ALL = dict(each for name in COMMANDS for each in _walk((name,), load_command(name)))


@pytest.mark.parametrize("name", ALL)
def test_help_explains_and_gives_an_example(name: str) -> None:
    result = RUNNER.invoke(application(), [*name.split(), "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    example = re.search(r"Example: (mpcdp .*)", ALL[name].help)
    assert example, f"mpcdp {name}: its docstring has no line 'Example: mpcdp ...'"
    assert example[1].startswith(f"mpcdp {name}")
    assert "Example: mpcdp" in result.output
    undocumented = [each.name for each in ALL[name].params if each.name != "help" and not each.help]
    assert not undocumented, f"mpcdp {name}: options without help: {undocumented}"


@pytest.mark.parametrize("name", ALL)
def test_the_example_is_one_that_the_command_takes(name: str) -> None:
    """Its options exist: the example is parsed, and not run."""
    example = re.search(rf"Example: mpcdp {name} ?(.*)", ALL[name].help)
    assert example is not None
    known = {option for parameter in ALL[name].params for option in parameter.opts}
    assert {word for word in example[1].split() if word.startswith("--")} <= known


@pytest.mark.parametrize("name", ALL)
def test_figures_are_there_for_programs_too(name: str) -> None:
    options = {option for parameter in ALL[name].params for option in parameter.opts}
    if name in NO_JSON:
        assert "--json" not in options, f"mpcdp {name} has --json now: take it off the list"
    else:
        assert "--json" in options, f"mpcdp {name} has no --json"
    if name in LONG_WORK:
        assert "--quiet" in options


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_what_the_commands_say(name: str) -> None:
    """The list is written down once more, so that showing it imports nothing."""
    first = " ".join(load_command(name).help.split("\n\n")[0].split())
    assert COMMANDS[name].summary == first


def test_help_lists_every_command_and_the_exit_codes() -> None:
    result = RUNNER.invoke(application(), ["--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    for name, entry in COMMANDS.items():
        assert name in result.output
        assert entry.summary in result.output
    for words in ("Exit codes: 0 done", "3 refused", "--install-completion", "--debug", "--version"):
        assert words in result.output
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    for code in range(7):
        assert f"| {code} |" in readme, f"README.md does not explain exit code {code}"


def test_a_misspelt_command_gets_a_hint() -> None:
    result = RUNNER.invoke(application(), ["pan"])
    assert result.exit_code == 2
    assert "plan" in result.output


def _process(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from mpcdp.cli import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, timeout=60)


def test_an_error_is_a_sentence_and_debug_shows_where_it_arose(tmp_path: Path) -> None:
    short = _process("plan", "missing.toml", cwd=tmp_path)
    assert short.returncode == 2
    assert short.stderr.startswith("error: missing.toml: cannot be read")
    assert "Traceback" not in short.stderr
    assert mpcdp("plan", "missing.toml", cwd=tmp_path) == Done(2, "", short.stderr)  # what other tests look at
    long = _process("plan", "missing.toml", "--debug", cwd=tmp_path)
    assert long.returncode != 0
    assert "Traceback" in long.stderr
    with pytest.raises(TaskError, match="cannot be read"):
        mpcdp("--debug", "plan", "missing.toml", cwd=tmp_path)


def test_a_bug_is_one_sentence_too(tmp_path: Path) -> None:
    program = (
        "import mpcdp.cli, sys\n"
        "def broken(): raise ZeroDivisionError('1 / 0')\n"
        "mpcdp.cli.application = lambda: lambda args: broken()\n"
        "sys.argv = ['mpcdp', 'plan']\nmpcdp.cli.main()"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=tmp_path, timeout=60
    )
    assert result.returncode == 1
    assert result.stderr.startswith("error: this is a bug (ZeroDivisionError: 1 / 0)")
    assert "Traceback" not in result.stderr


def test_shell_completion_knows_the_commands_and_their_options(tmp_path: Path) -> None:
    def complete(line: str) -> set[str]:
        program = "from mpcdp.cli import application; application()(prog_name='mpcdp')"
        environment = {"_MPCDP_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
        result = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": "/usr/bin", "PYTHONPATH": str(ROOT), **environment},
            timeout=60,
        )
        return set(result.stdout.split())

    assert {"run", "report"} <= complete("mpcdp r")
    assert {"new"} <= complete("mpcdp network ")
    assert {"--json"} <= complete("mpcdp plan --j")


def test_the_task_schema_is_json(tmp_path: Path) -> None:
    result = RUNNER.invoke(application(), ["task", "schema"])
    assert json.loads(result.output)["title"] == "mpcdp task"
