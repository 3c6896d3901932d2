"""The task as a whole: its sections together, its digest, and who takes part."""

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, model_validator

from mpcdp.config import Section, read_toml
from mpcdp.data.schema import Schema
from mpcdp.errors import ConfigError, TaskError
from mpcdp.learning.losses import Loss
from mpcdp.learning.method import Method
from mpcdp.learning.module_model import ModuleModel
from mpcdp.task.contradictions import contradictions
from mpcdp.task.methods import loss_of, method_of, module_of
from mpcdp.task.sections import (
    Deadlines,
    Header,
    MethodChoice,
    Model,
    Owner,
    Participant,
    Privacy,
    SessionRules,
)
from mpcdp.transport.channel import Member, Role

__all__ = ["Task", "load_task"]

_DIGEST_DOMAIN = b"mpcdp/task/1\0"


def _list_to_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


class Task(Section):
    """What everybody agreed on; made by `load_task`."""

    header: Header = Field(alias="task")
    model: Model
    privacy: Privacy
    method_: MethodChoice = Field(alias="method")
    schema_section: Schema | None = Field(default=None, alias="schema")
    deadlines: Deadlines = Deadlines()
    session: SessionRules
    coordinator: Participant
    dealer: Participant | None = None
    compute_parties: Annotated[tuple[Participant, ...], BeforeValidator(_list_to_tuple)]
    owners: Annotated[tuple[Owner, ...], BeforeValidator(_list_to_tuple)]

    @model_validator(mode="before")
    @classmethod
    def _minimum_is_all(cls, content: Any) -> Any:
        """Fill in [session] minimum_owners, so that leaving it out and writing it down are the same task."""
        if isinstance(content, dict) and isinstance(content.get("owners"), list):
            session = content.get("session", {})
            if isinstance(session, dict):
                return {**content, "session": {"minimum_owners": len(content["owners"]), **session}}
        return content

    @model_validator(mode="after")
    def _sections_fit_together(self) -> Self:
        if faults := list(contradictions(self)):
            raise ValueError("\n".join(faults))
        return self

    @property
    def name(self) -> str:
        """The task's name."""
        return self.header.name

    @property
    def schema_(self) -> Schema:
        """The public description of the owners' tables.

        Raises:
            TaskError: the owners of this task have updates, not tables.
        """
        if self.schema_section is None:
            raise TaskError(f"task {self.name!r} adds up updates and has no [schema]: nothing can be done with a table")
        return self.schema_section

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of the canonical form: JSON, defaults filled in, keys sorted, no white space; 32 bytes."""
        canonical = json.dumps(
            self.model_dump(mode="json", by_alias=True), sort_keys=True, separators=(",", ":"), allow_nan=False
        )
        return hashlib.sha256(_DIGEST_DOMAIN + canonical.encode()).digest()

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy with other sections: another task, with a digest of its own."""
        copied = super().model_copy(update=update, deep=deep)
        vars(copied).pop("digest", None)
        return copied

    @property
    def record_counts(self) -> tuple[int, ...]:
        """n_j of every owner, in the task's order."""
        return tuple(owner.record_count for owner in self.owners)

    @property
    def minimum_records(self) -> int:
        """Fewer records behind a release than this are not released."""
        smallest = sum(sorted(self.record_counts)[: self.session.minimum_owners])
        return max(smallest, self.session.minimum_records or 0)

    def members(self) -> tuple[Member, ...]:
        """List every process: coordinator, dealer (if any), compute parties in rank order, owners."""
        listed: list[tuple[Participant, Role]] = [(self.coordinator, "coordinator")]
        if self.dealer is not None:
            listed.append((self.dealer, "dealer"))
        listed += [(party, "compute") for party in self.compute_parties]
        listed += [(owner, "owner") for owner in self.owners]
        return tuple(Member(name=who.name, role=role, certificate=who.certificate) for who, role in listed)

    def member(self, name: str, role: Role) -> Member:
        """Return the process of a name and role.

        Raises:
            ConfigError: the task has no such process.
        """
        same_role = [member for member in self.members() if member.role == role]
        for member in same_role:
            if member.name == name:
                return member
        known = ", ".join(member.name for member in same_role) or "none"
        raise ConfigError(
            f"name: task {self.name!r} has no {role} process {name!r} (it has: {known}); correct the config"
        )

    def owner(self, name: str) -> Owner:
        """Return an owner's entry.

        Raises:
            ConfigError: the task has no owner of that name.
        """
        for owner in self.owners:
            if owner.name == name:
                return owner
        raise ConfigError(f"task {self.name!r} has no owner {name!r}; use a name listed in [[owners]]")

    def loss(self) -> Loss:
        """Build the margin loss that [model] names.

        Raises:
            ConfigError: the model has another kind of loss.
        """
        return loss_of(self)

    def module(self) -> ModuleModel | None:
        """Build the PyTorch module that [model] names, None for linear models."""
        return module_of(self)

    def method(self) -> Method:
        """Build the method that [method] names, with what the rules choose filled in."""
        return method_of(self)


def load_task(path: Path) -> Task:
    """Read a task.

    Args:
        path: the TOML file.

    Raises:
        TaskError: the file cannot be read, is malformed or contradicts itself; every fault is named.
    """
    return read_toml(path, Task, TaskError)
