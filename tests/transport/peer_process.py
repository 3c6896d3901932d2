"""One process of a network, to be killed or frozen by a test: ``python peer_process.py ARGUMENTS_AS_JSON``.

As a compute party it exchanges messages for ever; otherwise it answers and never finishes.
"""

import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from network_worlds import LIMITS, MEMBERS, REF, StubService, member

from mpcdp.config import TlsFiles
from mpcdp.transport.greeting import NO_TASK
from mpcdp.transport.grpc import GrpcNetwork
from mpcdp.transport.messages import Attendance, SessionEvent, SessionStarted

__all__ = ["main"]


def _attend(caller: str, attendance: Attendance) -> Iterator[SessionEvent]:
    yield SessionStarted(REF)
    threading.Event().wait(60)


def main(name: str, files: str, addresses: dict[str, str], parties: list[str]) -> None:
    """Serve, and exchange messages if this is one of the parties."""
    folder = Path(files)
    tls = TlsFiles(authority=folder / "authority.pem", certificate=folder / "certificate.pem", key=folder / "key.pem")
    network = GrpcNetwork(member(name), MEMBERS, addresses, tls, LIMITS, addresses[name], task_digest=NO_TASK)
    service = StubService(attend=_attend, enrol=lambda *_: threading.Event().wait(60))
    with network.serve(service):
        if name not in parties:
            print("ready", flush=True)  # noqa: T201 (what the test waits for)
            threading.Event().wait(60)
        with network.mesh(REF, parties) as mesh:
            while True:
                mesh.exchange("step", bytes(1000))


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
