"""How an error travels from the process where it arose to the one that called it, and what a broken call is called."""

import traceback
from dataclasses import dataclass

import structlog

from mpcdp import errors
from mpcdp.errors import BegunAnew, MpcdpError, PeerError, PeerTimeout, PeerUnavailable, ProcessStopped
from mpcdp.transport.reader import printable

__all__ = ["INTERNAL", "NOTHING_LISTENS", "Failure", "broken", "error_of", "failure_of", "late"]

INTERNAL = "internal"
"""Kind of a failure that is a bug; its text stays in the log of the process that has it."""

NOTHING_LISTENS = "nothing listens at its address"
"""What is wrong with a peer that is not there yet."""

_KINDS: dict[str, type[MpcdpError]] = {name: getattr(errors, name) for name in errors.__all__}
_log = structlog.get_logger("mpcdp.transport")


@dataclass(frozen=True)
class Failure:
    """An error on its way.

    Args:
        kind: name of the class in `mpcdp.errors`, or `INTERNAL`.
        text: one sentence and a cure.
    """

    kind: str
    text: str


def failure_of(error: Exception, *, me: str, caller: str, method: str) -> Failure:
    """Log an error that answers a call, and return what the caller is told.

    Guarantees:
        Only the text of an `MpcdpError`, which by contract holds no secret, leaves the process.
    """
    if isinstance(error, MpcdpError):
        kind = next(base.__name__ for base in type(error).__mro__ if base.__name__ in _KINDS)
        text = printable(str(error))
        _log.warning("refused", caller=caller, method=method, error=kind, problem=text)
        return Failure(kind, text)
    # As text, because some log formats print the local variables of a live traceback, and those may hold shares.
    trace = "".join(traceback.format_exception(error))
    _log.error("internal error", caller=caller, method=method, traceback=trace)
    return Failure(INTERNAL, f"internal error, see {me}'s log")


def error_of(failure: Failure, *, peer: str) -> MpcdpError:
    """Return the error that a failed call raises at the caller; its text begins with the peer's name."""
    kind = _KINDS.get(failure.kind, PeerError)
    # A process that names itself need not be named twice.
    text = printable(failure.text).removeprefix(f"{peer}: ")
    if kind is ProcessStopped:
        return PeerUnavailable(peer, text)  # it will be back, and know what it was asked
    if issubclass(kind, PeerError):
        return kind(peer, text, final=kind is not BegunAnew)
    return kind(f"{peer}: {text}")


def broken(peer: str, method: str) -> PeerUnavailable:
    """Return the error of a call whose connection broke."""
    return PeerUnavailable(peer, f"the connection broke during {method}: see its log")


def late(peer: str, method: str, seconds: float) -> PeerTimeout:
    """Return the error of a call whose deadline passed."""
    return PeerTimeout(
        peer,
        f"it did not answer {method} within {seconds:.3g} s: "
        "see its log, or give it longer under [deadlines] in the task",
    )
