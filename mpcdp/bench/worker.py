"""One process of a row: ``python -m mpcdp.bench.worker FOLDER NAME``, started by `mpcdp.bench.processes`."""

import secrets
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

from mpcdp.bench.processes import credentials_of, end_with_parent
from mpcdp.bench.report import Report, Run, peak_memory_mib
from mpcdp.bench.setting import DEALER, Sampler, Setting
from mpcdp.errors import MpcdpError, PeerTimeout, ProtocolError
from mpcdp.mpc.backend import Mesh
from mpcdp.mpc.dealing import ReceivedCorrelations, batch_seeds, deal, schedule_digest
from mpcdp.mpc.plaintext_backend import PlaintextBackend
from mpcdp.secret_sharing.randomness import KEY_BYTES, random_key
from mpcdp.secret_sharing.shares import RingVector
from mpcdp.transport.channel import ComputePartyService
from mpcdp.transport.greeting import NO_TASK
from mpcdp.transport.grpc import GrpcNetwork
from mpcdp.transport.messages import DealRequest, SessionRef

__all__ = ["CountingMesh", "Keep", "ask_dealer", "main", "network_of", "serve_as_dealer"]

Keep = Callable[[str, RingVector], None]
"""What becomes of this party's share of a batch, outside the time that is measured."""


def main(folder: Path, name: str, *, keep: Keep | None = None) -> int:
    """Run one process of a row until it has reported.

    Args:
        folder: holds the setting, and a folder of each process's own for its credentials and its report.
        name: which process this is.
        keep: for tests; the benchmark forgets the shares.

    Returns:
        The exit code; an error is written to standard error.
    """
    end_with_parent()
    try:
        _measure(folder, name, keep or (lambda batch, share: None)).save(folder / name / "report.json")
    except MpcdpError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


def _measure(folder: Path, name: str, keep: Keep) -> Report:
    setting = Setting.load(folder / "setting.json")
    with network_of(setting, folder, name) as network:
        if name == DEALER:
            return serve_as_dealer(setting, network)
        return _Party(setting, name, network, keep).run()


def network_of(setting: Setting, folder: Path, name: str) -> GrpcNetwork:
    """Make a process's access to the others of its row."""
    return GrpcNetwork(
        me=next(member for member in setting.members if member.name == name),
        members=setting.members,
        addresses={peer: address for peer, address in setting.addresses.items() if peer != name},
        tls=credentials_of(folder, name),
        limits=setting.limits,
        listen=setting.addresses[name],
        task_digest=NO_TASK,
    )


class CountingMesh:
    """A mesh that counts exchanges and payload bytes."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self.rank = mesh.rank
        self.size = mesh.size
        self.rounds = 0
        self.bytes_sent = 0

    def exchange(self, operation: str, payload: bytes | memoryview) -> Sequence[bytes | memoryview]:
        self.rounds += 1
        self.bytes_sent += memoryview(payload).nbytes * (self.size - 1)
        return self._mesh.exchange(operation, payload)


def ask_dealer(setting: Setting, network: GrpcNetwork, name: str, batch: str) -> ReceivedCorrelations:
    """Ask for the correlated randomness of one run."""
    samples = setting.batches[batch]
    request = DealRequest(
        ref=setting.ref,
        party=name,
        nonce=secrets.token_bytes(KEY_BYTES),
        batch=batch,
        samples=samples,
        schedule_digest=schedule_digest(setting.schedule(samples)),
    )
    return ReceivedCorrelations(*network.dealer(DEALER).deal(name, request))


class _Party:
    """A compute party of a row."""

    def __init__(self, setting: Setting, name: str, network: GrpcNetwork, keep: Keep) -> None:
        self._setting = setting
        self._name = name
        self._network = network
        self._keep = keep

    def run(self) -> Report:
        """Alternate between our sampler and CrypTen's, so that what else the machine does hits both."""
        setting = self._setting
        runs: list[Run] = []
        crypten_runs: list[Run] = []
        peaks: list[float] = []
        # Nobody may call a compute party's methods here: there is no owner and no coordinator.
        service = cast(ComputePartyService, object())
        with self._network.serve(service), self._network.mesh(setting.ref, setting.party_names) as mesh:
            for batch, count in setting.batches.items():
                runs.append(
                    self._run_joint(mesh, batch, count) if setting.joint else self._run_alone(mesh, batch, count)
                )
                peaks.append(peak_memory_mib())
                if setting.crypten:
                    crypten_runs.append(self._run_crypten(mesh, count))
        # The peak after our first run: a later one would be CrypTen's.
        idle, peak, *_ = peaks
        return Report(idle, peak, runs=tuple(runs[1:]), crypten_runs=tuple(crypten_runs[1:]))

    def _run_joint(self, mesh: Mesh, batch: str, count: int) -> Run:
        from mpcdp.mpc.crypten_backend import crypten_engine

        noise = self._setting.noise
        noise.schedule(count)  # computes the tables too, which a process does once
        counting = CountingMesh(mesh)
        mesh.exchange("bench/ready", b"")
        start = time.monotonic()
        source = ask_dealer(self._setting, self._network, self._name, batch)
        with crypten_engine(counting, source) as backend:
            share = noise.sample(backend, count)
        end = time.monotonic()
        source.finish()
        self._keep(batch, share.values)
        return Run(start, end, rounds=counting.rounds, bytes_sent=counting.bytes_sent)

    def _run_alone(self, mesh: Mesh, batch: str, count: int) -> Run:
        noise = self._setting.noise
        noise.schedule(count)
        mesh.exchange("bench/ready", b"")
        start = time.monotonic()
        share = noise.sample(PlaintextBackend(), count)
        end = time.monotonic()
        self._keep(batch, share.values)
        return Run(start, end, rounds=0, bytes_sent=0)

    def _run_crypten(self, mesh: Mesh, count: int) -> Run:
        from mpcdp.mpc.crypten_baseline import crypten_baseline_unsafe, laplace_unsafe, randn_unsafe

        sample = laplace_unsafe if self._setting.sampler is Sampler.LAPLACE else randn_unsafe
        counting = CountingMesh(mesh)
        with crypten_baseline_unsafe(counting):
            mesh.exchange("bench/ready", b"")
            rounds, sent = counting.rounds, counting.bytes_sent
            start = time.monotonic()
            sample(count)
            end = time.monotonic()
        return Run(start, end, rounds=counting.rounds - rounds, bytes_sent=counting.bytes_sent - sent)


def serve_as_dealer(setting: Setting, network: GrpcNetwork) -> Report:
    """Deal what a row's parties ask for until all have it."""
    dealer = _Dealer(setting)
    idle = peak_memory_mib()
    with network.serve(dealer):
        dealer.wait()
    return Report(idle, peak_memory_mib(), dealt_bytes=dealer.dealt_bytes)


class _Dealer:
    """Deals every batch of a row, each once."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._schedules = {batch: setting.schedule(count) for batch, count in setting.batches.items()}
        self._nonces: dict[str, dict[str, bytes]] = defaultdict(dict)
        self._seeds: dict[str, tuple[bytes, ...]] = {}
        self._served: set[tuple[str, str]] = set()
        self._bytes = dict.fromkeys(setting.batches, 0)
        self._changed = threading.Condition()

    @property
    def dealt_bytes(self) -> Mapping[str, int]:
        """Seeds and corrections sent for each run, without the warm-up."""
        return dict(list(self._bytes.items())[1:])

    def wait(self) -> None:
        """Wait until every party has been dealt every batch.

        Raises:
            PeerTimeout: some did not ask in time.
        """
        expected = {(batch, party) for batch in self._schedules for party in self._setting.party_names}
        with self._changed:
            if not self._changed.wait_for(lambda: self._served == expected, self._setting.total_seconds):
                batch, party = min(expected - self._served)
                raise PeerTimeout(party, f"it did not take batch {batch} in time: see its log")

    def deal(self, caller: str, request: DealRequest) -> tuple[bytes, Iterator[bytes]]:
        """Wait for every party's request, then return this party's seed and, for rank 0, the corrections.

        Raises:
            ProtocolError: another session, batch or schedule, or a second request.
            PeerTimeout: a party did not ask in time.
        """
        batch, parties = request.batch, self._setting.party_names
        schedule = self._schedules.get(batch)
        if schedule is None or (request.ref, request.schedule_digest) != (self._setting.ref, schedule_digest(schedule)):
            raise ProtocolError(f"{caller} asks for a batch {batch!r} that this benchmark does not have")
        with self._changed:
            nonces = self._nonces[batch]
            if caller in nonces:
                raise ProtocolError(f"{caller} has already been dealt batch {batch}, and a batch is dealt once")
            nonces[caller] = request.nonce
            if len(nonces) == len(parties):
                ordered = [nonces[party] for party in parties]
                self._seeds[batch] = batch_seeds(random_key(), ordered, request.ref.session, batch)
                self._changed.notify_all()
            if not self._changed.wait_for(lambda: batch in self._seeds, self._setting.run_seconds):
                missing = next(party for party in parties if party not in nonces)
                raise PeerTimeout(missing, f"it did not ask for batch {batch} in time: see its log")
        rank = parties.index(caller)
        seed = self._seeds[batch][rank]
        return seed, self._stream(batch, caller, len(seed), deal(schedule, self._seeds[batch]) if rank == 0 else None)

    def _stream(self, batch: str, party: str, sent: int, corrections: Iterator[bytes] | None) -> Iterator[bytes]:
        for chunk in corrections or ():
            sent += len(chunk)
            yield chunk
        with self._changed:
            self._bytes[batch] += sent
            self._served.add((batch, party))
            self._changed.notify_all()

    def open_session(self, caller: str, ref: SessionRef) -> None:
        """Refuse: there is no coordinator."""
        raise ProtocolError("a benchmark has no sessions")

    def close_session(self, caller: str, ref: SessionRef, reason: str | None) -> None:
        """Refuse: there is no coordinator."""
        raise ProtocolError("a benchmark has no sessions")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
