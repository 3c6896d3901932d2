"""A batch is dealt once, from fresh secrets, and only for what the plan needs."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from session_world import make_task

from mpcdp.errors import BegunAnew, PeerTimeout, ProtocolError
from mpcdp.mpc.dealing import correction_words, schedule_digest
from mpcdp.plan import make_plan
from mpcdp.roles.compute_party import ComputeParty
from mpcdp.roles.dealer import Dealer
from mpcdp.task import Task
from mpcdp.transport.messages import DealRequest, SessionRef

PARTIES = ("party-1", "party-2")


@pytest.fixture(name="task", scope="module")
def _task() -> Task:
    per_party = make_task({"owner-1": 20, "owner-2": 35}, parties=2, features=3, seconds=2.0)
    document = per_party.model_dump(mode="json", by_alias=True)
    document["privacy"]["noise"] = "joint"
    document["dealer"] = {"name": "dealer"}
    return Task.model_validate(document)


def _dealer(task: Task) -> Dealer:
    network: Any = None
    return Dealer(task, make_plan(task), network)


def _request(task: Task, party: str) -> DealRequest:
    plan = make_plan(task)
    return DealRequest(
        ref=SessionRef(task_digest=task.digest, session=b"s" * 32),
        party=party,
        nonce=party.encode().ljust(32, b"."),
        batch="noise-1",
        samples=plan.dimension * plan.rounds,
        schedule_digest=schedule_digest(plan.noise_schedule),
    )


def _deal(dealer: Dealer, task: Task) -> list[tuple[bytes, bytes]]:
    """Let both parties ask at once, and return each one's seed and corrections."""
    dealer.open_session("coordinator", _request(task, "party-1").ref)
    with ThreadPoolExecutor() as pool:
        answers = list(pool.map(lambda party: dealer.deal(party, _request(task, party)), PARTIES))
    return [(seed, b"".join(corrections)) for seed, corrections in answers]


def test_every_batch_has_fresh_seeds_even_for_the_same_nonces(task: Task) -> None:
    """A dealer and parties that are all restored from the same snapshot still share nothing with the past."""
    batches = [_deal(_dealer(task), task) for _ in range(3)]
    seeds = [seed for batch in batches for seed, _ in batch]
    assert len(set(seeds)) == 6
    corrections = [batch[0][1] for batch in batches]
    assert len(set(corrections)) == 3
    assert all(batch[1][1] == b"" for batch in batches)  # only rank 0 is sent any


def test_a_party_is_dealt_once(task: Task) -> None:
    dealer = _dealer(task)
    _deal(dealer, task)
    with pytest.raises(ProtocolError, match="dealt once"):
        dealer.deal("party-1", _request(task, "party-1"))


def test_what_the_plan_does_not_need_is_refused(task: Task) -> None:
    dealer, good = _dealer(task), _request(task, "party-1")
    dealer.open_session("coordinator", good.ref)
    for bad, words in (
        (replace(good, batch="more"), "no batch"),
        (replace(good, schedule_digest=bytes(32)), "does not fit"),
        (_of(good, task, 1025), "1025 samples of noise, the task needs 1024"),
        (replace(good, samples=0), "does not fit"),
        (replace(good, ref=replace(good.ref, session=bytes(32))), "another session"),
        (replace(good, ref=replace(good.ref, task_digest=bytes(32))), "task"),
    ):
        with pytest.raises(ProtocolError, match=words):
            dealer.deal("party-1", bad)


def _of(request: DealRequest, task: Task, samples: int) -> DealRequest:
    schedule = make_plan(task).noise.schedule(samples) if samples else ()
    return replace(request, samples=samples, schedule_digest=schedule_digest(schedule))


@pytest.mark.parametrize("samples", [0, 1024])
def test_parties_ask_for_as_many_samples_as_their_pools_lack(task: Task, samples: int) -> None:
    dealer = _dealer(task)
    requests = {party: _of(_request(task, party), task, samples) for party in PARTIES}
    dealer.open_session("coordinator", requests["party-1"].ref)
    with ThreadPoolExecutor() as pool:
        answers = list(pool.map(lambda party: dealer.deal(party, requests[party]), PARTIES))
    sizes = [sum(map(len, corrections)) for _, corrections in answers]
    words = sum(correction_words(request) for request in make_plan(task).noise.schedule(1024)) if samples else 0
    assert sizes == [8 * words, 0]
    dealer._desk.wait_until_dealt("noise-1", seconds=0)


def test_parties_that_lack_different_numbers_are_dealt_nothing(task: Task) -> None:
    dealer = _dealer(task)
    first, second = _of(_request(task, "party-1"), task, 0), _of(_request(task, "party-2"), task, 1024)
    dealer.open_session("coordinator", first.ref)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(dealer.deal, "party-1", first)
        while not dealer._desk._requests:
            time.sleep(0.01)
        with pytest.raises(ProtocolError, match="party-2 asks for 1024 samples, party-1 for 0"):
            dealer.deal("party-2", second)
        with pytest.raises(PeerTimeout, match="party-2"):
            waiting.result()


def test_a_party_asks_with_a_fresh_nonce(task: Task) -> None:
    asked: list[DealRequest] = []

    class Network:
        def dealer(self, name: str) -> "Network":
            return self

        def deal(self, caller: str, request: DealRequest) -> tuple[bytes, Any]:
            asked.append(request)
            return bytes(32), iter(())

    network: Any = Network()
    other: Any = None
    for _ in range(2):
        party = ComputeParty("party-1", task, make_plan(task), network, other, other)
        party._ask_dealer(_request(task, "party-1").ref, "noise-x", 4, make_plan(task).noise_schedule)
    assert asked[0].nonce != asked[1].nonce
    assert asked[0].schedule_digest == _request(task, "party-1").schedule_digest


def test_a_party_that_begins_anew_gives_its_batch_up(task: Task) -> None:
    """Nobody waits for the batch of an attempt that broke off, and the next one is dealt from other seeds."""
    dealer = _dealer(task)
    requests = {party: _request(task, party) for party in PARTIES}
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(dealer.deal, "party-1", requests["party-1"])
        while not dealer._desk._requests:
            time.sleep(0.01)
        again = {party: replace(request, batch="noise-2") for party, request in requests.items()}
        answers = list(pool.map(lambda party: dealer.deal(party, again[party]), PARTIES))
        with pytest.raises(BegunAnew, match="anew"):
            waiting.result(1)
    assert [sum(map(len, corrections)) > 0 for _, corrections in answers] == [True, False]
    with pytest.raises(ProtocolError, match="dealt once"):
        dealer.deal("party-1", again["party-1"])


def test_a_dealer_that_is_started_again_takes_the_session_up_from_a_party(task: Task) -> None:
    dealer = _dealer(task)
    requests = {party: _request(task, party) for party in PARTIES}
    with ThreadPoolExecutor() as pool:
        answers = list(pool.map(lambda party: dealer.deal(party, requests[party]), PARTIES))
    assert len({seed for seed, _ in answers}) == 2
    dealer.open_session("coordinator", requests["party-1"].ref)
    with pytest.raises(ProtocolError, match="another session"):
        dealer.deal("party-1", replace(requests["party-1"], ref=replace(requests["party-1"].ref, session=bytes(32))))
