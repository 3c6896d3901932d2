"""Wrong identities against a real process: refused, and in its log."""

import datetime
import time
import tomllib
from collections.abc import Iterator

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from farmed_network import Farm, FarmedNetwork
from hostile_network import make
from networks import TestNetwork

from mpcdp.secret_sharing.owner_set import OwnerSet
from mpcdp.transport import codec, frames
from mpcdp.transport.access import CALLERS, MESH, REACH
from mpcdp.transport.channel import Role
from mpcdp.transport.grpc.options import path_of
from mpcdp.transport.messages import Aggregate, Attendance, DealRequest, Enrolment, Greeting, SessionRef
from mpcdp.transport.tls import Authority

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

_REF = SessionRef(task_digest=bytes(32), session=bytes(32))


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestNetwork, FarmedNetwork]]:
    """All processes that listen, waiting for a session that does not come."""
    made = make(tmp_path_factory.mktemp("identity"), "output joint 2", start_seconds=300.0)
    with Farm() as farm, FarmedNetwork(made.folder, farm) as network:
        network.start("coordinator", "dealer", "party-1", "party-2")
        for name in ("coordinator", "dealer", "party-1", "party-2"):
            _wait_for(network, name, "waiting for ")
        yield made, network


def _wait_for(network: FarmedNetwork, name: str, words: str) -> None:
    end = time.monotonic() + 30
    while not network.log(name).exists() or words not in network.log(name).read_text():
        assert time.monotonic() < end, f"{name} never logs {words!r}: {network.log(name).read_text()}"
        time.sleep(0.02)


def _authority(made: TestNetwork) -> Authority:
    """Return the network's authority, as who stole its key would have it."""
    authority = Authority("thief")
    folder = made.folder / "authority"
    certificate = x509.load_pem_x509_certificate((folder / "authority.crt").read_bytes())
    key = load_pem_private_key((folder / "authority.key").read_bytes(), None)
    vars(authority).update(_certificate=certificate, _key=key, _subject=certificate.subject)
    return authority


def _pair(made: TestNetwork, kind: str) -> tuple[bytes | None, bytes | None]:
    """Return the certificate and key of a wrong identity."""
    name = made.task.compute_parties[0].certificate
    match kind:
        case "no certificate":
            return None, None
        case "another authority":
            return Authority("another").issue(name)
        case "expired":
            authority = _authority(made)
            vars(authority).update(_valid_for=datetime.timedelta(minutes=-1))
            return authority.issue(name)
        case _:
            return _authority(made).issue(kind)


def _call(made: TestNetwork, server: str, pair: tuple[bytes | None, bytes | None], method: str, data: bytes) -> str:
    """Call a process, and return the code with which that ends."""
    address = _address(made, server)
    certificate, key = pair
    trusted = (made.folder / "authority" / "authority.crt").read_bytes()
    credentials = grpc.ssl_channel_credentials(trusted, key, certificate)
    options = [("grpc.ssl_target_name_override", made.task.member(server, _role(made, server)).certificate)]
    with grpc.secure_channel(address, credentials, options=options) as channel:
        try:
            start: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(path_of(method))
            list(start(iter([data]), timeout=3))
        except grpc.RpcError as error:
            return str(error.code().name)
    return "OK"


def _role(made: TestNetwork, name: str) -> Role:
    return next(member.role for member in made.task.members() if member.name == name)


def _address(made: TestNetwork, server: str) -> str:
    role = _role(made, server)
    return str(tomllib.loads((made.folder / server / f"{role}.toml").read_text())["listen"])


def _greeting(name: str) -> bytes:
    return codec.write_greeting(Greeting(name=name, task_digest=bytes(32), version="0.1.0", time=time.time()))


def _message(method: str, claim: str) -> bytes:
    """Return a message of a method that says, where it says who speaks, that it is a member."""
    match method.partition("/")[2]:
        case "Attend":
            return codec.write_attendance(Attendance(bytes(32), claim, 20))
        case "Enrol":
            return codec.write_enrolment(Enrolment(_REF, claim, bytes(32)))
        case "Deal":
            return codec.write_deal_request(DealRequest(_REF, claim, bytes(32), "noise", 1024, bytes(32)))
        case "Aggregate":
            return codec.write_aggregate(Aggregate(_REF, 0, OwnerSet.of([0])))
        case "CloseSession":
            return codec.write_close_session(_REF, "an intruder says so")
        case "Reach":
            return _greeting(claim)
        case _:
            return codec.write_open_session(_REF)


_STRANGERS = ("no certificate", "another authority", "expired")


def test_who_has_no_certificate_of_the_network_gets_no_connection_and_is_logged(
    servers: tuple[TestNetwork, FarmedNetwork],
) -> None:
    """What was wrong with a certificate and where it came from, gRPC does not say; how many there were, is known."""
    made, network = servers
    before = {server: len(list(network.events(server))) for server in ("coordinator", "dealer", "party-1")}
    for server in before:
        for kind in _STRANGERS:
            assert _call(made, server, _pair(made, kind), REACH, _greeting("party-1")) == "UNAVAILABLE"
    end = time.monotonic() + 60
    for server, count in before.items():
        while (failed := _failed_handshakes(network, server, count)) < len(_STRANGERS):
            assert time.monotonic() < end, f"{server} has logged {failed} failed handshakes"
            time.sleep(0.5)
        assert network.process(server).poll() is None
        entries = list(network.events(server))[count:]
        assert not [entry for entry in entries if entry["event"] == "refused"]  # not even a call


def _failed_handshakes(network: FarmedNetwork, server: str, before: int) -> int:
    """Count those that a process has logged after so many entries."""
    entries = list(network.events(server))[before:]
    return sum(int(entry["connections"]) for entry in entries if entry["event"] == "handshakes failed")


@pytest.mark.parametrize("name", ["party-9", "*", "party-1.evil.example", "PARTY-1", "xn--party-1-0000"])
def test_a_certificate_of_no_member_is_refused_and_logged(
    servers: tuple[TestNetwork, FarmedNetwork], name: str
) -> None:
    made, network = servers
    assert _call(made, "party-1", _pair(made, name), REACH, _greeting("party-2")) == "PERMISSION_DENIED"
    _logged(network, "party-1", "IdentityError", name)


_ROLES = {"owner-1": "owner", "party-2": "compute", "dealer": "dealer", "coordinator": "coordinator"}


@pytest.mark.parametrize("caller", _ROLES)
@pytest.mark.parametrize("server", ["coordinator", "dealer", "party-1"])
def test_nobody_acts_in_a_role_that_is_not_its_own(
    servers: tuple[TestNetwork, FarmedNetwork], caller: str, server: str
) -> None:
    """Every method, called by every role that may not call it, under its own name and under one that might."""
    made, network = servers
    pair = _pair(made, next(member.certificate for member in made.task.members() if member.name == caller))
    tried = 0
    for (role, method), allowed in CALLERS.items():
        if role != _role(made, server) or _ROLES[caller] in allowed:
            continue
        for claim in {caller, *(name for name, other in _ROLES.items() if other in allowed)}:
            assert _call(made, server, pair, method, _message(method, claim)) == "PERMISSION_DENIED", method
            _logged(network, server, "IdentityError", f"{caller} has role {_ROLES[caller]} and may not call {method}")
            tried += 1
    assert tried or (caller, server) in {("owner-1", "coordinator")}


@pytest.mark.parametrize(
    ("server", "method", "caller", "claim"),
    [
        ("coordinator", "Coordinator/Attend", "owner-1", "owner-2"),
        ("party-1", "ComputeParty/Enrol", "owner-2", "owner-1"),
        ("dealer", "Dealer/Deal", "party-1", "party-2"),
        ("party-1", REACH, "party-2", "coordinator"),
        ("dealer", REACH, "owner-1", "party-1"),
    ],
)
def test_nobody_speaks_for_another_member(
    servers: tuple[TestNetwork, FarmedNetwork], server: str, method: str, caller: str, claim: str
) -> None:
    made, network = servers
    pair = _pair(made, next(member.certificate for member in made.task.members() if member.name == caller))
    assert _call(made, server, pair, method, _message(method, claim)) == "PERMISSION_DENIED"
    _logged(network, server, "IdentityError", f"{caller}: ", "claims to be another process")


def test_a_party_takes_no_mesh_from_an_owner_with_a_stolen_name_in_its_hello(
    servers: tuple[TestNetwork, FarmedNetwork],
) -> None:
    made, network = servers
    hello = frames.write_hello("party-2", frames.Hello(_REF, ("party-1", "party-2")))
    assert _call(made, "party-1", _pair(made, "owner-1"), MESH, hello) == "PERMISSION_DENIED"
    _logged(network, "party-1", "IdentityError", f"owner-1 has role owner and may not call {MESH}")


def _logged(network: FarmedNetwork, server: str, error: str, *words: str) -> None:
    """Check that a process has logged a refusal."""
    end = time.monotonic() + 5
    while time.monotonic() < end:
        for entry in network.events(server):
            text = f"{entry.get('caller')} {entry.get('problem')}"
            if entry.get("event") == "refused" and entry["error"] == error and all(word in text for word in words):
                return
        time.sleep(0.05)
    raise AssertionError(f"{server} has not logged {words}: {network.log(server).read_text()[-2000:]}")
