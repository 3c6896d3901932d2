"""What everybody agreed on: the method, the data's public description, the privacy, and who takes part.

All processes hold the same ``task.toml``. Its digest is in every message, and a process that holds another task is
refused. Comments, key order and the writing of numbers do not matter to the digest; every value does::

    [task]          version, name
    [model]         kind, regularization, certificate, huber_width
    [privacy]       epsilon, delta, mechanism, noise
    [method]        kind
    [schema]        see `mpcdp.data.schema`
    [deadlines]     start_seconds, contribution_seconds, round_seconds
    [session]       minimum_owners
    [coordinator]   name, certificate
    [dealer]        name, certificate                                          (with noise = "joint" only)
    [[compute_parties]]  name, certificate                                     (2 to 5; the order is their rank)
    [[owners]]      name, certificate, record_count

``parties/task.toml`` is an annotated example.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from mpcdp.config import Name, Section, read_toml
from mpcdp.data.schema import Schema
from mpcdp.errors import ConfigError, TaskError
from mpcdp.learning.losses import HuberSvmLoss, LogisticLoss, Loss
from mpcdp.learning.method import Method
from mpcdp.learning.output_perturbation import OutputPerturbation
from mpcdp.transport.channel import Member, Role

__all__ = [
    "Deadlines",
    "Model",
    "Owner",
    "Participant",
    "Privacy",
    "Task",
    "load_task",
]

_LARGEST_EPSILON = 100.0
"""Beyond it, e^epsilon times the sampler's error exceeds any delta; such a guarantee would mean nothing anyway."""

_DIGEST_DOMAIN = b"mpcdp/task/1\0"


def _check_certificate(certificate: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{0,252}", certificate):
        raise ValueError(f"expected the DNS name in a certificate, in lower case, got {certificate!r:.60}")
    return certificate


def _list_to_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


_Seconds = Annotated[float, Field(gt=0, le=86400)]


class Header(Section):
    """``[task]``.

    Args:
        version: of this file format.
        name: for people; it is part of the digest, so a repetition under a new name is a new task.
    """

    version: Literal[1]
    name: Name


class Model(Section):
    """``[model]``: what is trained.

    Args:
        kind: the loss.
        regularization: lambda > 0 of (lambda / 2) ||theta||^2.
        certificate: tau > 0, the public bound on the gradient's norm at every owner's solution.
        huber_width: half the length of the Huber loss's rounded part, in (0, 1]; with ``"huber-svm"`` only.
    """

    kind: Literal["logistic-regression", "huber-svm"]
    regularization: Annotated[float, Field(gt=0)]
    certificate: Annotated[float, Field(gt=0)]
    huber_width: Annotated[float, Field(gt=0, le=1)] | None = None


class Privacy(Section):
    """``[privacy]``: what the whole session may cost one record.

    Args:
        epsilon: in (0, 100].
        delta: in (0, 1); less than one over the number of all records, to mean something.
        mechanism: the noise's distribution.
        noise: ``"joint"``: the compute parties sample one copy that none of them knows; ``"per-party"``: each adds its
            own copy, k copies for k parties, but no dealer is needed.
    """

    epsilon: Annotated[float, Field(gt=0, le=_LARGEST_EPSILON)]
    delta: Annotated[float, Field(gt=0, lt=1)]
    mechanism: Literal["gaussian", "laplace"]
    noise: Literal["joint", "per-party"]


class MethodChoice(Section):
    """``[method]``: how the model is trained."""

    kind: Literal["output-perturbation"]


class Deadlines(Section):
    """``[deadlines]``: how long everybody waits for everybody.

    Args:
        start_seconds: for all processes to be up and all owners to join.
        contribution_seconds: for the owners to compute and upload one round's contributions.
        round_seconds: for the compute parties to add, noise and reveal one round.
    """

    start_seconds: _Seconds = 60.0
    contribution_seconds: _Seconds = 60.0
    round_seconds: _Seconds = 60.0


class SessionRules(Section):
    """``[session]``.

    Args:
        minimum_owners: fewer contributions than this are not released; all owners when absent.
    """

    minimum_owners: Annotated[int, Field(ge=1)]


class Participant(Section):
    """A process that takes part.

    Args:
        name: unique in the task.
        certificate: DNS name in its certificate, unique in the task; its name when absent.
    """

    name: Name
    certificate: Annotated[str, AfterValidator(_check_certificate)]

    @model_validator(mode="before")
    @classmethod
    def _certificate_is_name(cls, content: Any) -> Any:
        if isinstance(content, dict) and "name" in content:
            return {"certificate": content["name"], **content}
        return content


class Owner(Participant):
    """``[[owners]]``: an organisation that contributes.

    Args:
        record_count: n_j, public; exactly as many rows as its table has. At least 2: with a single record, the
            neighbouring tables of this owner would have nothing in common.
    """

    record_count: Annotated[int, Field(ge=2, le=2**40)]


class Task(Section):
    """What everybody agreed on; made by `load_task`."""

    header: Header = Field(alias="task")
    model: Model
    privacy: Privacy
    method_: MethodChoice = Field(alias="method")
    schema_: Schema = Field(alias="schema")
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
        if faults := list(_contradictions(self)):
            raise ValueError("\n".join(faults))
        return self

    @property
    def name(self) -> str:
        """The task's name."""
        return self.header.name

    @property
    def digest(self) -> bytes:
        """SHA-256 of the canonical form: JSON, defaults filled in, keys sorted, no white space; 32 bytes."""
        canonical = json.dumps(
            self.model_dump(mode="json", by_alias=True), sort_keys=True, separators=(",", ":"), allow_nan=False
        )
        return hashlib.sha256(_DIGEST_DOMAIN + canonical.encode()).digest()

    @property
    def record_counts(self) -> tuple[int, ...]:
        """n_j of every owner, in the task's order."""
        return tuple(owner.record_count for owner in self.owners)

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
        """Build the loss that [model] names."""
        if self.model.huber_width is not None:
            return HuberSvmLoss(width=self.model.huber_width)
        return LogisticLoss()

    def method(self) -> Method:
        """Build the method that [method] names."""
        return OutputPerturbation(
            loss=self.loss(),
            regularization=self.model.regularization,
            certificate=self.model.certificate,
            dimension=self.schema_.dimension,
        )


def load_task(path: Path) -> Task:
    """Read a task.

    Args:
        path: the TOML file.

    Raises:
        TaskError: the file cannot be read, is malformed or contradicts itself; every fault is named.
    """
    return read_toml(path, Task, TaskError)


def _contradictions(task: Task) -> Iterator[str]:
    """Find what is wrong between values that are right one by one."""
    if (task.model.kind == "huber-svm") != (task.model.huber_width is not None):
        yield (
            f'model.huber_width: expected with kind = "huber-svm", and only with it, got {task.model.huber_width} with '
            f'"{task.model.kind}"'
        )
    if not 2 <= len(task.compute_parties) <= 5:
        yield f"compute_parties: expected 2 to 5 [[compute_parties]], got {len(task.compute_parties)}"
    if (task.privacy.noise == "joint") != (task.dealer is not None):
        yield (
            'dealer: expected a [dealer] with privacy.noise = "joint", and only with it, got '
            f'{"one" if task.dealer else "none"} with "{task.privacy.noise}"'
        )
    if not task.owners:
        yield "owners: expected at least one [[owners]], got none"
    if task.session.minimum_owners > len(task.owners):
        yield f"session.minimum_owners: expected at most {len(task.owners)}, got {task.session.minimum_owners}"
    for what in ("name", "certificate"):
        for value, count in Counter(getattr(member, what) for member in task.members()).items():
            if count > 1:
                yield f"{what}: expected every {what} once in the whole task, got {value!r} {count} times"
