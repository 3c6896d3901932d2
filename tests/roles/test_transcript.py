"""What k - 1 compute parties see before the opening does not depend on anybody's records.

The real roles run whole sessions; every message to the coalition is recorded. The coalition's own mask keys are fixed,
and with them it strips its masks off everything it sees: what is left has to be uniform, whatever the tables hold.
The same tests are shown to fail when the masks are switched off, and when one mask serves two vectors.
"""

import copy
import itertools
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import kstest
from session_world import SessionWorld, make_dataset, make_task

from mpcdp.data.dataset import Dataset, clip_rows
from mpcdp.mpc.aggregation import RoundAgreement
from mpcdp.mpc.plaintext_backend import PlaintextBackend
from mpcdp.privacy.ledger import Ledger
from mpcdp.roles import owner as owner_role
from mpcdp.roles.compute_party import ComputeParty
from mpcdp.roles.owner import Owner
from mpcdp.roles.owner_secret import OwnerSecret
from mpcdp.roles.training import History
from mpcdp.secret_sharing import additive
from mpcdp.secret_sharing.additive import mask
from mpcdp.secret_sharing.randomness import derive_key, random_key
from mpcdp.secret_sharing.shares import RingVector
from mpcdp.task import Task
from mpcdp.transport.messages import Enrolment, SessionRef, Upload

PARTIES = 3
RECORDS = {"owner-1": 20, "owner-2": 35}
SESSIONS = 6
ALPHA = 1e-6


@pytest.fixture(name="task", scope="module")
def _task() -> Task:
    return make_task(RECORDS, parties=PARTIES)


def _tables(task: Task, kind: str) -> dict[str, Dataset]:
    """Return two very different choices of everybody's records."""
    tables = {name: make_dataset(task, name, seed=7) for name in RECORDS}
    if kind == "random":
        return tables
    constant = np.zeros((1, task.schema_.dimension))
    constant[0, 0] = 1.0
    return {
        name: Dataset(np.repeat(clip_rows(constant), table.record_count, axis=0), np.ones(table.record_count))
        for name, table in tables.items()
    }


class _Secret(OwnerSecret):
    """An owner's secret whose mask keys for the coalition are known to the test."""

    coalition: tuple[int, ...] = ()

    def mask_key(self, session: bytes, party: str) -> bytes:
        rank = int(party.removeprefix("party-")) - 1
        if rank in self.coalition:
            return derive_key(b"fixed", salt=b"test", purpose=f"party {rank}")
        return super().mask_key(session, party)


def _run(
    folder: Path, task: Task, tables: dict[str, Dataset], coalition: tuple[int, ...], patch: pytest.MonkeyPatch
) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Run one session, and return the coalition's words before the opening: stripped shares, and all nonces."""
    seen: dict[int, tuple[dict[int, Enrolment], dict[int, Upload]]] = {}
    opening = PlaintextBackend.reveal

    def look_before_opening(self: ComputeParty, *arguments: object) -> object:
        total = share_of_sum(self, *arguments)  # type: ignore[arg-type]
        seen[self._rank] = (dict(self._enrolments), dict(self._uploads))
        return total

    share_of_sum = ComputeParty._share_of_sum
    with patch.context() as context:
        context.setattr(_Secret, "coalition", coalition)
        context.setattr(owner_role, "OwnerSecret", _Secret)
        context.setattr(ComputeParty, "_share_of_sum", look_before_opening)
        world = SessionWorld(folder, task, tables)
        world.run()
    assert not world.errors
    assert opening is PlaintextBackend.reveal
    return _strip(seen, coalition, world.plan.dimension), _nonces(world, coalition)


def _strip(
    seen: dict[int, tuple[dict[int, Enrolment], dict[int, Upload]]], coalition: tuple[int, ...], dimension: int
) -> NDArray[np.uint64]:
    """Take the coalition's own masks off the uploads it received."""
    rest = []
    for position, upload in (seen[PARTIES - 1][1] if PARTIES - 1 in coalition else {}).items():
        words = upload.values.copy()
        for rank in coalition:
            if rank < PARTIES - 1:
                words += mask(seen[rank][0][position].key, nonce=upload.nonce, dimension=dimension)
        rest.append(words.view(np.uint64))
    return np.concatenate(rest) if rest else np.zeros(0, dtype=np.uint64)


def _nonces(world: SessionWorld, coalition: tuple[int, ...]) -> NDArray[np.uint64]:
    """Take the nonces from the messages that the last party sent to, or that were sent to, the coalition."""
    names = {f"party-{rank + 1}" for rank in coalition}
    nonces = set()
    for parcel in world.parcels:
        if parcel.receiver in names and (start := parcel.message.find(b"mpcdp/round/")) >= 0:
            nonces |= set(RoundAgreement.from_bytes(parcel.message[start:], proposer=parcel.sender).nonces)
    return np.frombuffer(b"".join(sorted(nonces)), dtype="<u8")


def _p_values(first: NDArray[np.uint64], second: NDArray[np.uint64]) -> list[float]:
    """Compare two samples of words in their high and in their low half, and both with the uniform distribution."""
    values = []
    for shift in (0, 32):
        halves = [((sample >> np.uint64(shift)) & np.uint64(0xFFFFFFFF)) / 2.0**32 for sample in (first, second)]
        values.append(kstest(halves[0], halves[1]).pvalue)
        values += [kstest(half, "uniform").pvalue for half in halves]
    return values


def _views(
    tmp_path: Path, task: Task, coalition: tuple[int, ...], patch: pytest.MonkeyPatch
) -> list[NDArray[np.uint64]]:
    samples = []
    for kind in ("random", "constant"):
        runs = [
            _run(tmp_path / f"{kind}-{number}", task, _tables(task, kind), coalition, patch)
            for number in range(SESSIONS)
        ]
        samples.append(np.concatenate([words for run in runs for words in run]))
    return samples


@pytest.mark.parametrize("coalition", list(itertools.combinations(range(PARTIES), PARTIES - 1)))
def test_transcript_of_k_minus_1_parties_is_independent_of_the_data(
    tmp_path: Path, task: Task, monkeypatch: pytest.MonkeyPatch, coalition: tuple[int, ...]
) -> None:
    first, second = _views(tmp_path, task, coalition, monkeypatch)
    expected = 4 * SESSIONS * len(RECORDS) + (PARTIES - 1 in coalition) * SESSIONS * len(RECORDS) * 64
    # The last party itself is sent no agreement: it made it. It knows the nonces from the uploads.
    assert abs(len(first) - expected) <= 4 * SESSIONS * len(RECORDS)
    assert len(first) == len(second)
    assert min(_p_values(first, second)) > ALPHA


def test_the_transcript_test_fails_without_masks(tmp_path: Path, task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_mask(key: bytes, *, nonce: bytes, dimension: int) -> RingVector:
        return np.zeros(dimension, dtype=np.int64)

    monkeypatch.setattr(additive, "mask", no_mask)
    monkeypatch.setitem(globals(), "mask", no_mask)
    first, second = _views(tmp_path, task, (0, 2), monkeypatch)
    assert min(_p_values(first, second)) < ALPHA**3


class _NoNetwork:
    """An owner that only computes needs none."""


def _difference_of_two_vectors(folder: Path, task: Task) -> NDArray[np.uint64]:
    """Let an owner and its clone, which holds other records, make uploads for one round, and subtract them."""
    from mpcdp.plan import make_plan

    plan, tables = make_plan(task), [_tables(task, kind)["owner-1"] for kind in ("random", "constant")]
    method = task.method()
    ref = SessionRef(task_digest=task.digest, session=random_key())
    with Ledger(folder / "ledger.db") as ledger:
        network = _NoNetwork()
        original = Owner("owner-1", task, plan, tables[0], network, ledger, folder)  # type: ignore[arg-type]
        clone = copy.copy(original)
        uploads = [
            owner._share(
                ref, History(ref, plan.digest), method.contribution(table, method.initial_state(), key=bytes(32))
            )
            for owner, table in zip((original, clone), tables, strict=True)
        ]
    return (uploads[0].values - uploads[1].values).view(np.uint64)


def test_two_vectors_of_one_round_never_share_a_mask(
    tmp_path: Path, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cloned or restored owner that encodes another vector for the same round hands nobody their difference."""

    def high_bits(differences: NDArray[np.uint64]) -> float:
        return float(kstest((differences >> np.uint64(32)) / 2.0**32, "uniform").pvalue)

    differences = np.concatenate([_difference_of_two_vectors(tmp_path / f"a{i}", task) for i in range(8)])
    assert high_bits(differences) > ALPHA
    # The same test with a nonce that forgets the vector, so that one mask serves both.
    monkeypatch.setattr(owner_role, "mask_nonce", lambda secret, **_: secret)
    reused = np.concatenate([_difference_of_two_vectors(tmp_path / f"b{i}", task) for i in range(8)])
    assert high_bits(reused) < ALPHA**3
