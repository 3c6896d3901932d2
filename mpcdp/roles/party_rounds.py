"""One round at a compute party: agree on the owners, bind, reveal. It never knows which method runs."""

import hashlib
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress

import structlog

from mpcdp.errors import PeerTimeout, ProtocolError
from mpcdp.mpc.aggregation import RoundAgreement, check_same, share_of_sum
from mpcdp.mpc.backend import Backend, Mesh
from mpcdp.mpc.noise_bank import NoiseSource
from mpcdp.roles.journal import Bound, StoredRelease
from mpcdp.roles.party_checks import PartyChecks
from mpcdp.roles.resume import NO_NOISE
from mpcdp.roles.session import Deadline, waiting_seconds
from mpcdp.roles.training import History, owner_names, record_count
from mpcdp.secret_sharing.owner_set import OwnerSet
from mpcdp.secret_sharing.shares import NoisedVector, SharedVector
from mpcdp.transport.messages import Aggregate, Outcome, Release, SessionRef

__all__ = ["PartyRounds"]

_log = structlog.get_logger("mpcdp.compute_party")


class PartyRounds(PartyChecks):
    """Run rounds on the role's own thread.

    Guarantees:
        A round is bound on disk at every party before any of them opens its share, and a bound round is repeated, if it
        is, with the same owners, masks and noise: it opens the same bytes.
    """

    _committed: bytes = b""

    def _run_round(self, ref: SessionRef, round_index: int, mesh: Mesh, backend: Backend, noise: NoiseSource) -> None:
        agreement = self._adopted
        if agreement is None:
            agreement = self._checked(ref, self._agree(self._next_request(round_index), mesh), backend)
            self._check_owner_set(agreement.owners)
        bound = self._bind(ref, agreement, noise)
        # Two phases before a reveal: every party has written what it will open and for whom, and knows that all have.
        check_same(mesh, "commit", hashlib.sha256(bound.agreement).digest(), peers=self._parties)
        self._committed = bound.agreement
        release = Release(values=backend.reveal(bound.share), owners=agreement.owners)
        history = History(ref, self._plan.digest, self._history.outcome)
        history.append(release)
        self._record(ref, StoredRelease(round_index, bound.asked, release), history.outcome)
        # Only now that neither this party nor, as all are bound, any other one will ever need it again.
        noise.forget(round_index)
        _log.info("revealed", round=round_index, owners=len(agreement.owners))

    def _next_request(self, round_index: int) -> Aggregate:
        """Wait for the coordinator, which may be away and then wait for owners."""
        coordinator = self._task.coordinator.name
        seconds = max(waiting_seconds(self._task), self._task.deadlines.round_seconds)
        if not self._wait(lambda: self._asked is not None or self._monitor.closed, Deadline(seconds)):
            raise PeerTimeout(coordinator, f"it did not ask for round {round_index} in time: see its log", final=True)
        with self._monitor.changed:
            if self._asked is None:
                raise ProtocolError(f"{coordinator} closed the session before round {round_index}")
            return self._asked[0]

    # -- agreeing --------------------------------------------------------------------------------------------------

    def _agree(self, request: Aggregate, mesh: Mesh) -> RoundAgreement:
        """Settle the round's owners: those who uploaded to the last party and had enrolled at every other one."""
        message = self._collect(request).to_bytes() if self._collects else self._wait_for_enrolments(request).to_bytes()
        self._journal.sync_enrolments()
        *enrolled, proposal = mesh.exchange("agree", message)
        proposer = self._parties[-1]
        agreement = RoundAgreement.from_bytes(bytes(proposal), proposer=proposer)
        with self._monitor.changed:
            expected = (request.ref.session, self._plan.digest, *self._place(), request.round_index)
        proposed = (agreement.session, agreement.plan_digest, agreement.history, agreement.noise, agreement.round_index)
        if proposed != expected:
            raise ProtocolError(
                f"{proposer} proposes another session, plan, noise or round than this party's, or knows of other "
                "releases"
            )
        for party, bitmap in zip(self._parties, enrolled, strict=False):
            agreement = agreement.restricted_to(_owner_set(bytes(bitmap), party))
        self._check_owner_set(agreement.owners)
        return agreement

    def _place(self) -> tuple[bytes, tuple[bytes, int]]:
        """Return what goes before a round: the digest of all releases, and where the session's noise is."""
        use = self._noise_use
        return self._history.digest, NO_NOISE if use is None else (use.bank, use.start)

    def _check_owner_set(self, owners: OwnerSet) -> None:
        if not owners <= self._enrolled():
            raise ProtocolError("the round's owner set has strangers: run the same version of mpcdp everywhere")
        missing = ", ".join(owner_names(self._task, OwnerSet.of(range(len(self._task.owners))) - owners))
        if record_count(self._task, owners) < self._plan.minimum_records:
            raise ProtocolError(
                f"the owners left have {record_count(self._task, owners)} records, fewer than the task's "
                f"{self._plan.minimum_records}: see the logs of those that are missing, {missing}"
            )
        if len(owners) < self._plan.minimum_owners:
            raise ProtocolError(
                f"only {len(owners)} owners both uploaded and enrolled at every compute party"
                + (" and passed the contribution check" if self._plan.contribution_check is not None else "")
                + f", fewer than the task's {self._plan.minimum_owners}: see the logs of the others, {missing}"
            )

    def _enrolled(self) -> OwnerSet:
        with self._monitor.changed:
            return OwnerSet.of(self._enrolments)

    def _wait_for_enrolments(self, request: Aggregate) -> OwnerSet:
        """Wait for the keys of the owners the coordinator expects, as long as the last party waits for their shares."""
        deadline = Deadline(self._task.deadlines.contribution_seconds)
        wanted = len(request.owners)
        # Looked at after every enrolment: as long as there are too few, their number tells it.
        self._wait(lambda: len(self._enrolments) >= wanted and request.owners <= self._enrolled(), deadline)
        return self._enrolled()

    def _collect(self, request: Aggregate) -> RoundAgreement:
        """Wait for the uploads of the owners the coordinator expects, until the contribution deadline."""
        deadline = Deadline(self._task.deadlines.contribution_seconds)
        expected = set(request.owners)
        with self._monitor.changed:
            self._wanted = len(expected)
        self._wait(lambda: self._uploads.keys() >= expected, deadline)
        with self._monitor.changed:
            owners = OwnerSet.of(self._uploads)
            nonces = tuple(self._uploads[position].nonce for position in owners)
            history, noise = self._place()
        if len(owners) < self._plan.minimum_owners:
            everybody = OwnerSet.of(range(len(self._task.owners)))
            raise PeerTimeout(
                ", ".join(owner_names(self._task, everybody - owners)),
                f"nothing arrived within {self._task.deadlines.contribution_seconds:g} s, and only {len(owners)} "
                f"of the {self._plan.minimum_owners} owners the task needs are left: see the owner's log",
                final=True,
            )
        return RoundAgreement(
            session=request.ref.session,
            plan_digest=self._plan.digest,
            history=history,
            noise=noise,
            round_index=request.round_index,
            owners=owners,
            nonces=nonces,
        )

    # -- binding ---------------------------------------------------------------------------------------------------

    def _bind(self, ref: SessionRef, agreement: RoundAgreement, noise: NoiseSource) -> Bound:
        """Write down what this party opens in the round, and for whom; a round that it is bound to stays as it is."""
        round_index, data = agreement.round_index, agreement.to_bytes()
        with self._monitor.changed:
            bound, self._agreed = self._bound, dict(agreement.contributions())
            asked = self._asked[0].owners if self._asked is not None else None
        if bound is not None and bound.round_index == round_index:
            if bound.agreement != data:
                raise ProtocolError(
                    f"{self._name} is bound to other owners in round {round_index}: agree on a new task"
                )
            return bound
        total = self._share_of_sum(agreement)
        bound = Bound(round_index, asked, data, NoisedVector.add(total, noise.take(round_index)))
        self._journal.bind_round(ref, bound)
        with self._monitor.changed:
            self._bound = bound
        return bound

    def _share_of_sum(self, agreement: RoundAgreement) -> SharedVector:
        if self._collects:
            self._wait_for_agreed_uploads(agreement)
            with self._monitor.changed:
                shares = [SharedVector(self._uploads[position].values) for position in agreement.owners]
            return SharedVector.total(shares, dimension=self._plan.dimension)
        with self._monitor.changed:
            missing = agreement.owners - OwnerSet.of(self._enrolments)
            keys = {position: entry.key for position, entry in self._enrolments.items() if position in agreement.owners}
        if missing:
            raise ProtocolError(
                f"{self._name} has lost the keys of {', '.join(owner_names(self._task, missing))}, whose contributions "
                "are in a round that other parties are bound to: its state was deleted or restored from an older copy"
            )
        return share_of_sum(agreement, keys, dimension=self._plan.dimension)

    def _wait_for_agreed_uploads(self, agreement: RoundAgreement) -> None:
        """Wait until the owners of a round have sent their shares again, if this party lost them unbound."""
        agreed = dict(agreement.contributions())

        def here() -> bool:
            return self._uploads.keys() >= agreed.keys()

        with self._monitor.changed:
            self._wanted = 0
            for position, nonce in agreed.items():
                if position in self._uploads and self._uploads[position].nonce != nonce:
                    raise ProtocolError(
                        f"{self._task.owners[position].name} has uploaded another share for round "
                        f"{agreement.round_index} than before: agree on a new task"
                    )
        if not self._wait(here, Deadline(self._task.deadlines.contribution_seconds)):
            with self._monitor.changed:
                missing = owner_names(self._task, OwnerSet.of(agreed.keys() - self._uploads.keys()))
            raise PeerTimeout(
                ", ".join(missing),
                f"nothing arrived within {self._task.deadlines.contribution_seconds:g} s, and round "
                f"{agreement.round_index} is bound to it: see the owner's log",
                final=True,
            )

    # -- afterwards ------------------------------------------------------------------------------------------------

    def _record(self, ref: SessionRef, stored: StoredRelease, outcome: Outcome) -> None:
        """Take a release down, then answer everybody who waits for its round."""
        self._journal.record_release(ref, stored, outcome)
        with self._monitor.changed:
            self._releases = History(ref, self._plan.digest, outcome)
            self._last, self._adopted = stored, None
            self._uploads.clear()
            self._agreed.clear()
            asked, self._asked = self._asked, None
            bound, self._round_bound = self._round_bound, Future()
        with suppress(InvalidStateError):  # the session was ended at this moment
            if asked is not None:
                asked[1].set_result(stored.release)
            bound.set_result(stored.release.owners)


def _owner_set(bitmap: bytes, party: str) -> OwnerSet:
    try:
        return OwnerSet.from_bytes(bitmap)
    except ValueError:
        raise ProtocolError(
            f"{party} sent a malformed set of owners: run the same version of mpcdp everywhere"
        ) from None
