"""How ``mpcdp noise fill`` runs: one process of a filling, or all of them on this machine."""

import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog

from mpcdp.cli.progress import progress_bar
from mpcdp.config import ComputePartyConfig, DealerConfig
from mpcdp.errors import MpcdpError, PeerError, SessionAborted
from mpcdp.local_network import LocalNetwork
from mpcdp.roles.noise_fill import FillDealer, FillJob, FillParty
from mpcdp.roles.process import end_on_signals, log_as_json
from mpcdp.transport.channel import Role

__all__ = ["fill_network", "fill_one"]

_MPCDP = (sys.executable, "-c", "from mpcdp.cli import main; main()")
_log = structlog.get_logger("mpcdp.noise_fill")

Figures = Mapping[str, Any]


def fill_one(config: ComputePartyConfig | DealerConfig, job: FillJob, *, quiet: bool) -> Figures:
    """Run one process of a filling: a compute party, or the dealer.

    Args:
        config: of the process.
        job: what to make.
        quiet: show no progress: no bar on a terminal, no JSON lines on standard error elsewhere.

    Returns:
        Samples, seconds, samples per second; and a compute party's bank, ready and free samples.

    Raises:
        MpcdpError: the filling failed; what is not at all parties is nobody's.
    """
    # grpc is loaded by what needs it only.
    from mpcdp.transport.grpc import GrpcNetwork

    on_terminal = sys.stderr.isatty()
    log_as_json(logging.WARNING if on_terminal or quiet else logging.INFO)
    end_on_signals()
    try:
        with (
            GrpcNetwork(
                me=job.task.member(config.name, config.role),
                members=job.task.members(),
                addresses=config.peers,
                tls=config.tls,
                limits=job.limits,
                listen=config.listen,
                task_digest=job.task.digest,
            ) as network,
            (
                progress_bar("noise samples", job.samples, quiet=quiet) if on_terminal else _log_lines(job.samples)
            ) as advance,
        ):
            if isinstance(config, DealerConfig):
                return _figures(job.samples, FillDealer(job, network, progress=advance).run())
            from mpcdp.mpc.crypten_backend import crypten_engine

            filled = FillParty(config.name, job, network, config.state, crypten_engine, progress=advance).run()
    except MpcdpError as error:
        _log.error("failed", error=type(error).__name__, problem=str(error))
        raise
    state = filled.state
    return _figures(filled.samples, filled.seconds, bank=state.bank.hex(), ready=state.ready, free=state.free)


def fill_network(directory: Path, job: FillJob, *, quiet: bool) -> Figures:
    """Run all processes of a filling on this machine, as real processes.

    Args:
        directory: made by ``mpcdp network new``.
        job: what to make.
        quiet: show no progress.

    Returns:
        Samples, seconds of the slowest party, samples per second, and every party's own figures.

    Raises:
        PeerError: a process failed; its own words.
    """

    def command(role: Role, config: Path) -> list[str]:
        options = ["--samples", str(job.samples), "--distribution", job.distribution, "--json"]
        return [*_MPCDP, "noise", "fill", "--config", str(config), *options]

    names = [*job.parties, *(member.name for member in job.task.members() if member.role == "dealer")]
    with LocalNetwork(directory, command=command) as network:
        earlier = {name: len(list(network.events(name))) for name in names}

        def events(name: str) -> list[Figures]:
            return list(network.events(name))[earlier[name] :]

        network.start(*names)
        with progress_bar("noise samples", job.samples, quiet=quiet) as advance:
            results = network.wait(
                job.limits.session_seconds, progress=_following(lambda: events(job.parties[0]), advance)
            )
        failed = [result for result in results if result.exit_code]
        if failed:
            # A process that merely noticed another one's end is not the cause.
            noticed = (PeerError.exit_code, SessionAborted.exit_code)
            cause = min(failed, key=lambda result: result.exit_code in noticed)
            raise PeerError(cause.name, cause.problem())
        parties = {name: events(name)[-1] for name in job.parties}
    return _figures(job.samples, max(figures["seconds"] for figures in parties.values()), parties=parties)


def _following(events: Callable[[], list[Figures]], advance: Callable[[int], None]) -> Callable[[], None]:
    """Move a bar on to what a process has logged last."""
    shown = 0

    def show() -> None:
        nonlocal shown
        made = max((int(entry.get("made", 0)) for entry in events()), default=0)
        advance(made - shown)
        shown = made

    return show


def _figures(samples: int, seconds: float, **others: object) -> Figures:
    return {"samples": samples, "seconds": seconds, "samples_per_second": samples / seconds, **others}


@contextmanager
def _log_lines(samples: int) -> Iterator[Callable[[int], None]]:
    made = 0

    def log(count: int) -> None:
        nonlocal made
        made += count
        _log.info("noise made", made=made, of=samples)

    yield log
