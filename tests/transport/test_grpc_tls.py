"""Who is let in over TLS, and how little is open: attacks with real certificates on a real port."""

import datetime
import re
import threading
from collections.abc import Iterator
from concurrent import futures
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from network_worlds import (
    LIMITS,
    MEMBERS,
    REF,
    GrpcTestWorld,
    StubService,
    free_port,
    member,
    raises,
    write_credentials,
)

from mpcdp.config import TlsFiles
from mpcdp.errors import ConfigError, IdentityError, PeerUnavailable
from mpcdp.transport import codec
from mpcdp.transport.channel import Member
from mpcdp.transport.greeting import NO_TASK
from mpcdp.transport.grpc import GrpcNetwork
from mpcdp.transport.messages import Aborted, Attendance, Enrolment, SessionEvent
from mpcdp.transport.tls import Authority

_QUICK = replace(LIMITS, connect_seconds=0.5)
_ENROLMENT = Enrolment(REF, "owner-0", bytes(range(100, 132)))
_PATH = "/mpcdp.pb.ComputeParty/Enrol"
_STYLE = re.compile(r"\x1b\[\d*m")


@pytest.fixture
def authority() -> Authority:
    return Authority("this network")


@pytest.fixture
def world(tmp_path: Path, authority: Authority) -> Iterator[GrpcTestWorld]:
    with GrpcTestWorld(tmp_path / "world", authority) as world:
        yield world


def _attack(
    world: GrpcTestWorld, trusted: bytes, pair: tuple[bytes, bytes] | None, *, timeout: float | None = 5
) -> grpc.StatusCode:
    """Enrol with whatever certificate, and return how the call ended."""
    certificate, key = pair or (None, None)
    credentials = grpc.ssl_channel_credentials(trusted, key, certificate)
    options = [("grpc.ssl_target_name_override", member("compute-0").certificate)]
    with grpc.secure_channel(world.addresses["compute-0"], credentials, options=options) as channel:
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(_PATH)
        try:
            call(codec.write_enrolment(_ENROLMENT), timeout=timeout)
        except grpc.RpcError as error:
            return error.code()
    return grpc.StatusCode.OK


class TestClients:
    def test_the_attack_itself_works_with_the_right_certificate(
        self, world: GrpcTestWorld, authority: Authority, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """And methods are on the wire what the protos say, although the server takes all for streams."""
        service = StubService()
        world.serve("compute-0", service)
        pair = authority.issue(member("owner-0").certificate)
        assert _attack(world, authority.certificate, pair) == grpc.StatusCode.OK
        assert service.calls == [("enrol", "owner-0", _ENROLMENT)]
        world.stop("compute-0")
        assert "handshakes failed" not in capsys.readouterr().out

    @pytest.mark.parametrize(
        "kind", ["none", "other authority", "authority of the same name", "expired", "self-signed"]
    )
    def test_a_certificate_that_is_not_ours_never_gets_through_and_is_logged(
        self, world: GrpcTestWorld, authority: Authority, kind: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        service = StubService()
        world.serve("compute-0", service)
        name = member("owner-0").certificate
        pair: tuple[bytes, bytes] | None = None
        match kind:
            case "other authority":
                pair = Authority("another network").issue(name)
            case "authority of the same name":
                pair = Authority("this network").issue(name)
            case "expired":
                authority._valid_for = datetime.timedelta(minutes=-1)
                pair = authority.issue(name)
            case "self-signed":
                alone = Authority(name)
                pair = (alone.certificate, alone.key)
        assert _attack(world, authority.certificate, pair) == grpc.StatusCode.UNAVAILABLE
        assert service.calls == []
        world.stop("compute-0")  # a server that goes on says it within half a minute
        assert re.search(r"handshakes failed +connections=1 ", _STYLE.sub("", capsys.readouterr().out))

    @pytest.mark.parametrize(
        "name",
        ["owner-9.example.org", "*.example.org", "owner-0.example.org.evil.com", "OWNER-0.example.org", "owner-0"],
    )
    def test_a_certificate_of_no_member_is_refused(
        self, world: GrpcTestWorld, authority: Authority, name: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        service = StubService()
        world.serve("compute-0", service)
        assert _attack(world, authority.certificate, authority.issue(name)) == grpc.StatusCode.PERMISSION_DENIED
        assert service.calls == []
        log = capsys.readouterr().out
        assert "IdentityError" in log
        assert name in log
        assert "ComputeParty/Enrol" in log

    def test_a_call_without_a_deadline_is_refused(self, world: GrpcTestWorld, authority: Authority) -> None:
        service = StubService()
        world.serve("compute-0", service)
        pair = authority.issue(member("owner-0").certificate)
        code = _attack(world, authority.certificate, pair, timeout=None)
        assert code == grpc.StatusCode.FAILED_PRECONDITION
        assert service.calls == []

    def test_without_tls_nobody_answers(self, world: GrpcTestWorld) -> None:
        world.serve("compute-0", StubService())
        with grpc.insecure_channel(world.addresses["compute-0"]) as channel:
            call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(_PATH)
            with pytest.raises(grpc.RpcError) as raised:
                call(b"", timeout=1)
        assert raised.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)

    def test_a_process_that_is_not_accepted_learns_why_it_cannot_connect(
        self, world: GrpcTestWorld, authority: Authority, tmp_path: Path
    ) -> None:
        """TLS 1.3 tells a client late and badly; the error names the likely cause."""
        world.serve("compute-0", StubService())
        other = Authority("another network")
        bundle = authority.certificate + other.certificate
        files = write_credentials(tmp_path / "other", member("owner-0").certificate, authority=other, trusted=bundle)
        network = world.network(member("owner-0"), limits=_QUICK, tls=files)
        with raises(PeerUnavailable, "compute-0", "does not accept this process's certificate"):
            network.compute_party("compute-0").enrol("", _ENROLMENT)

    def test_refusals_are_logged_without_content(
        self, world: GrpcTestWorld, capsys: pytest.CaptureFixture[str]
    ) -> None:
        world.serve("compute-0", StubService())
        with pytest.raises(IdentityError):
            world.network(member("owner-1")).compute_party("compute-0").enrol("", _ENROLMENT)
        log = "".join(capsys.readouterr())
        assert "owner-1" in log
        assert "IdentityError" in log
        assert _ENROLMENT.key.hex() not in log


@contextmanager
def _impostor(address: str, pair: tuple[bytes, bytes]) -> Iterator[None]:
    """Listen at an address with whatever certificate."""
    server = grpc.server(futures.ThreadPoolExecutor(1))
    certificate, key = pair
    server.add_secure_port(address, grpc.ssl_server_credentials([(key, certificate)]))
    server.start()
    try:
        yield
    finally:
        server.stop(None)


class TestServers:
    @pytest.mark.parametrize(
        ("kind", "cure"),
        [
            ("other authority", "renew"),
            ("expired", "renew"),
            ("other name", "correct the address"),
            ("client", "address"),
        ],
    )
    def test_an_impostor_is_noticed_at_once(
        self, world: GrpcTestWorld, authority: Authority, kind: str, cure: str
    ) -> None:
        name = member("compute-0").certificate
        match kind:
            case "other authority":
                pair = Authority("this network").issue(name)
            case "expired":
                authority._valid_for = datetime.timedelta(minutes=-1)
                pair = authority.issue(name)
                authority._valid_for = datetime.timedelta(days=1)
            case "other name":
                pair = authority.issue(member("compute-1").certificate)
            case _:
                pair = authority.issue(member("owner-1").certificate)
        network = world.network(member("owner-0"))
        with _impostor(world.addresses["compute-0"], pair), raises(IdentityError, "compute-0", cure):
            network.compute_party("compute-0").enrol("", _ENROLMENT)

    def test_one_process_opens_one_port(self, world: GrpcTestWorld) -> None:
        before = _listening()
        world.serve("compute-0", StubService())
        world.network(member("owner-0")).compute_party("compute-0").enrol("", _ENROLMENT)
        opened = _listening() - before
        assert {port for _, port in opened} == {int(world.addresses["compute-0"].rpartition(":")[2])}
        world.stop("compute-0")
        assert not _listening() & opened

    def test_a_taken_port_is_an_error_with_a_cure(self, world: GrpcTestWorld) -> None:
        world.serve("compute-0", StubService())
        world.addresses["compute-1"] = world.addresses["compute-0"]
        with (
            raises(ConfigError, "compute-1", world.addresses["compute-0"], "`listen`"),
            world.network(member("compute-1")).serve(StubService()),
        ):
            pass

    @pytest.mark.parametrize("address", ["192.0.2.1:5001", "no-such-host.invalid:5001"])
    def test_a_foreign_address_is_an_error_with_a_cure(self, world: GrpcTestWorld, address: str) -> None:
        world.addresses["compute-1"] = address
        with (
            raises(ConfigError, "compute-1", address, "`listen`"),
            world.network(member("compute-1")).serve(StubService()),
        ):
            pass

    def test_without_an_address_nobody_is_answered_or_called(self, world: GrpcTestWorld, tmp_path: Path) -> None:
        files = write_credentials(tmp_path / "files", member("compute-0").certificate)
        network = GrpcNetwork(member("compute-0"), MEMBERS, {}, files, LIMITS, None, task_digest=NO_TASK)
        with raises(ConfigError, "compute-0", "listen"), network.serve(StubService()):
            pass
        with raises(ConfigError, "dealer", "[peers]"):
            network.dealer("dealer").open_session("", REF)

    def test_a_proxy_in_the_environment_is_ignored(self, world: GrpcTestWorld, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("http_proxy", "https_proxy", "grpc_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
        world.serve("compute-0", StubService())
        world.network(member("owner-0"), limits=_QUICK).compute_party("compute-0").enrol("", _ENROLMENT)

    def test_bad_credentials_stop_a_process_before_it_connects(self, world: GrpcTestWorld, tmp_path: Path) -> None:
        missing = TlsFiles(authority=tmp_path / "a", certificate=tmp_path / "b", key=tmp_path / "c")
        with raises(ConfigError, "tls.authority"):
            world.network(member("owner-0"), tls=missing)


def _listening() -> set[tuple[int, int]]:
    """(inode, port) of the TCP sockets on which this process listens."""
    inodes = set()
    for link in Path("/proc/self/fd").iterdir():
        try:
            target = str(link.readlink())
        except OSError:
            continue
        if target.startswith("socket:["):
            inodes.add(int(target[8:-1]))
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/self/net/{table}").read_text().splitlines()[1:]:
            columns = line.split()
            if columns[3] == "0A" and int(columns[9]) in inodes:
                found.add((int(columns[9]), int(columns[1].rpartition(":")[2], 16)))
    return found


def test_many_attending_owners_leave_room_for_everybody(tmp_path: Path) -> None:
    """Every owner's stream holds a thread of the coordinator for the whole session."""
    count = 120
    owners = [Member(f"owner-{index}", "owner", f"owner-{index}.example.org") for index in range(count)]
    members = [member("coordinator"), *owners]
    over = threading.Event()
    arrived = threading.Semaphore(0)

    def attend(caller: str, attendance: Attendance) -> Iterator[SessionEvent]:
        arrived.release()
        assert over.wait(30)
        yield Aborted(f"goodbye {caller}")

    with GrpcTestWorld(tmp_path) as world:
        coordinator = world.network(member("coordinator"), members=members)
        with coordinator.serve(StubService(attend=attend)):
            streams = [
                world.network(owner, members=members)
                .coordinator("coordinator")
                .attend("", Attendance(bytes(32), owner.name, 5))
                for owner in owners
            ]
            for _ in owners:
                assert arrived.acquire(timeout=10)
            over.set()
            received = [list(stream) for stream in streams]
    assert received == [[Aborted(f"goodbye {owner.name}")] for owner in owners]


def test_names_without_dots_are_names_too(tmp_path: Path) -> None:
    members = [Member("party-1", "compute", "party-1"), Member("owner-1", "owner", "owner-1")]
    service = StubService()
    with GrpcTestWorld(tmp_path) as world:
        world.addresses["party-1"] = f"127.0.0.1:{free_port()}"
        owner = world.network(members[1], members=members)
        with world.network(members[0], members=members).serve(service):
            owner.compute_party("party-1").enrol("", Enrolment(REF, "owner-1", bytes(32)))
        with _impostor(world.addresses["party-1"], _issue_for("party-2", world)), raises(IdentityError, "party-1"):
            world.network(members[1], members=members).compute_party("party-1").enrol("", _ENROLMENT)
    assert len(service.calls) == 1


def _issue_for(name: str, world: GrpcTestWorld) -> tuple[bytes, bytes]:
    files = write_credentials(world.folder / f"for-{name}", name)
    return files.certificate.read_bytes(), files.key.read_bytes()


def test_closing_a_network_ends_what_is_under_way(world: GrpcTestWorld) -> None:
    over = threading.Event()
    world.serve("coordinator", StubService(attend=lambda *_: iter([over.wait(10)])))
    network = world.network(member("owner-0"))
    with closing(network):
        stream = network.coordinator("coordinator").attend("", Attendance(bytes(32), "owner-0", 5))
    with raises(PeerUnavailable, "coordinator"):
        next(stream)
    over.set()
