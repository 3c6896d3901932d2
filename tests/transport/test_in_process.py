"""The network between threads keeps the contract, and its faults do what they say."""

import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from access_contract import AccessContract
from call_contract import CallContract
from mesh_contract import MeshContract
from network_worlds import LIMITS, REF, InProcessTestWorld, StubService, member, raises

from mpcdp.errors import PeerTimeout, PeerUnavailable
from mpcdp.transport.in_process import Parcel
from mpcdp.transport.messages import Enrolment

_ENROLMENT = Enrolment(REF, "owner-0", bytes(range(100, 132)))


@pytest.fixture
def world() -> Iterator[InProcessTestWorld]:
    with InProcessTestWorld() as world:
        yield world


class TestAccess(AccessContract):
    pass


class TestCalls(CallContract):
    pass


class TestMesh(MeshContract):
    pass


class TestFaults:
    def test_a_message_can_be_tampered_with(self) -> None:
        service = StubService()

        def tamper(parcel: Parcel) -> bytes:
            assert (parcel.sender, parcel.receiver) in (("owner-0", "compute-0"), ("compute-0", "owner-0"))
            if parcel.method == "ComputeParty/Enrol" and parcel.sender == "owner-0":
                return parcel.message.replace(_ENROLMENT.key, bytes(32))
            return parcel.message

        with InProcessTestWorld(tamper) as world:
            world.serve("compute-0", service)
            world.network(member("owner-0")).compute_party("compute-0").enrol("", _ENROLMENT)
        assert service.calls == [("enrol", "owner-0", Enrolment(REF, "owner-0", bytes(32)))]

    def test_a_message_can_break_its_connection(self) -> None:
        service = StubService()
        with InProcessTestWorld(lambda parcel: None if "Enrol" in parcel.method else parcel.message) as world:
            world.serve("compute-0", service)
            with raises(PeerUnavailable, "compute-0", "Enrol"):
                world.network(member("owner-0")).compute_party("compute-0").enrol("", _ENROLMENT)
        assert service.calls == []

    def test_a_message_can_be_late(self) -> None:
        def delay(parcel: Parcel) -> bytes:
            time.sleep(0.5 if "Enrol" in parcel.method else 0)
            return parcel.message

        with InProcessTestWorld(delay) as world:
            world.serve("compute-0", StubService())
            quick = replace(LIMITS, call_seconds=0.2)
            with raises(PeerTimeout, "compute-0", "0.2 s"):
                world.network(member("owner-0"), limits=quick).compute_party("compute-0").enrol("", _ENROLMENT)

    def test_a_parcel_does_not_show_its_content(self) -> None:
        assert "secret" not in repr(Parcel("owner-0", "compute-0", "ComputeParty/Enrol", b"secret"))
