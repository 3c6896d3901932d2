"""``mpcdp health``: does a process on this machine answer? For container and service supervisors."""

import http.client
import json
from pathlib import Path
from typing import Annotated

import typer

from mpcdp.config import OwnerConfig, load_any_config
from mpcdp.errors import ConfigError, PeerUnavailable
from mpcdp.task import load_task
from mpcdp.transport.channel import Limits

__all__ = ["health"]


def health(
    config: Annotated[Path, typer.Option("--config", help="The config of the process (TOML).")],
    seconds: Annotated[float, typer.Option(min=0.1, max=3600.0, help="How long it may take to answer.")] = 5.0,
) -> None:
    """Ask the process of a config, on this machine and with its own certificate, whether it answers calls.

    A server is asked by gRPC's standard health check. An owner answers nobody: it is asked at its status listener.
    Ends with exit code 0 if it answers, 2 for a config that does not say where, and 4 if it does not answer.

    Example: mpcdp health --config compute.toml
    """
    loaded = load_any_config(config)
    if isinstance(loaded, OwnerConfig):
        if loaded.status is None:
            raise ConfigError(
                f'{loaded.name} is an owner and answers nobody: set listen = "127.0.0.1:9464" under [status]'
            )
        state = _ask_status(loaded.name, _here(loaded.status.listen), seconds)
        typer.echo(f"{loaded.name}: {state}")
        return
    # grpc is loaded by what needs it only.
    from mpcdp.transport.access import HEALTH
    from mpcdp.transport.grpc import GrpcNetwork
    from mpcdp.transport.health import read_serving, write_health_check
    from mpcdp.transport.reader import Reader

    task = load_task(loaded.task)
    me = task.member(loaded.name, loaded.role)
    limits = Limits(
        dimension=1,
        connect_seconds=seconds,
        call_seconds=seconds,
        prepare_seconds=seconds,
        message_seconds=seconds,
        session_seconds=seconds,
    )
    addresses = {me.name: _here(loaded.listen)}
    with GrpcNetwork(me, task.members(), addresses, loaded.tls, limits, None, task_digest=task.digest) as network:
        answer = network.call(me, HEALTH, [write_health_check()], seconds)
        if not read_serving(Reader(me.name, answer, limits)):
            raise PeerUnavailable(me.name, "it answers that it does not serve: see its log")
    typer.echo(f"{me.name}: serving")


def _here(listen: str) -> str:
    """Return where this machine reaches what listens on all of its addresses."""
    host, _, port = listen.rpartition(":")
    local = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)  # noqa: S104 (not listened at)
    return f"{local}:{port}"


def _ask_status(name: str, address: str, seconds: float) -> str:
    host, _, port = address.rpartition(":")
    connection = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=seconds)
    try:
        connection.request("GET", "/status.json")
        document = json.loads(connection.getresponse().read())
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise PeerUnavailable(name, f"does not answer at {address} ({error}): see its log") from None
    finally:
        connection.close()
    if document.get("name") != name:
        raise PeerUnavailable(name, f"another process answers at {address}: correct listen under [status]")
    return str(document.get("state"))
