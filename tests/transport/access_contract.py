"""Who may say what: a contract that every network keeps."""

from collections.abc import Callable, Mapping

import numpy as np
import pytest
from network_worlds import LIMITS, MEMBERS, REF, NetworkWorld, StubService, member, raises

from mpcdp.errors import ConfigError, IdentityError, MpcdpError, ProtocolError
from mpcdp.secret_sharing.owner_set import OwnerSet
from mpcdp.transport.access import CALLERS, HEALTH, MESH, REACH
from mpcdp.transport.channel import Member, Network, Role
from mpcdp.transport.messages import Aggregate, Attendance, DealRequest, Enrolment, Upload

__all__ = ["AccessContract"]

_EXAMPLE: Mapping[Role, str] = {
    "owner": "owner-0",
    "compute": "compute-1",
    "dealer": "dealer",
    "coordinator": "coordinator",
}
"""One caller of each role."""

_VALUES = np.arange(3, dtype=np.int64)


def _calls(network: Network, claim: str) -> Mapping[tuple[str, str], Callable[[], object]]:
    """Every method there is, called by a process that says its name is ``claim``: (answering process, method)."""
    coordinator, dealer = network.coordinator("coordinator"), network.dealer("dealer")
    party = network.compute_party("compute-0")
    deal = DealRequest(ref=REF, party=claim, nonce=bytes(32), batch="noise", samples=64, schedule_digest=bytes(32))
    upload = Upload(ref=REF, owner=claim, round_index=0, history=bytes(32), nonce=bytes(32), values=_VALUES)
    return {
        ("coordinator", "Coordinator/Attend"): lambda: list(coordinator.attend("", Attendance(bytes(32), claim, 7))),
        ("coordinator", "Coordinator/Leave"): lambda: coordinator.leave("", Attendance(bytes(32), claim, 7)),
        ("compute-0", "ComputeParty/OpenSession"): lambda: party.open_session("", REF),
        ("compute-0", "ComputeParty/Enrol"): lambda: party.enrol("", Enrolment(REF, claim, bytes(32))),
        ("compute-0", "ComputeParty/Upload"): lambda: party.upload("", upload),
        ("compute-0", "ComputeParty/Aggregate"): lambda: party.aggregate("", Aggregate(REF, 0, OwnerSet.of([0]))),
        ("compute-0", "ComputeParty/Outcome"): lambda: party.outcome("", REF),
        ("compute-0", "ComputeParty/CloseSession"): lambda: party.close_session("", REF, None),
        ("dealer", "Dealer/OpenSession"): lambda: dealer.open_session("", REF),
        ("dealer", "Dealer/Deal"): lambda: list(dealer.deal("", deal)[1]),
        ("dealer", "Dealer/CloseSession"): lambda: dealer.close_session("", REF, "no more"),
    }


class AccessContract:
    """Inherit, and give a ``world``."""

    def test_every_method_answers_the_roles_that_may_call_it_and_no_other(self, world: NetworkWorld) -> None:
        services = {name: StubService() for name in ("coordinator", "dealer", "compute-0")}
        for name, service in services.items():
            world.serve(name, service)
        tested = set()
        for role, name in _EXAMPLE.items():
            for (answerer, method), call in _calls(world.network(member(name)), name).items():
                key = (member(answerer).role, method)
                tested.add(key)
                service = services[answerer]
                before = len(service.calls)
                if role in CALLERS[key]:
                    call()
                    assert [caller for _, caller, _ in service.calls[before:]] == [name], method
                else:
                    with raises(IdentityError, name, method, answerer):
                        call()
                    assert len(service.calls) == before, method
        assert tested == {key for key in CALLERS if key[1] not in (REACH, HEALTH, MESH)}

    def test_the_mesh_is_for_compute_parties(self, world: NetworkWorld) -> None:
        with raises(ConfigError, "coordinator"), world.network(member("coordinator")).mesh(REF, ["compute-0"]):
            pass
        with raises(ConfigError, "owner-0"), world.network(member("compute-0")).mesh(REF, ["compute-0", "owner-0"]):
            pass
        world.serve("compute-0", StubService())
        for name in ("owner-0", "dealer", "coordinator"):
            with raises(IdentityError, "compute-0", name, MESH):
                list(world.network(member(name)).call(member("compute-0"), MESH, [], 5))

    def test_an_unknown_method_is_refused(self, world: NetworkWorld) -> None:
        world.serve("compute-0", StubService())
        with raises(ProtocolError, "compute-0", "Dealer/Deal"):
            list(world.network(member("compute-1")).call(member("compute-0"), "Dealer/Deal", [], 5))

    @pytest.mark.parametrize(
        ("role", "answerer", "method"),
        [
            ("owner", "coordinator", "Coordinator/Attend"),
            ("owner", "compute-0", "ComputeParty/Enrol"),
            ("owner", "compute-0", "ComputeParty/Upload"),
            ("compute", "dealer", "Dealer/Deal"),
        ],
    )
    def test_nobody_speaks_in_the_name_of_another(
        self, world: NetworkWorld, role: Role, answerer: str, method: str
    ) -> None:
        service = StubService()
        world.serve(answerer, service)
        other = {"owner": "owner-1", "compute": "compute-2"}[role]
        with raises(IdentityError, answerer, _EXAMPLE[role]):
            _calls(world.network(member(_EXAMPLE[role])), other)[answerer, method]()
        assert service.calls == []

    def test_a_member_that_greets_as_another_is_refused(self, world: NetworkWorld) -> None:
        service = StubService()
        world.serve("compute-0", service)
        liar = Member("compute-2", "compute", member("compute-1").certificate)
        members = [member("coordinator"), member("dealer"), member("compute-0"), liar]
        with (
            raises(IdentityError, "compute-0", "compute-1"),
            world.network(liar, members=members).mesh(REF, ["compute-0", "compute-2"]),
        ):
            pass

    def test_a_certificate_of_no_member_is_refused(self, world: NetworkWorld) -> None:
        service = StubService()
        world.serve("compute-0", service)
        stranger = Member("owner-9", "owner", "owner-9.example.org")
        network = world.network(stranger, members=[*MEMBERS, stranger])
        with raises(IdentityError, "compute-0", "owner-9.example.org"):
            network.compute_party("compute-0").enrol("", Enrolment(REF, "owner-9", bytes(32)))
        assert service.calls == []

    def test_a_process_that_answers_under_another_certificate_is_not_talked_to(self, world: NetworkWorld) -> None:
        service = StubService()
        world.serve("compute-0", service)
        moved = Member("compute-0", "compute", "somebody-else.example.org")
        members = [moved if entry.name == "compute-0" else entry for entry in MEMBERS]
        with raises(IdentityError, "compute-0", "somebody-else.example.org"):
            world.network(member("owner-0"), members=members).compute_party("compute-0").enrol(
                "", Enrolment(REF, "owner-0", bytes(32))
            )
        assert service.calls == []

    def test_a_process_of_another_role_is_no_client(self, world: NetworkWorld) -> None:
        network = world.network(member("owner-0"))
        with raises(ConfigError, "dealer"):
            network.compute_party("dealer")
        with raises(ConfigError, "nobody"):
            network.dealer("nobody")

    def test_owners_answer_nobody(self, world: NetworkWorld) -> None:
        with pytest.raises(MpcdpError, match="owner-0"), world.network(member("owner-0")).serve(StubService()):
            pass

    def test_members_have_names_and_certificates_of_their_own(self, world: NetworkWorld) -> None:
        twin = Member("owner-9", "owner", "owner-0.example.org")
        with raises(ConfigError, "certificate"):
            world.network(member("owner-1"), members=[*MEMBERS, twin], limits=LIMITS)
        with raises(ConfigError, "owner-9"):
            world.network(twin)
