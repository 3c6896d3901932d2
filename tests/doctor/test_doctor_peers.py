"""What the doctor finds between processes: real TLS on loopback, one fault at a time."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest
from examined import ExaminedNetwork, errors, of, warnings

from mpcdp.doctor import Finding, peers
from mpcdp.errors import ProtocolError
from mpcdp.transport import peer_network, reception
from mpcdp.transport.channel import Member
from mpcdp.transport.greeting import greeting_of
from mpcdp.transport.messages import Greeting, SessionRef
from mpcdp.transport.tls import Authority


@pytest.fixture(name="net")
def _net(tmp_path: Path) -> ExaminedNetwork:
    return ExaminedNetwork(tmp_path)


def _peer(net: ExaminedNetwork, name: str, *, of_process: str = "compute-2") -> Finding:
    """Examine a process and return what it says about one peer."""
    (finding,) = [
        finding
        for finding in net.examine(of_process)
        if finding.check in ("peers", "clock", "versions") and finding.text.startswith(name)
    ]
    return finding


def test_whoever_calls_is_whom_the_firewall_table_lists(net: ExaminedNetwork) -> None:
    by_name = {member.name: member for member in net.task.members()}

    def names(members: tuple[Member, ...]) -> set[str]:
        return {member.name for member in members}

    assert names(peers.called(net.task, by_name["hospital-2"])) == {
        "coordinator",
        "compute-1",
        "compute-2",
        "compute-3",
    }
    assert names(peers.called(net.task, by_name["compute-1"])) == {"dealer"}
    assert names(peers.called(net.task, by_name["compute-3"])) == {"dealer", "compute-1", "compute-2"}
    assert names(peers.called(net.task, by_name["dealer"])) == set()
    assert names(peers.callers(net.task, by_name["dealer"])) == {"coordinator", "compute-1", "compute-2", "compute-3"}
    assert names(peers.callers(net.task, by_name["hospital-1"])) == set()


def test_doctors_of_all_processes_find_each_other(net: ExaminedNetwork) -> None:
    findings: dict[str, list[Finding]] = {}

    def examine(name: str) -> None:
        findings[name] = net.examine(name, wait_seconds=60)

    threads = [threading.Thread(target=examine, args=(member.name,)) for member in net.task.members()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
    assert len(findings) == 8
    for name, found in findings.items():
        assert errors(found) == [], name
        assert not of("callers", found), name
    reached = [finding.text for finding in of("peers", findings["compute-2"])]
    assert [text.partition(":")[0] for text in reached] == [
        "dealer", "compute-1", "coordinator", "compute-3", "hospital-1", "hospital-2", "hospital-3"
    ]  # fmt: skip
    assert sum("has called" in text for text in reached) == 5


def test_peers_that_are_not_there_yet(net: ExaminedNetwork) -> None:
    findings = net.examine("compute-2")
    assert errors(findings) == []
    absent = [text for text in warnings(findings) if "is not there yet" in text]
    assert [text.split()[1] for text in absent] == ["dealer", "compute-1"]
    assert all("start it, or its `mpcdp doctor --wait`" in text for text in absent)
    # Whoever waits for them wants them to come.
    waited = net.examine("compute-2", wait_seconds=0.2)
    assert len([text for text in errors(waited) if "is not there yet" in text]) == 2
    assert any("hospital-1 has not called within 0.2 s" in text for text in errors(waited))


def test_a_peer_that_is_well(net: ExaminedNetwork) -> None:
    with net.serving("dealer") as dealer:
        finding = _peer(net, "dealer")
        assert set(dealer.greeted()) == {"compute-2"}
    assert finding.level == "ok"
    assert "each accepts the other's certificate, same task" in finding.text


def test_a_peer_with_another_task(net: ExaminedNetwork) -> None:
    other = bytes(range(32))
    with net.serving("dealer", task_digest=other):
        finding = _peer(net, "dealer")
    assert finding.level == "error"
    for part in (other.hex()[:16], net.task.digest.hex()[:16], "give every process the same task.toml"):
        assert part in finding.text


def test_a_peer_whose_certificate_another_authority_signed(net: ExaminedNetwork) -> None:
    stranger = Authority("a stranger")
    net.reissue("dealer", stranger, trusted=stranger.certificate + net.authority.certificate)
    with net.serving("dealer"):
        finding = _peer(net, "dealer")
    assert finding.level == "error"
    assert "not from this task's authority: use certificates of one authority everywhere" in finding.text


def test_a_peer_that_does_not_accept_this_certificate(net: ExaminedNetwork) -> None:
    stranger = Authority("a stranger")
    net.reissue("compute-2", stranger, trusted=stranger.certificate + net.authority.certificate)
    with net.serving("dealer"):
        finding = _peer(net, "dealer")
    assert finding.level == "error"
    assert "does not accept this process's certificate" in finding.text
    assert "check its address" in finding.cure


def test_an_address_of_somebody_else(net: ExaminedNetwork) -> None:
    net.change("compute-2", peers={"dealer": net.address("compute-1")})
    with net.serving("compute-1"):
        finding = _peer(net, "dealer")
    assert finding.level == "error"
    assert "has no certificate for dealer.example.net: correct the address under [peers]" in finding.text


def test_an_address_that_does_not_exist(net: ExaminedNetwork) -> None:
    net.change("compute-2", peers={"dealer": "dealer.invalid:5001"})
    finding = _peer(net, "dealer")
    assert finding.level == "error"
    assert "check its address under [peers]" in finding.cure


def test_an_address_that_is_missing_and_one_too_many(net: ExaminedNetwork) -> None:
    net.change("compute-2", peers={"deeler": "127.0.0.1:1"})
    text = net.config("compute-2").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("dealer =")]
    net.config("compute-2").write_text("\n".join(lines) + "\n")
    findings = net.examine("compute-2")
    assert any('dealer has no address -> add dealer = "host:port"' in text for text in errors(findings))
    assert any("deeler under [peers] is not in the task" in text for text in warnings(findings))


@pytest.mark.parametrize(("shift", "words"), [(61.5, "ahead of"), (-61.5, "behind"), (58.0, None)])
def test_a_clock_that_is_off(
    net: ExaminedNetwork, monkeypatch: pytest.MonkeyPatch, shift: float, words: str | None
) -> None:
    honest = greeting_of

    def shifted(me: Member, task_digest: bytes) -> Greeting:
        greeting = honest(me, task_digest)
        return replace(greeting, time=greeting.time + shift)

    monkeypatch.setattr(reception, "greeting_of", shifted)
    with net.serving("dealer"):
        finding = _peer(net, "dealer")
    if words is None:
        assert finding.level == "ok"
    else:
        assert (finding.check, finding.level) == ("clock", "warning")
        assert words in finding.text
        assert "NTP" in finding.cure


def test_the_clock_of_a_caller_is_compared_when_it_calls(net: ExaminedNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        peer_network,
        "greeting_of",
        lambda me, digest: replace(greeting_of(me, digest), time=greeting_of(me, digest).time - 90),
    )
    found: list[Finding] = []
    thread = threading.Thread(target=lambda: found.extend(net.examine("dealer", wait_seconds=2)))
    thread.start()
    net.examine("coordinator", wait_seconds=2)
    thread.join(30)
    (finding,) = of("clock", found)
    assert "coordinator: its clock is 90 s behind" in finding.text


def test_another_version(net: ExaminedNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = greeting_of
    monkeypatch.setattr(
        reception, "greeting_of", lambda me, task_digest: replace(honest(me, task_digest), version="0.0.9")
    )
    with net.serving("dealer"):
        finding = _peer(net, "dealer")
    assert (finding.check, finding.level) == ("versions", "warning")
    assert "runs mpcdp 0.0.9" in finding.text


def test_another_clock_does_not_hide_another_version(net: ExaminedNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    def other(me: Member, task_digest: bytes) -> Greeting:
        greeting = greeting_of(me, task_digest)
        return replace(greeting, version="0.0.9", time=greeting.time + 90)

    monkeypatch.setattr(reception, "greeting_of", other)
    with net.serving("dealer"):
        findings = net.examine("compute-2")
    assert any("dealer: its clock is 90 s ahead" in text for text in warnings(findings))
    assert any("dealer: it runs mpcdp 0.0.9" in text for text in warnings(findings))


def test_a_doctor_answers_nothing_but_greetings(net: ExaminedNetwork) -> None:
    """A session that starts meanwhile is told so, and no part of it takes place."""
    with net.serving("dealer"), net.serving("coordinator") as coordinator:
        coordinator._addresses["dealer"] = net.address("dealer")
        with pytest.raises(ProtocolError, match="`mpcdp doctor` runs here"):
            coordinator.dealer("dealer").open_session("", SessionRef(net.task.digest, bytes(32)))
