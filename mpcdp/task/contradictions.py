"""What is wrong between values of a task that are right one by one."""

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from mpcdp.data.schema import Label
from mpcdp.learning.record_loss import is_imported

if TYPE_CHECKING:
    from mpcdp.task.task import Task

__all__ = ["contradictions"]


def contradictions(task: "Task") -> Iterator[str]:
    """Find what is wrong between values that are right one by one."""
    if (task.model.kind == "huber-svm") != (task.model.huber_width is not None):
        yield (
            f'model.huber_width: expected with kind = "huber-svm", and only with it, got {task.model.huber_width} with '
            f'"{task.model.kind}"'
        )
    yield from _contradictions_of_method(task)
    if not 2 <= len(task.compute_parties) <= 5:
        yield f"compute_parties: expected 2 to 5 [[compute_parties]], got {len(task.compute_parties)}"
    if (task.privacy.noise == "joint") != (task.dealer is not None):
        yield (
            'dealer: expected a [dealer] with privacy.noise = "joint", and only with it, got '
            f'{"one" if task.dealer else "none"} with "{task.privacy.noise}"; '
            + ('leave it out, or set noise = "joint"' if task.dealer else 'name one, or set noise = "per-party"')
        )
    if task.session.contribution_check and task.privacy.noise != "joint":
        yield (
            'session.contribution_check: expected with privacy.noise = "joint" only, as it needs a dealer, got it with '
            f'"{task.privacy.noise}"'
        )
    if not task.owners:
        yield "owners: expected at least one [[owners]], got none"
    if task.session.minimum_owners > len(task.owners):
        yield f"session.minimum_owners: expected at most {len(task.owners)}, got {task.session.minimum_owners}"
    for what in ("name", "certificate"):
        for value, count in Counter(getattr(member, what) for member in task.members()).items():
            if count > 1:
                yield f"{what}: expected every {what} once in the whole task, got {value!r} {count} times"


_LABELS = {
    "logistic-regression": ("binary",),
    "huber-svm": ("binary",),
    "multinomial-logistic-regression": ("multi-class",),
    "ridge-regression": ("number", "binary"),
    "module": ("binary", "multi-class", "number"),
}
_UPDATES = "update-aggregation"
_ONLY_MODULE = ("factory", "loss", "seed")
_ONLY_GRADIENT = ("rounds", "learning_rate", "clipping_norm", "momentum", "averaging", "radius", "sampling_rate")
_NOT_UPDATE = ("regularization", "certificate", "huber_width", *_ONLY_MODULE)
_OF_UPDATES = ("rounds", "clipping_norm")


def _contradictions_of_method(task: "Task") -> Iterator[str]:
    """Find what is wrong between [method], [model], [privacy], the label and the record counts."""
    if (task.method_.kind == _UPDATES) != (task.model.kind == "update"):
        yield (
            f'model.kind: expected "update" with the method "{_UPDATES}", and only with it, got "{task.model.kind}" '
            f'with "{task.method_.kind}"'
        )
    elif task.model.kind == "update":
        yield from _contradictions_of_updates(task)
    elif task.schema_section is None:
        yield "schema: expected a value, got none"
    else:
        yield from _contradictions_of_training(task, task.schema_section.label)


def _contradictions_of_updates(task: "Task") -> Iterator[str]:
    """Find what is wrong in a task whose owners have updates instead of tables."""
    if task.schema_section is not None:
        yield f'schema: expected none with the method "{_UPDATES}", whose owners have no table, got one'
    if task.privacy.mechanism != "gaussian":
        yield f'privacy.mechanism: expected "gaussian" with the method "{_UPDATES}", got "{task.privacy.mechanism}"'
    if task.model.coordinates is None:
        yield 'model.coordinates: expected with kind = "update", got none'
    for name in _NOT_UPDATE:
        if (value := getattr(task.model, name)) is not None:
            yield f'model.{name}: expected none with kind = "update", got {value!r}'
    for name in _ONLY_GRADIENT:
        if (getattr(task.method_, name) is not None) != (name in _OF_UPDATES):
            yield f'method.{name}: expected {"a value" if name in _OF_UPDATES else "none"} with "{_UPDATES}"'
    for index, owner in enumerate(task.owners):
        if owner.record_count != 1:
            yield (
                f'owners[{index}].record_count: expected 1 with the method "{_UPDATES}", which protects whole owners, '
                f"got {owner.record_count}"
            )


def _contradictions_of_training(task: "Task", label: Label) -> Iterator[str]:
    """Find what is wrong in a task whose owners have tables."""
    method, model = task.method_.kind, task.model
    for index, count in enumerate(task.record_counts):
        if count < 2:
            yield f"owners[{index}].record_count: expected a number greater than or equal to 2, got {count}"
    if model.coordinates is not None:
        yield f'model.coordinates: expected with kind = "update" only, got it with "{model.kind}"'
    if label.kind not in _LABELS[model.kind]:
        yield f'schema.label: expected {" or ".join(_LABELS[model.kind])} with "{model.kind}", got {label.kind}'
    if method == "output-perturbation" and model.kind not in ("logistic-regression", "huber-svm"):
        yield f'model.kind: expected a loss of a margin with output perturbation, got "{model.kind}"'
    if method == "statistics" and model.kind != "ridge-regression":
        yield f'model.kind: expected "ridge-regression" with the method "statistics", got "{model.kind}"'
    if method == "gradient-perturbation" and task.privacy.mechanism != "gaussian":
        yield f'privacy.mechanism: expected "gaussian" with gradient perturbation, got "{task.privacy.mechanism}"'
    if (model.certificate is not None) != (method == "output-perturbation"):
        yield f"model.certificate: expected with output perturbation, and only with it, got {model.certificate}"
    if (model.regularization is None) != (method == "statistics"):
        yield f'model.regularization: expected with every method but "statistics", got {model.regularization}'
    builtin = model.loss is not None and not is_imported(model.loss)
    if model.kind == "module" and builtin and (model.loss == "squared-error") != (label.kind == "number"):
        yield f'model.loss: expected "squared-error" with a number to predict, and only with it, got "{model.loss}"'
    if model.kind == "module" and method != "gradient-perturbation":
        yield f'method.kind: expected "gradient-perturbation" with a module, got "{method}"'
    for name in _ONLY_MODULE:
        if (getattr(model, name) is None) == (model.kind == "module"):
            yield f'model.{name}: expected with kind = "module", and only with it, got {getattr(model, name)!r}'
    if method != "gradient-perturbation":
        for name in _ONLY_GRADIENT:
            if getattr(task.method_, name) is not None:
                yield f'method.{name}: expected with gradient perturbation only, got it with "{method}"'
