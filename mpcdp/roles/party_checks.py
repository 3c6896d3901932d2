"""What a compute party does about a round's contributions before it is bound to them: it has them checked."""

import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future

import structlog

from mpcdp.errors import MpcdpError, PeerTimeout
from mpcdp.mpc.aggregation import RoundAgreement
from mpcdp.mpc.backend import Backend, CorrelationRequest
from mpcdp.mpc.contribution_check import NormCheck, check_contributions, check_schedule
from mpcdp.mpc.dealing import ReceivedCorrelations, schedule_digest
from mpcdp.roles.party_service import PartyService
from mpcdp.roles.session import Deadline
from mpcdp.roles.training import owner_names
from mpcdp.secret_sharing.additive import mask_share
from mpcdp.secret_sharing.owner_set import OwnerSet
from mpcdp.secret_sharing.randomness import KEY_BYTES
from mpcdp.secret_sharing.shares import SharedVector
from mpcdp.transport.messages import DealRequest, SessionRef

__all__ = ["PartyChecks"]

_log = structlog.get_logger("mpcdp.compute_party")


class PartyChecks(PartyService):
    """Check contributions with the dealer's help, on the role's own thread.

    Guarantees:
        Every check has correlated randomness of its own, even if a round is repeated: its batch is named after an
        attempt, which all parties named together from fresh randomness, and after the round, which an attempt agrees
        on once. A round that any party is bound to is not checked again: what it is bound to is what the check left.
    """

    _lost: MpcdpError | None = None
    _attempt_name: str = ""

    def _wait(self, happened: Callable[[], bool], deadline: Deadline) -> bool:
        """Wait for something, as long as all other parties are there.

        Raises:
            PeerError: another party is lost.
            SessionAborted: the session was closed with a reason.
        """
        done = self._monitor.wait_for(lambda: self._lost is not None or happened(), deadline)
        if self._lost is not None:
            raise self._lost
        return done

    def _checked(self, ref: SessionRef, agreement: RoundAgreement, backend: Backend) -> RoundAgreement:
        """Leave out the owners whose vectors are longer than their bounds, if the task asks for it.

        Reveals:
            To all compute parties, one bit of every owner of the agreement: whether its vector passed.
        """
        check = self._plan.contribution_check
        if check is None:
            return agreement
        owners, round_index = agreement.owners, agreement.round_index
        batch = f"check-{round_index}-{self._attempt_name}"
        source = self._ask_dealer(ref, batch, len(owners), check_schedule(check, len(owners)))
        backend.supply(source)
        verdicts = check_contributions(backend, check, tuple(owners), self._shares(agreement, check))
        source.finish()
        passed = backend.reveal_verdicts(verdicts)
        failed = OwnerSet.of(owner for owner, passes in zip(owners, passed, strict=True) if not passes)
        if failed:
            _log.warning(
                "left out: the contribution is longer than it may be",
                round=round_index,
                owners=", ".join(owner_names(self._task, failed)),
            )
        return agreement.restricted_to(owners - failed)

    def _shares(self, agreement: RoundAgreement, check: NormCheck) -> Iterator[SharedVector]:
        """Yield this party's share of every vector of a round, one after the other."""
        for position, nonce in agreement.contributions():
            with self._monitor.changed:
                values = self._uploads[position].values if self._collects else None
                key = self._enrolments[position].key
            yield mask_share(key, nonce=nonce, dimension=check.dimension) if values is None else SharedVector(values)

    def _ask_dealer(
        self, ref: SessionRef, batch: str, samples: int, schedule: Sequence[CorrelationRequest]
    ) -> ReceivedCorrelations:
        """Ask for a batch of correlated randomness, as long as all other parties are there to ask for it too."""
        dealer = "" if self._task.dealer is None else self._task.dealer.name
        request = DealRequest(
            ref=ref,
            party=self._name,
            nonce=secrets.token_bytes(KEY_BYTES),
            batch=batch,
            samples=samples,
            schedule_digest=schedule_digest(schedule),
        )
        answer: Future[ReceivedCorrelations] = Future()

        def ask() -> None:
            try:
                answer.set_result(ReceivedCorrelations(*self._network.dealer(dealer).deal(self._name, request)))
            except BaseException as error:  # noqa: BLE001 (raised again where the answer is read)
                answer.set_exception(error)
            with self._monitor.changed:
                self._monitor.changed.notify_all()

        threading.Thread(target=ask, name="ask-dealer", daemon=True).start()
        if not self._wait(answer.done, Deadline(self._limits.prepare_seconds)):
            raise PeerTimeout(dealer, f"it dealt nothing within {self._limits.prepare_seconds:g} s: see its log")
        return answer.result()
