"""The rows of ``mpcdp bench protocol``: one whole session, from the noise to the release, on networks good and bad."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from mpcdp.bench.cost_model import Observation
from mpcdp.bench.processes import Command, run_processes
from mpcdp.bench.rounds import rounds_command
from mpcdp.bench.rounds_report import OWNERS, RoundsReport
from mpcdp.bench.rounds_setting import RoundsSetting
from mpcdp.bench.slow_network import FAST, Link, SlowNetwork
from mpcdp.transport.channel import Member

__all__ = ["PHASES", "ProtocolRow", "ProtocolSetting", "measure_plain", "measure_protocol", "observation"]

PHASES = ("offline", "enrolment", "upload", "agreement", "reveal")
_LINK_ENDS = {"owner": "owner", "compute": "party", "dealer": "dealer", "coordinator": "coordinator"}


@dataclass(frozen=True)
class ProtocolSetting:
    """One session of output perturbation with joint noise.

    Args:
        owners: number of owners m; they share processes.
        dimension: number of coordinates d.
        parties: number of compute parties k.
        link: what lies between the processes.
    """

    owners: int
    dimension: int
    parties: int
    link: Link = FAST

    @property
    def session(self) -> RoundsSetting:
        """The processes: one round, and none before it."""
        return RoundsSetting(self.dimension, self.owners, self.parties, "joint", rounds=1, warm_up=0)


@dataclass(frozen=True)
class ProtocolRow:
    """What one session costs.

    Args:
        owners: number of owners m.
        dimension: number of coordinates d.
        parties: number of compute parties k.
        round_trip_ms: added to every round trip between two processes; 0 is loopback as it is.
        bandwidth_mbit: of every listening process's access line, each way; None for loopback as it is.
        sessions: how many were run; the figures are of the one with the median time.
        seconds: of all phases together.
        seconds_by_phase: ``offline``: connections between the parties and joint noise, from when the last party was up.
            ``enrolment``: from when owners are told that the session starts to when the last one has paid, and given
            every party its key. ``upload``: until all shares are there. ``agreement``: until all parties have agreed
            on the owners, written down what they will open, and told each other so. ``reveal``: until the coordinator
            has the release.
        joining_seconds: before, until all owners attend, from when the coordinator is up; mostly processes' start.
        closing_seconds: afterwards: owners compare the release with every party's and leave.
        message_rounds: messages that follow one another, of all phases; see `observation`.
        message_rounds_by_phase: where they occur; an enrolment's are those of ``upload``.
        processor_seconds: user and system, of all threads, by process, such as ``"party-1"``; `OWNERS` are all owners'
            processes together. Imports and reading the task are left out, joining and closing are in it.
        startup_processor_seconds: the imports and reading the task.
        bytes_received: payload by server.
        bytes: payload by link, of all processes together, such as ``"owner->party"``; connections before and after
            included, TLS's and gRPC's own bytes not.
        party_peak_memory_mib: of each compute party, libraries included.
        noise_ratio: deviation of the release from the exact sum, in standard deviations of the plan's noise: about 1.
        seconds_by_session: all phases together, in order.
    """

    owners: int
    dimension: int
    parties: int
    round_trip_ms: float
    bandwidth_mbit: float | None
    sessions: int
    seconds: float
    seconds_by_phase: Mapping[str, float]
    joining_seconds: float
    closing_seconds: float
    message_rounds: int
    message_rounds_by_phase: Mapping[str, int]
    processor_seconds: Mapping[str, float]
    startup_processor_seconds: Mapping[str, float]
    bytes_received: Mapping[str, int]
    bytes: Mapping[str, int]
    party_peak_memory_mib: Mapping[str, float]
    noise_ratio: float
    seconds_by_session: tuple[float, ...]


@dataclass(frozen=True)
class _Routed:
    """A session (fits `mpcdp.bench.processes.Job`) whose processes reach each other over a slow network."""

    session: RoundsSetting
    network: SlowNetwork

    @property
    def process_names(self) -> tuple[str, ...]:
        return self.session.process_names

    @property
    def members(self) -> tuple[Member, ...]:
        return self.session.members

    @property
    def total_seconds(self) -> float:
        return self.session.total_seconds

    def placed(self, addresses: Mapping[str, str]) -> Self:
        routes = {name: self.network.add(address) for name, address in addresses.items()}
        return replace(self, session=replace(self.session.placed(addresses), routes=routes))

    def save(self, path: Path) -> None:
        self.session.save(path)


def measure_protocol(setting: ProtocolSetting, *, sessions: int = 1, command: Command = rounds_command) -> ProtocolRow:
    """Run sessions of a setting and put the reports of the one with the median time together.

    Args:
        setting: what to measure.
        sessions: how many.
        command: what to start as their processes.

    Raises:
        PeerError: a process failed or did not end in time.
    """
    reports = [_run(setting.session, setting.link, command) for _ in range(sessions)]
    seconds = [sum(_phases(setting, each).values()) for each in reports]
    middle = reports[sorted(range(sessions), key=seconds.__getitem__)[sessions // 2]]
    phases = _phases(setting, middle)
    times, rounds = middle["coordinator"].times, _message_rounds(middle)
    return ProtocolRow(
        owners=setting.owners,
        dimension=setting.dimension,
        parties=setting.parties,
        round_trip_ms=setting.link.round_trip_ms,
        bandwidth_mbit=setting.link.bandwidth_mbit,
        sessions=sessions,
        seconds=sum(phases.values()),
        seconds_by_phase=phases,
        joining_seconds=middle["coordinator"].phases["joining"],
        closing_seconds=times["closed"] - times["released"],
        message_rounds=sum(rounds.values()),
        message_rounds_by_phase=rounds,
        processor_seconds=_by_server(setting.session, {name: each.processor_seconds for name, each in middle.items()}),
        startup_processor_seconds=_by_server(
            setting.session, {name: each.startup_processor_seconds for name, each in middle.items()}
        ),
        bytes_received=_received(middle),
        bytes=_bytes(setting.session, middle),
        party_peak_memory_mib={name: middle[name].peak_memory_mib for name in _parties(setting)},
        noise_ratio=middle["coordinator"].noise_ratio,
        seconds_by_session=tuple(seconds),
    )


def measure_plain(setting: ProtocolSetting, *, runs: int, command: Command = rounds_command) -> tuple[list[float], int]:
    """Add the same vectors up without protection: the same processes, one of which sees them all.

    Returns:
        Seconds of each run, from when owners are told to the sum; and the payload bytes of the last one.

    Raises:
        PeerError: a process failed or did not end in time.
    """
    session = setting.session.plain
    seconds, sent = [], 0
    for _ in range(runs):
        reports = _run(session, setting.link, command)
        times = reports["coordinator"].times
        seconds.append(times["released"] - times["started"])
        sent = sum(sum(report.sent.values()) for report in reports.values())
    return seconds, sent


def observation(row: ProtocolRow) -> Observation:
    """Return what the cost model is fitted to.

    Its message rounds are those of a chain through the session: a party's calls and exchanges until the noise is ready,
    an owner's calls from the start to its upload, the parties' exchanges to agree and to reveal.
    """
    return Observation(
        message_rounds=row.message_rounds,
        round_trip_seconds=row.round_trip_ms / 1000,
        bytes_sent=sum(row.bytes.values()),
        owners=row.owners,
        seconds=row.seconds,
    )


def _run(session: RoundsSetting, link: Link, command: Command) -> Mapping[str, RoundsReport]:
    if link == FAST:
        return run_processes(session, RoundsReport.load, command=command)
    with SlowNetwork(link) as network:
        return run_processes(_Routed(session, network), RoundsReport.load, command=command)


def _parties(setting: ProtocolSetting) -> Sequence[str]:
    return [party.name for party in setting.session.task.compute_parties]


def _phases(setting: ProtocolSetting, reports: Mapping[str, RoundsReport]) -> dict[str, float]:
    coordinator = reports["coordinator"].times
    parties = [reports[name] for name in _parties(setting)]
    begins, ends = zip(*(party.preparation for party in parties), strict=True)
    enrolled = max(party.times["enrolled"] for party in parties)
    bound = max(party.times["bound"] for party in parties)
    # The last party waits for the uploads.
    collected = max(enrolled, parties[-1].times["collected"])
    return {
        "offline": max(ends) - max(begins),
        "enrolment": enrolled - coordinator["started"],
        "upload": collected - enrolled,
        "agreement": bound - collected,
        "reveal": coordinator["released"] - bound,
    }


def _message_rounds(reports: Mapping[str, RoundsReport]) -> dict[str, int]:
    rounds: dict[str, int] = {}
    for report in reports.values():
        for phase, count in report.message_rounds.items():
            rounds[phase] = max(count, rounds.get(phase, 0))
    return {phase: rounds[phase] for phase in PHASES if phase in rounds}


def _bytes(session: RoundsSetting, reports: Mapping[str, RoundsReport]) -> dict[str, int]:
    roles = {member.name: member.role for member in session.members}
    sent: Counter[str] = Counter()
    for name, report in reports.items():
        # A process that runs owners is no member itself.
        sender = _LINK_ENDS[roles.get(name, "owner")]
        for receiver, count in report.sent.items():
            sent[f"{sender}->{_LINK_ENDS[roles.get(receiver, 'owner')]}"] += count
    return dict(sorted(sent.items()))


def _received(reports: Mapping[str, RoundsReport]) -> dict[str, int]:
    received = sum((Counter(report.sent) for report in reports.values()), Counter[str]())
    del received[OWNERS]
    return dict(received)


def _by_server(session: RoundsSetting, figures: Mapping[str, float]) -> dict[str, float]:
    """Add the figures of the owners' processes up."""
    together: dict[str, float] = {}
    for name, figure in figures.items():
        server = OWNERS if name in session.hosts else name
        together[server] = together.get(server, 0.0) + figure
    return together
