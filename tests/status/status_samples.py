"""A process with something to show, and hostile names in it."""

import datetime
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from mpcdp.config import StatusConfig
from mpcdp.status import Facts, Figures, NoiseStock, Progress, Status
from mpcdp.status.listener import StatusListener

__all__ = ["HOSTILE", "facts", "listening", "sample"]

HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">\"'&<b>"


def facts(**changes: Any) -> Facts:
    """Return the facts of a compute party."""
    values: dict[str, Any] = {
        "role": "compute",
        "name": "party-1",
        "task": "tumour study",
        "digest": "0123456789abcdef" * 4,
        "rounds": 40,
        "owners": 3,
        "epsilon": 1.0,
        "delta": 1e-6,
        "certificate_expires": datetime.datetime(2099, 1, 1, tzinfo=datetime.UTC),
        "versions": {"mpcdp": "0.1.0", "grpcio": "1.68.1"},
    }
    return Facts(**{**values, **changes})


def sample(progress: Progress, *, hostile: str = "", **changes: Any) -> Status:
    """Return a status in the middle of a session; ``hostile`` stands in every text that comes from outside."""
    known = facts(**changes)
    progress.note({"event": "prepared", "level": "info"})
    for owner in ("hospital-1", "hospital-2" + hostile):
        progress.note({"event": "owner enrolled", "level": "info", "owner": owner})
    for number in range(12):
        progress.note({"event": "round released", "level": "info", "round": number, "seconds": 0.02 * (number + 1)})
    progress.note(
        {"event": "handshakes failed", "level": "warning", "connections": 4, "problem": hostile or "strangers"}
    )
    refusal = {"event": "refused", "level": "warning", "error": "IdentityError", "method": "ComputeParty/Enrol"}
    progress.note(
        {**refusal, "caller": "visitor" + hostile, "problem": f"the certificate for {hostile} is of no member"}
    )
    gone = {
        "event": "could not close the session" + hostile,
        "at": "dealer",
        "problem": hostile or "dealer: it is gone",
    }
    progress.note({"level": "warning", **gone})
    noise: Callable[[], NoiseStock] | None = None
    if known.role == "compute":
        noise = lambda: NoiseStock(free=1_048_576, used=204_800)  # noqa: E731
    figures = Figures(
        bytes_sent=lambda: {"party-2" + hostile: 7_340_032, "coordinator": 12_288},
        epsilon_after=lambda rounds: rounds / 40,
        noise=noise,
        left_out=lambda: 17,
    )
    return Status(known, figures, progress)


@contextmanager
def listening(status: Status, config: StatusConfig | None = None) -> Iterator[int]:
    """Show a status, and yield the port."""
    chosen = config or StatusConfig.model_construct(listen="127.0.0.1:0", allow_remote=False)
    with StatusListener(chosen, status) as listener:
        yield listener.port
