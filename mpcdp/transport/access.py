"""Who may call what: the one table of permissions, for every transport."""

from collections.abc import Mapping

from mpcdp.errors import IdentityError, ProtocolError
from mpcdp.transport.channel import Member, Role

__all__ = ["CALLERS", "HEALTH", "MESH", "REACH", "check_access"]

REACH = "Process/Reach"
MESH = "ComputeParty/Mesh"
HEALTH = "grpc.health.v1.Health/Check"
"""gRPC's standard health check; the one method whose full name is not one of ours."""

_EVERYBODY: frozenset[Role] = frozenset({"owner", "compute", "dealer", "coordinator"})

CALLERS: Mapping[tuple[Role, str], frozenset[Role]] = {
    ("coordinator", REACH): _EVERYBODY,
    ("coordinator", HEALTH): _EVERYBODY,
    ("coordinator", "Coordinator/Attend"): frozenset({"owner"}),
    ("coordinator", "Coordinator/Leave"): frozenset({"owner"}),
    ("compute", REACH): _EVERYBODY,
    ("compute", HEALTH): _EVERYBODY,
    ("compute", "ComputeParty/OpenSession"): frozenset({"coordinator"}),
    ("compute", "ComputeParty/Enrol"): frozenset({"owner"}),
    ("compute", "ComputeParty/Upload"): frozenset({"owner"}),
    ("compute", "ComputeParty/Outcome"): frozenset({"owner"}),
    ("compute", "ComputeParty/Aggregate"): frozenset({"coordinator"}),
    ("compute", "ComputeParty/CloseSession"): frozenset({"coordinator"}),
    ("compute", MESH): frozenset({"compute"}),
    ("dealer", REACH): _EVERYBODY,
    ("dealer", HEALTH): _EVERYBODY,
    ("dealer", "Dealer/OpenSession"): frozenset({"coordinator"}),
    ("dealer", "Dealer/Deal"): frozenset({"compute"}),
    ("dealer", "Dealer/CloseSession"): frozenset({"coordinator"}),
}
"""Roles that may call a method (second key) of a process with a role (first key)."""


def check_access(caller: Member, me: Member, method: str) -> None:
    """Refuse a call that the table does not list.

    Raises:
        IdentityError: the caller's role may not use the method.
        ProtocolError: processes of this role have no such method.
    """
    callers = CALLERS.get((me.role, method))
    if callers is None:
        raise ProtocolError(f"{me.name} has role {me.role} and does not answer {method}")
    if caller.role not in callers:
        raise IdentityError(
            f"{caller.name} has role {caller.role} and may not call {method}: only {' and '.join(sorted(callers))} may"
        )
