"""Where the compute parties' requests for correlated randomness meet, and what each of them is dealt."""

from collections.abc import Iterator, Sequence

import structlog

from mpcdp.errors import BegunAnew, PeerTimeout, ProtocolError
from mpcdp.mpc.backend import CorrelationRequest
from mpcdp.mpc.dealing import batch_seeds, deal, schedule_digest
from mpcdp.roles.session import Deadline, SessionMonitor
from mpcdp.secret_sharing.randomness import random_key
from mpcdp.transport.messages import DealRequest

__all__ = ["DealingDesk"]

_log = structlog.get_logger("mpcdp.dealer")


class DealingDesk:
    """Deals every batch once to every compute party, as soon as all of them have asked for it.

    A party that asks for another batch has given up those that it was waiting for: it has begun anew.

    Args:
        parties: names in rank order.
        monitor: of the session; its condition is held while requests are written down.
        seconds: how long the parties may wait for each other.

    Guarantees:
        A batch's seeds come from a secret drawn for it alone and from all parties' nonces; nothing is stored.
    """

    def __init__(self, parties: Sequence[str], monitor: SessionMonitor, *, seconds: float) -> None:
        self._parties = tuple(parties)
        self._monitor = monitor
        self._seconds = seconds
        self._requests: dict[str, dict[str, DealRequest]] = {}
        self._seeds: dict[str, tuple[bytes, ...]] = {}
        self._dealt: dict[str, set[str]] = {}

    def deal(
        self, caller: str, request: DealRequest, schedule: Sequence[CorrelationRequest]
    ) -> tuple[bytes, Iterator[bytes]]:
        """Wait for every party's request, then return this party's seed and, for rank 0, the corrections.

        Args:
            caller: who asks.
            request: of a session and a batch that exist, for no more samples than may be asked for.
            schedule: what is dealt for so many samples.

        Raises:
            ProtocolError: another schedule or number of samples than the dealer or another party has, or a second
                request for the batch.
            PeerTimeout: a party did not ask in time.
            BegunAnew: a party asks for another batch, and will never take this one.
        """
        if request.schedule_digest != schedule_digest(schedule):
            raise ProtocolError("the batch does not fit the dealer's plan: run the same version of mpcdp everywhere")
        batch = request.batch
        with self._monitor.changed:
            self._write_down(caller, request)
            self._monitor.changed.notify_all()
        if not self._monitor.wait_for(
            lambda: batch in self._seeds or batch not in self._requests, Deadline(self._seconds)
        ):
            missing = next(party for party in self._parties if party not in self._requests[batch])
            raise PeerTimeout(missing, "it did not ask the dealer for correlated randomness in time: see its log")
        if batch not in self._seeds:
            raise BegunAnew(caller, "another party has begun anew: it asks for another batch")
        rank, seeds = self._parties.index(caller), self._seeds[batch]
        _log.info("dealing", party=caller, batch=batch, samples=request.samples)
        return seeds[rank], self._stream(caller, batch, deal(schedule, seeds) if rank == 0 else iter(()))

    def forget_taken(self, *, but: str) -> None:
        """Forget the batches that all parties have taken, all but one."""
        with self._monitor.changed:
            for batch in [batch for batch, taken in self._dealt.items() if taken == set(self._parties)]:
                if batch != but:
                    del self._requests[batch], self._seeds[batch], self._dealt[batch]

    def _write_down(self, caller: str, request: DealRequest) -> None:
        for batch, asked in list(self._requests.items()):
            if batch != request.batch and batch not in self._seeds and caller in asked:
                del self._requests[batch]
        requests = self._requests.setdefault(request.batch, {})
        if caller in requests:
            raise ProtocolError(f"{caller} has already been dealt this batch, and a batch is dealt once")
        for other, earlier in requests.items():
            if earlier.samples != request.samples:
                raise ProtocolError(
                    f"{caller} asks for {request.samples} samples, {other} for {earlier.samples}: see their logs"
                )
        requests[caller] = request
        if len(requests) == len(self._parties):
            nonces = [requests[party].nonce for party in self._parties]
            self._seeds[request.batch] = batch_seeds(random_key(), nonces, request.ref.session, request.batch)

    def _stream(self, party: str, batch: str, corrections: Iterator[bytes]) -> Iterator[bytes]:
        yield from corrections
        with self._monitor.changed:
            self._dealt.setdefault(batch, set()).add(party)
            self._monitor.changed.notify_all()

    def wait_until_dealt(self, batch: str, *, seconds: float) -> None:
        """Wait until every party has taken everything of a batch.

        Raises:
            PeerTimeout: a party did not in time.
            SessionAborted: the session ended before.
        """

        def taken() -> set[str]:
            return self._dealt.get(batch, set())

        if not self._monitor.wait_for(lambda: taken() == set(self._parties), Deadline(seconds)):
            missing = next(party for party in self._parties if party not in taken())
            raise PeerTimeout(missing, "it did not take its correlated randomness in time: see its log")
