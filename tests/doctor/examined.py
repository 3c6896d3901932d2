"""A small network on loopback to examine: the sample task with short tables, certificates, and peers that can be set up
wrongly in every way."""

import copy
import csv
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tomli_w

from mpcdp.config import TlsFiles
from mpcdp.doctor import Finding, examine
from mpcdp.local_network import create_network
from mpcdp.task import Task, load_task
from mpcdp.transport.channel import Limits
from mpcdp.transport.grpc import GrpcNetwork
from mpcdp.transport.tls import Authority

__all__ = ["ExaminedNetwork", "errors", "of", "warnings"]

_SAMPLE = tomllib.loads((Path(__file__).parents[2] / "parties" / "task.toml").read_text(encoding="utf-8"))
_LIMITS = Limits(
    dimension=1, connect_seconds=5, call_seconds=5, prepare_seconds=5, message_seconds=5, session_seconds=10
)
RECORDS = 20


class ExaminedNetwork:
    """Everything that `mpcdp network new` makes, and a table for every owner.

    Args:
        folder: an empty one.
        sections: change values of the task's sections.
    """

    def __init__(self, folder: Path, **sections: dict[str, Any]) -> None:
        self.document = copy.deepcopy(_SAMPLE)
        for owner in self.document["owners"]:
            owner["record_count"] = RECORDS
        for section, values in sections.items():
            self.document[section] |= values
        (folder / "task.toml").write_bytes(tomli_w.dumps(self.document).encode())
        self.folder = folder / "net"
        create_network(self.folder, folder / "task.toml")
        self.authority = Authority("the authority of everybody")
        for member in self.task.members():
            self.reissue(member.name, self.authority)
            if member.role == "owner":
                self.write_table(member.name, RECORDS)

    @property
    def task(self) -> Task:
        return load_task(self.folder / "task.toml")

    def config(self, name: str) -> Path:
        (path,) = (self.folder / name).glob("*.toml")
        return path

    def change(self, name: str, **values: Any) -> None:
        """Set values in a config; a table is merged."""
        document = tomllib.loads(self.config(name).read_text(encoding="utf-8"))
        for key, value in values.items():
            document[key] = {**document.get(key, {}), **value} if isinstance(value, dict) else value
        self.config(name).write_bytes(tomli_w.dumps(document).encode())

    def address(self, name: str) -> str:
        listen: str = tomllib.loads(self.config(name).read_text(encoding="utf-8"))["listen"]
        return listen

    def reissue(self, name: str, authority: Authority, *, trusted: bytes | None = None, of: str | None = None) -> None:
        """Give a process another certificate.

        Args:
            name: of the process.
            authority: who signs.
            trusted: whom the process trusts; by default whoever signs.
            of: whose name is certified; by default its own.
        """
        certified = next(member for member in self.task.members() if member.name == (of or name)).certificate
        certificate, key = authority.issue(certified)
        folder = self.folder / name
        (folder / f"{name}.crt").write_bytes(certificate)
        (folder / f"{name}.key").write_bytes(key)
        (folder / "authority.crt").write_bytes(trusted or authority.certificate)

    def write_table(self, owner: str, records: int) -> None:
        with (self.folder / owner / "table.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["age", "tumour_size", "family_history", "diagnosis"])
            writer.writerows([[50, 12.5, "no", "benign"]] * records)

    @contextmanager
    def serving(self, name: str, *, task_digest: bytes | None = None) -> Iterator[GrpcNetwork]:
        """Let a process answer greetings, as its doctor does."""
        task, folder = self.task, self.folder / name
        me = next(member for member in task.members() if member.name == name)
        files = TlsFiles(
            authority=folder / "authority.crt", certificate=folder / f"{name}.crt", key=folder / f"{name}.key"
        )
        digest = task.digest if task_digest is None else task_digest
        with (
            GrpcNetwork(me, task.members(), {}, files, _LIMITS, self.address(name), task_digest=digest) as network,
            network.serve(None),
        ):
            yield network

    def examine(self, name: str, *, wait_seconds: float | None = None) -> list[Finding]:
        return list(examine(self.config(name), wait_seconds=wait_seconds))


def of(check: str, findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.check == check]


def errors(findings: list[Finding]) -> list[str]:
    """Each with what to do about it."""
    return [f"{finding.check}: {finding.text} -> {finding.cure}" for finding in findings if finding.level == "error"]


def warnings(findings: list[Finding]) -> list[str]:
    return [f"{finding.check}: {finding.text} -> {finding.cure}" for finding in findings if finding.level == "warning"]
