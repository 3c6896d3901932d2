"""The sections of ``task.toml``, each checked by itself."""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from mpcdp.config import Name, Section
from mpcdp.learning.record_loss import RecordLoss

__all__ = ["Deadlines", "Header", "MethodChoice", "Model", "Owner", "Participant", "Privacy", "SessionRules"]

_LARGEST_EPSILON = 100.0
"""Beyond it, e^epsilon times the sampler's error exceeds any delta; such a guarantee would mean nothing anyway."""


def _check_certificate(certificate: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{0,252}", certificate):
        raise ValueError(f"expected the DNS name in a certificate, in lower case, got {certificate!r:.60}")
    return certificate


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
        regularization: lambda > 0 of (lambda / 2) ||theta||^2; not with the method ``"statistics"``, which chooses it.
        certificate: tau > 0, the public bound on the gradient's norm at every owner's solution; with the method
            ``"output-perturbation"`` only.
        huber_width: half the length of the Huber loss's rounded part, in (0, 1]; with ``"huber-svm"`` only.
        factory: ``"package.module:function"`` that makes a PyTorch module; it and the next two with ``"module"`` only.
            Its code runs at every process: agree on it as on any software.
        loss: of one record: ``"cross-entropy"`` (classes), ``"squared-error"`` (a number), or an importable function of
            the record's scores and its label, ``"package.module:function"`` (`mpcdp.learning.record_loss` says what it
            is called with). Its code runs at every process, too.
        seed: public; of the module's first parameters.
        coordinates: d, how many numbers an update has; with ``"update"`` only, a model that other software trains.
    """

    kind: Literal[
        "logistic-regression", "huber-svm", "multinomial-logistic-regression", "ridge-regression", "module", "update"
    ]
    regularization: Annotated[float, Field(gt=0)] | None = None
    certificate: Annotated[float, Field(gt=0)] | None = None
    huber_width: Annotated[float, Field(gt=0, le=1)] | None = None
    factory: Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")] | None = None
    loss: RecordLoss | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    coordinates: Annotated[int, Field(ge=1, le=2**28)] | None = None


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
    """``[method]``: how the model is trained. All but ``kind`` belongs to gradient perturbation.

    Update aggregation has two of them as well, ``rounds`` and ``clipping_norm``, and needs both.

    Args:
        kind: output perturbation (every owner trains alone), gradient perturbation (many rounds), statistics (least
            squares from one release) or update aggregation (other software trains, round by round).
        rounds: T; by `mpcdp.learning.schedule` when absent, as are the next three.
        learning_rate: eta.
        clipping_norm: C, the norm every record's gradient, or every owner's update, is clipped to.
        momentum: in [0, 1); 0 when absent beside a ``learning_rate``.
        averaging: whether the mean of the last half of the points is released; true when absent.
        radius: of the ball that points are projected on; no projection when absent.
        sampling_rate: q, the probability of each record to take part in a round; all take part when absent.
    """

    kind: Literal["output-perturbation", "gradient-perturbation", "statistics", "update-aggregation"]
    rounds: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    clipping_norm: Annotated[float, Field(gt=0)] | None = None
    momentum: Annotated[float, Field(ge=0, lt=1)] | None = None
    averaging: bool | None = None
    radius: Annotated[float, Field(gt=0)] | None = None
    sampling_rate: Annotated[float, Field(gt=0, le=1)] | None = None


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
        minimum_records: nor contributions of fewer records than this together; as many as the smallest
            ``minimum_owners`` owners have when absent.
        contribution_check: whether the compute parties prove, inside the computation, that every contribution is as
            short as an honest one; who fails is left out of the round and named. With joint noise only.
    """

    minimum_owners: Annotated[int, Field(ge=1)]
    minimum_records: Annotated[int, Field(ge=1)] | None = None
    contribution_check: bool = False


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
            neighbouring tables of this owner would have nothing in common. With update aggregation 1: what is protected
            there is everything that an owner has.
    """

    record_count: Annotated[int, Field(ge=1, le=2**40)]
