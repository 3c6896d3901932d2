"""One process of a session that is measured: ``python -m mpcdp.bench.rounds_worker FOLDER NAME``."""

import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from mpcdp.bench.constant_training import RECORD_COUNT
from mpcdp.bench.metered_network import Meter, MeteredNetwork
from mpcdp.bench.plain_sums import PlainAggregatorUnsafe, PlainOwnerUnsafe
from mpcdp.bench.processes import credentials_of, end_with_parent, log_as_processes_do, wait_without_looking
from mpcdp.bench.report import peak_memory_mib
from mpcdp.bench.rounds_report import OWNERS, RoundsReport
from mpcdp.bench.rounds_setting import RoundsSetting
from mpcdp.data.dataset import Dataset
from mpcdp.errors import MpcdpError
from mpcdp.plan import Plan, make_plan
from mpcdp.privacy.ledger import Ledger
from mpcdp.roles.compute_party import ComputeParty, Engine
from mpcdp.roles.coordinator import Coordinator
from mpcdp.roles.dealer import Dealer
from mpcdp.roles.journal import PartyJournal
from mpcdp.roles.owner import Owner
from mpcdp.roles.process import open_many_files
from mpcdp.roles.session import limits_of
from mpcdp.secret_sharing.owner_set import OwnerSet
from mpcdp.task import Task
from mpcdp.transport.channel import Role
from mpcdp.transport.messages import Enrolment, NoiseUse, Release, SessionRef

__all__ = ["main"]

_AGREEMENT = ("agree", "commit")
_UPLOAD = "ComputeParty/Upload"


def main(folder: Path, name: str) -> int:
    """Run one process until its session is over and it has reported.

    Args:
        folder: holds the setting, and a folder of each member's own for its credentials and its state.
        name: which process this is.

    Returns:
        The exit code; an error is written to standard error.
    """
    end_with_parent()
    log_as_processes_do(sys.stderr)
    open_many_files()
    try:
        _World(folder).run(name).save(folder / name / "report.json")
    except MpcdpError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


class _World:
    """What every process of a session starts from.

    Args:
        folder: of the session.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.setting = RoundsSetting.load(folder / "setting.json")
        self.task: Task = self.setting.task
        self.plan = make_plan(self.task)
        self.collector = self.task.compute_parties[-1].name
        self.members = {member.name: member for member in self.task.members()}

    def network(self, name: str) -> MeteredNetwork:
        """Connect a member."""
        network = MeteredNetwork(
            me=self.members[name],
            members=tuple(self.members.values()),
            addresses={
                peer: at for peer, at in (self.setting.routes or self.setting.addresses).items() if peer != name
            },
            tls=credentials_of(self.folder, name),
            limits=limits_of(self.task, dimension=self.plan.dimension, rounds=self.plan.rounds),
            listen=self.setting.addresses.get(name),
            task_digest=self.task.digest,
        )
        network.meter = Meter()
        return network

    def state(self, name: str) -> Path:
        """Return a member's state folder."""
        return self.folder / name / "state"

    def sent(self, network: MeteredNetwork) -> Mapping[str, int]:
        """Return the payload bytes that went out, by who got them."""
        sent: Counter[str] = Counter()
        for peer, count in network.bytes_sent().items():
            sent[OWNERS if self.members[peer].role == "owner" else peer] += count
        return dict(sent)

    def run(self, name: str) -> RoundsReport:
        """Run one process."""
        run: Callable[[_World, str], RoundsReport] = _run_owners
        if name not in self.setting.hosts:
            run = self._server(self.members[name].role)
        startup = time.process_time()
        report = run(self, name)
        return replace(report, startup_processor_seconds=startup, processor_seconds=time.process_time() - startup)

    def _server(self, role: Role) -> "Callable[[_World, str], RoundsReport]":
        """Return what runs a server; CrypTen is imported by those that use it, and before their time counts."""
        if role == "compute" and self.setting.protected:
            from mpcdp.mpc.crypten_backend import crypten_engine

            return partial(_run_party, crypten_engine)
        return {"coordinator": _run_coordinator, "dealer": _run_dealer}.get(role, _run_aggregator)


class _TimedCoordinator(Coordinator):
    """A coordinator that takes the time of its rounds."""

    def __init__(self, task: Task, plan: Plan, network: MeteredNetwork, output: Path) -> None:
        super().__init__(task, plan, network, output)
        self.seconds_by_round: list[float] = []
        self.times: dict[str, float] = {}
        self.last: Release | None = None

    def _run_round(self, ref: SessionRef, round_index: int, asked: OwnerSet | None) -> Release:
        begin = time.monotonic()
        self.times.setdefault("started", begin)
        self.last = super()._run_round(ref, round_index, asked)
        self.times["released"] = time.monotonic()
        self.seconds_by_round.append(self.times["released"] - begin)
        return self.last


def _run_coordinator(world: _World, name: str) -> RoundsReport:
    with world.network(name) as network:
        coordinator = _TimedCoordinator(world.task, world.plan, network, world.state(name))
        coordinator.run()
    return RoundsReport(
        peak_memory_mib(),
        seconds_by_round=tuple(coordinator.seconds_by_round[world.setting.warm_up :]),
        noise_ratio=0.0 if coordinator.last is None else _noise_ratio(world, coordinator.last),
        phases=coordinator.seconds,
        sent=world.sent(network),
        times=coordinator.times | {"closed": time.monotonic()},
    )


def _noise_ratio(world: _World, release: Release) -> float:
    method = world.task.method()
    empty = Dataset(np.zeros((1, 1)), np.ones(1))
    exact = len(release.owners) * method.contribution(empty, method.initial_state(), key=b"")
    difference = world.plan.decode(release.values) - exact
    return float(np.sqrt(np.mean(difference**2)) / world.plan.noise_deviation)


def _run_dealer(world: _World, name: str) -> RoundsReport:
    with world.network(name) as network:
        Dealer(world.task, world.plan, network).run()
    return RoundsReport(peak_memory_mib(), sent=world.sent(network))


class _TimedParty(ComputeParty):
    """A compute party that notes when its noise was ready, and what it had sent by then."""

    preparation: tuple[float, ...] = ()
    enrolled: float = 0.0
    offline: Mapping[str, int]
    network: MeteredNetwork

    def open_session(self, caller: str, ref: SessionRef) -> None:
        begin = time.monotonic()
        super().open_session(caller, ref)
        self.preparation = (begin, time.monotonic())
        self.offline = self.network.bytes_sent()

    def enrol(self, caller: str, enrolment: Enrolment) -> NoiseUse | None:
        use = super().enrol(caller, enrolment)
        self.enrolled = time.monotonic()
        return use


def _run_party(engine: Engine, world: _World, name: str) -> RoundsReport:
    with world.network(name) as network, PartyJournal(world.state(name)) as journal:
        party = _TimedParty(name, world.task, world.plan, network, journal, engine)
        party.network = network
        party.run()
        peers = {member.name for member in world.members.values() if member.role in ("compute", "coordinator")}
        online = Counter(network.bytes_sent())
        online.subtract(party.offline)
        return RoundsReport(
            peak_memory_mib(),
            preparation=party.preparation,
            online_bytes=sum(count for peer, count in online.items() if peer in peers),
            agreement_bytes=sum(network.meter.sent[operation] for operation in _AGREEMENT),
            sent=world.sent(network),
            times={"enrolled": party.enrolled, **_party_times(network.meter)},
            message_rounds=_party_rounds(network.meter, world.members),
        )


def _party_times(meter: Meter) -> Mapping[str, float]:
    """Find the last round among the exchanges."""
    last = {exchange.operation: exchange for exchange in meter.exchanges}
    return {"collected": last["agree"].start, "bound": last["commit"].end}


def _party_rounds(meter: Meter, peers: Collection[str]) -> Mapping[str, int]:
    """Count what came before the first round, and what a round consists of. Calls all belong to the former."""
    operations = [exchange.operation for exchange in meter.exchanges]
    first, last = operations.index("agree"), len(operations) - 1 - operations[::-1].index("agree")
    agreed = len(operations) - operations[::-1].index("commit")
    return {
        "offline": meter.message_rounds(peers) + first,
        "agreement": agreed - last,
        "reveal": len(operations) - agreed,
    }


def _run_aggregator(world: _World, name: str) -> RoundsReport:
    with world.network(name) as network:
        PlainAggregatorUnsafe(world.task, world.plan, network).run()
    return RoundsReport(peak_memory_mib())


def _run_owners(world: _World, host: str) -> RoundsReport:
    """Run the owners of a process on a thread each; the first error of any of them ends the process."""
    wait_without_looking()
    errors: list[BaseException] = []
    reports: list[RoundsReport] = []

    def run(name: str) -> None:
        try:
            reports.append(_run_owner(world, name))
        except BaseException as error:  # noqa: BLE001 (raised again below, where only one of them is printed)
            errors.append(error)

    names = world.setting.hosts[host]
    threads = [threading.Thread(target=run, args=(name,), name=name, daemon=True) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive() and not errors:
            thread.join(0.2)
    if errors:
        raise errors[0]
    return RoundsReport(
        peak_memory_mib(),
        upload_bytes=max(report.upload_bytes for report in reports),
        sent=dict(sum((Counter(report.sent) for report in reports), Counter())),
        message_rounds={"upload": max(report.message_rounds["upload"] for report in reports)},
    )


def _run_owner(world: _World, name: str) -> RoundsReport:
    role = Owner if world.setting.protected else PlainOwnerUnsafe
    dataset = Dataset(np.zeros((RECORD_COUNT, world.task.schema_.dimension)), np.ones(RECORD_COUNT))
    state = world.state(name)
    with world.network(name) as network, Ledger(state / "ledger.db") as ledger:
        role(name, world.task, world.plan, dataset, network, ledger, state).run()
    # Up to the upload: afterwards it calls the parties again, to compare.
    network.meter.calls = network.meter.calls[: network.meter.calls.index((world.collector, _UPLOAD)) + 1]
    parties = [party.name for party in world.task.compute_parties]
    return RoundsReport(
        0.0,
        upload_bytes=network.meter.sent[_UPLOAD],
        sent=world.sent(network),
        message_rounds={"upload": network.meter.message_rounds(parties)},
    )


if __name__ == "__main__":
    code = main(Path(sys.argv[1]), sys.argv[2])
    sys.stderr.flush()
    os._exit(code)  # threads of other owners may still run; an interpreter that shuts down around them can abort
