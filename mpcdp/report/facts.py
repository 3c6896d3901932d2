"""What a report says, gathered from a process's own files."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mpcdp.data.table import read_dataset
from mpcdp.errors import InputError
from mpcdp.learning.model import TrainedModel
from mpcdp.learning.scores import quality
from mpcdp.privacy.attacks import posterior_bound, success_bound, true_positive_bound
from mpcdp.privacy.budget import PrivacyBudget
from mpcdp.privacy.ledger import Charge, Ledger, ReleaseRecord
from mpcdp.privacy.spending import Spending

__all__ = ["Facts", "gather"]

_FALSE_POSITIVES = (0.001, 0.01, 0.05, 0.1)
_PRIORS = (0.01, 0.1, 0.5)


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Everything on the page; the fields are those of ``--json``.

    Args:
        model: the released model.
        charges: of this owner's ledger, oldest first; empty without one.
        releases: how many releases of this model's session the ledger has; None without a ledger.
        spending: what all charges cost together, and how much of the owner's limit that is by its ledger's rule; None
            without a ledger.
        accuracy: on public test data; None if there are none.
        baseline: what always predicting their most frequent class would reach; None for numbers.
        test_records: how many these are.
        rounds: per round that was judged: epsilon so far and quality on public validation records.
        losses: likewise, epsilon so far and their mean loss.
    """

    model: TrainedModel
    charges: tuple[Charge, ...]
    releases: int | None
    spending: Spending | None
    accuracy: float | None
    baseline: float | None
    test_records: int
    rounds: tuple[tuple[float, float], ...]
    losses: tuple[tuple[float, float], ...]

    @property
    def success(self) -> float:
        """How often any attacker is right at most who guesses between two equally likely values of a record."""
        return success_bound(epsilon=self.model.privacy.epsilon, delta=self.model.privacy.delta)

    @property
    def attacks(self) -> tuple[tuple[float, float], ...]:
        """False-positive rates of a test and the bound on its true-positive rate."""
        privacy = self.model.privacy
        return tuple(
            (rate, true_positive_bound(epsilon=privacy.epsilon, delta=privacy.delta, false_positive_rate=rate))
            for rate in _FALSE_POSITIVES
        )

    @property
    def beliefs(self) -> tuple[tuple[float, float], ...]:
        """What an attacker believed before, and may believe at most after a test that errs in 1 % of cases."""
        privacy = self.model.privacy
        return tuple(
            (
                prior,
                posterior_bound(epsilon=privacy.epsilon, delta=privacy.delta, prior=prior, false_positive_rate=0.01),
            )
            for prior in _PRIORS
        )

    def to_json(self) -> dict[str, Any]:
        """Return the facts as one JSON object."""
        return {
            "task": self.model.task,
            "session": self.model.session,
            "model": self.model.kind,
            "owners": list(self.model.owners),
            "epsilon": self.model.privacy.epsilon,
            "delta": self.model.privacy.delta,
            "releases": self.releases,
            "attacker_success": self.success,
            "true_positive_bounds": [list(pair) for pair in self.attacks],
            "posterior_bounds": [list(pair) for pair in self.beliefs],
            "sessions_charged": len(self.charges),
            "spending": self.spending and self.spending.to_json(),
            "accuracy": self.accuracy,
            "baseline": self.baseline,
            "test_records": self.test_records,
            "validated_rounds": len(self.rounds),
        }


def gather(
    state: Path, *, limit: PrivacyBudget | None = None, test: Path | None = None, log: Path | None = None
) -> Facts:
    """Read a process's files.

    Args:
        state: its state folder: the released model and, at an owner, the ledger.
        limit: what the owner granted, from its config.
        test: public table with labels.
        log: a coordinator's log, which has quality and loss of every round on public validation records.

    Raises:
        InputError: there is no model, or a file cannot be read.
        BudgetError: the ledger is damaged.
    """
    path = state / "model.json"
    if not path.is_file():
        raise InputError(f"{state} holds no model.json: name the state folder of an owner whose session has finished")
    model = TrainedModel.load(path)
    charges: tuple[Charge, ...] = ()
    releases = spending = None
    if (state / "ledger.db").is_file():
        with Ledger(state / "ledger.db") as ledger:
            entries = ledger.entries()
        charges = tuple(entry for entry in entries if isinstance(entry, Charge))
        session = bytes.fromhex(model.session)
        releases = sum(isinstance(entry, ReleaseRecord) and entry.session == session for entry in entries)
        spending = Spending.of((charge.task_cost for charge in charges), limit)
    accuracy, baseline, count = None, None, 0
    if test is not None:
        public = read_dataset(test, model.record_schema)
        accuracy = quality(model.decision(public.features), public.labels, label=model.record_schema.label)
        if model.record_schema.label.kind != "number":
            baseline = float(np.unique(public.labels, return_counts=True)[1].max() / len(public.labels))
        count = public.record_count
    judged = () if log is None else _judged_rounds(log, model)
    return Facts(
        model=model,
        charges=charges,
        releases=releases,
        spending=spending,
        accuracy=accuracy,
        baseline=baseline,
        test_records=count,
        rounds=_figures(judged, "validation"),
        losses=_figures(judged, "validation_loss"),
    )


def _judged_rounds(log: Path, model: TrainedModel) -> Sequence[Mapping[str, Any]]:
    """Read what a coordinator's log says of the rounds of a model's session."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise InputError(f"log {log}: {error.strerror}; name a coordinator's log") from error
    digest = model.task_digest[:16]
    entries = (entry for line in lines if (entry := _parsed(line)) is not None)
    return [
        entry for entry in entries if entry.get("event") == "round released" and entry.get("task", digest) == digest
    ]


def _figures(judged: Sequence[Mapping[str, Any]], name: str) -> tuple[tuple[float, float], ...]:
    return tuple((float(entry["epsilon"]), float(entry[name])) for entry in judged if entry.get(name) is not None)


def _parsed(line: str) -> Mapping[str, Any] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None
