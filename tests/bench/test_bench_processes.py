"""Whatever happens to a row's processes, the error names the culprit and nothing is left behind."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from mpcdp.bench import processes
from mpcdp.bench.processes import run_processes, worker_command
from mpcdp.bench.report import Report
from mpcdp.bench.setting import Sampler, Setting
from mpcdp.errors import PeerError, PeerTimeout

SETTING = Setting(Sampler.GAUSSIAN, parties=2, dimension=64, runs=1, crypten=False)
ENDLESS = ("bench", "noise", "--dimension", "300000000", "--parties", "2", "--sampler", "laplace")


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder where temporary folders are made."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def children() -> list[psutil.Process]:
    """Return what a benchmark started; servers of `multiprocessing`, which other tests leave, name this folder too."""
    commands = ((child, " ".join(child.cmdline())) for child in psutil.Process().children(recursive=True))
    return [child for child, command in commands if "bench" in command and "multiprocessing" not in command]


def ended(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


def fail(text: str, code: int) -> list[str]:
    return [sys.executable, "-c", f"import sys; sys.stderr.write({text!r}); sys.exit({code})"]


def sleep() -> list[str]:
    return [sys.executable, "-c", "'bench'; import time; time.sleep(60)"]


def test_the_process_that_failed_first_is_named(temporary: Path) -> None:
    commands = {"dealer": fail("party-2: gone", PeerError.exit_code), "party-1": sleep(), "party-2": fail("boo\n", 1)}
    with pytest.raises(PeerError, match="party-2: its benchmark ended with exit code 1: boo"):
        run_processes(SETTING, Report.load, command=lambda folder, name: commands[name])
    assert children() == []
    assert list(temporary.iterdir()) == []


def test_a_worker_says_what_is_wrong(temporary: Path) -> None:
    """A party without its key fails, and the error is the worker's own sentence."""

    def command(folder: Path, name: str) -> list[str]:
        (folder / "party-1" / "process.key").unlink(missing_ok=True)
        return worker_command(folder, name)

    with pytest.raises(PeerError, match=r"party-1: its benchmark ended with exit code 2: tls.key .* cannot be read"):
        run_processes(SETTING, Report.load, command=command)
    assert children() == []


def test_processes_that_do_not_end_are_ended(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Setting, "total_seconds", 0.3)
    with pytest.raises(PeerTimeout, match=r"dealer: its benchmark did not end within 0\.3 s"):
        run_processes(SETTING, Report.load, command=lambda folder, name: sleep())
    assert children() == []
    assert list(temporary.iterdir()) == []


def test_a_process_that_ignores_its_end_is_killed(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Setting, "total_seconds", 1.0)
    monkeypatch.setattr(processes, "_STOP_SECONDS", 0.2)
    stubborn = "'bench'; import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    with pytest.raises(PeerTimeout):
        run_processes(SETTING, Report.load, command=lambda folder, name: [sys.executable, "-c", stubborn])
    assert children() == []


@pytest.mark.parametrize(
    "number",
    [signal.SIGINT, *(pytest.param(each, marks=pytest.mark.slow) for each in (signal.SIGTERM, signal.SIGKILL))],
    ids=lambda number: number.name,
)
def test_an_ended_benchmark_leaves_no_process(tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C reaches the whole group, as it does in a terminal; a kill reaches the command alone."""
    # Tests that run in the background of a shell inherit that Ctrl-C is ignored; a terminal's command does not.
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from mpcdp.cli import main; main()"
    )
    command = [sys.executable, "-c", program, *ENDLESS]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment, start_new_session=True
    )
    try:
        assert wait_until(lambda: len(psutil.Process(process.pid).children()) == 3)
        workers = psutil.Process(process.pid).children()
        time.sleep(0.5)
        if number is signal.SIGINT:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        assert process.wait(20) != 0
        assert wait_until(lambda: all(ended(worker) for worker in workers))
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if number is not signal.SIGKILL:
        assert list(tmp_path.iterdir()) == []
