"""What can go wrong, as one tree of exceptions.

::

    MpcdpError
    ├── InputError            a file or an argument is wrong (exit code 2)
    │   ├── TaskError             task.toml
    │   ├── ConfigError           a process's own config, certificates or keys
    │   ├── DataError             a schema or a table
    │   └── PlanError             the task asks for what no plan can give
    ├── RefusedError          this process will not do what it was asked (exit code 3)
    │   ├── BudgetError           it would spend privacy that is spent or not granted
    │   ├── PolicyError           the task is outside what this organisation consented to
    │   ├── IdentityError         the certificate is not that of whom the peer claims to be
    │   └── ProtocolError         a message that the protocol does not allow here
    │       └── LateUpload            the round it is for is over; the next one is open
    ├── PeerError             another process failed us (exit code 4)
    │   ├── PeerUnavailable       it cannot be reached, or its connection broke
    │   └── PeerTimeout           it is connected but did not answer within its deadline
    ├── SessionAborted        another process ended the session and said why (exit code 5)
    └── ProcessStopped        a signal stopped this process; started again, it goes on (exit code 6)

Every message names who or which field is meant, what was expected and what to do about it; none carries a secret or a
value computed from private records.
"""

from typing import ClassVar

__all__ = [
    "BegunAnew",
    "BudgetError",
    "ConfigError",
    "DataError",
    "IdentityError",
    "InputError",
    "LateUpload",
    "MpcdpError",
    "PeerError",
    "PeerTimeout",
    "PeerUnavailable",
    "PlanError",
    "PolicyError",
    "ProcessStopped",
    "ProtocolError",
    "RefusedError",
    "SessionAborted",
    "TaskError",
]


class MpcdpError(Exception):
    """Base of every error this package raises on purpose; its text is one sentence and a cure."""

    exit_code: ClassVar[int] = 1


class InputError(MpcdpError):
    """A file or an argument given by the user is wrong."""

    exit_code = 2


class TaskError(InputError):
    """``task.toml`` is malformed or contradicts itself."""


class ConfigError(InputError):
    """A process's own config, its certificates or its keys are unusable."""


class DataError(InputError):
    """A schema is malformed, or a table does not fit it."""


class PlanError(InputError):
    """No plan exists for what the task asks."""


class RefusedError(MpcdpError):
    """This process refuses a request; nothing was changed."""

    exit_code = 3


class BudgetError(RefusedError):
    """The request would spend privacy twice, or more than was granted."""


class PolicyError(RefusedError):
    """The task is outside the policy in this process's own config."""


class IdentityError(RefusedError):
    """The peer's certificate does not belong to the process it claims to be."""


class ProtocolError(RefusedError):
    """A peer sent a message that the protocol does not allow at this point."""


class LateUpload(ProtocolError):
    """A share came after its round was over: its owner is left out of that round and may take part in the next."""


class PeerError(MpcdpError):
    """Another process failed.

    Args:
        peer: name of the process in the task.
        problem: what happened and what to do, without the name.
        final: whether nothing is gained by asking again: the peer itself said so, or was waited for as long as the
            task allows.
    """

    exit_code = 4

    def __init__(self, peer: str, problem: str, *, final: bool = False) -> None:
        super().__init__(f"{peer}: {problem}")
        self.peer = peer
        self.problem = problem
        self.final = final


class PeerUnavailable(PeerError):
    """The peer cannot be reached, or its connection broke."""


class BegunAnew(PeerUnavailable):
    """Another process has begun anew, and what this one waited for will not come: it begins anew too."""


class PeerTimeout(PeerError):
    """The peer did not answer within its deadline."""


class SessionAborted(MpcdpError):
    """Another process ended the session."""

    exit_code = 5


class ProcessStopped(MpcdpError):
    """This process was asked to end, not its session: to others it looks like a crash, and they wait for its return."""

    exit_code = 6
