"""The loss of one record of a PyTorch module: one of two that are built in, or any function that a task names.

An importable loss, ``"package.module:function"``, is called as ``function(scores, label)`` and returns one number:

* ``scores``: tensor of shape (K,), float64, the module's scores of one record; K = 1 for two classes and for numbers.
  They are whatever the module makes of it: huge, infinite or not a number as well.
* ``label``: tensor without dimensions, float64. Two classes: -1 for the schema's first, +1 for its second. Three or
  more: the position 0 .. K - 1 of the class in the schema. A number: its value, with its bounds mapped to [-1, 1].
* returned: a tensor without dimensions, which is finite where scores are moderate; the smaller, the better.

What scores *mean* follows the label whatever the loss is: one score above 0 means the second class, the largest of
several names the class, and a number is the score itself. A loss has to fit that.

The function is mapped over all records at once and differentiated (`torch.func`), so it consists of torch operations
alone: no ``if`` on a tensor, no ``item()``, nothing drawn at random. It must not raise, whatever the scores are: an
owner that stops because of one record's value tells what the record is. `check_record_loss` tries all of that before a
task is planned. Its gradients need no bound: each is clipped, and one that is not finite counts as zero.
"""

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from mpcdp.errors import TaskError

if TYPE_CHECKING:
    import torch

__all__ = ["LossFunction", "RecordLoss", "check_record_loss", "find_function", "find_record_loss", "is_imported"]

RecordLoss = Annotated[
    str,
    Field(
        pattern=r"^(cross-entropy|squared-error|[A-Za-z_][\w.]*:[A-Za-z_]\w*)$",
        description='"cross-entropy", "squared-error", or an importable function, "package.module:function"',
    ),
]

LossFunction = Callable[["torch.Tensor", "torch.Tensor"], "torch.Tensor"]
"""From one record's scores, shape (K,), and its label to its loss, both without dimensions."""

_WILD = (0.0, 1.0, -1.0, 1e300, -1e300, float("inf"), float("-inf"), float("nan"))
"""Scores that a loss must not raise for."""


def is_imported(loss: str) -> bool:
    """Tell a function that a task names from a loss that is built in."""
    return ":" in loss


def find_function(name: str, *, field: str) -> Callable[..., Any]:
    """Import what a task names; its code runs here.

    Args:
        name: ``"package.module:function"``.
        field: of the task, for the error.

    Raises:
        TaskError: it cannot be imported.
    """
    module, _, function = name.partition(":")
    try:
        found: Callable[..., Any] = getattr(importlib.import_module(module), function)
    except Exception as error:
        raise TaskError(
            f"{field}: {name} cannot be imported ({_first_line(error)}); install the package that has it, and write "
            '"package.module:function"'
        ) from error
    if not callable(found):
        raise TaskError(f"{field}: {name} is no function, it is a {type(found).__name__}; name a function")
    return found


def find_record_loss(loss: str) -> LossFunction:
    """Return a loss by its name.

    Raises:
        TaskError: it cannot be imported.
    """
    if is_imported(loss):
        return find_function(loss, field="model.loss")
    return _squared_error if loss == "squared-error" else _cross_entropy


def check_record_loss(loss: str, scores_of_zeros: "torch.Tensor") -> None:
    """Try an importable loss before any record is there.

    Args:
        loss: its name; those that are built in pass.
        scores_of_zeros: what the untrained module makes of a record of zeros, shape (K,).

    Raises:
        TaskError: it cannot be imported, does not return one finite number for a record of zeros, or cannot be
            differentiated for all records at once, whatever their scores are.
    """
    import torch

    if not is_imported(loss):
        return
    function, outputs = find_record_loss(loss), len(scores_of_zeros)
    labels = torch.tensor([-1.0, 1.0] if outputs == 1 else [0.0, outputs - 1.0], dtype=torch.float64)
    for label in labels:
        _check_value(loss, function, scores_of_zeros, label)
    each = [scores_of_zeros, *(torch.full_like(scores_of_zeros, value) for value in _WILD)]
    scores, beside = torch.stack(each).repeat(len(labels), 1), labels.repeat_interleave(len(each))
    try:
        torch.func.vmap(torch.func.grad(function))(scores, beside)
    except Exception as error:
        raise TaskError(
            f"model.loss: {loss} raised {_first_line(error)} when it was differentiated for several records at once, "
            "with scores that were huge, infinite or not a number among them; use torch operations alone that raise "
            "for no value, without `if` on a tensor, item() or anything drawn at random"
        ) from error


def _check_value(loss: str, function: LossFunction, scores: "torch.Tensor", label: "torch.Tensor") -> None:
    import torch

    try:
        value: object = function(scores, label)
    except Exception as error:
        raise TaskError(
            f"model.loss: {loss} raised {_first_line(error)} for a record of zeros; it is called with that record's "
            f"scores, shape ({len(scores)},), and its label, a tensor without dimensions"
        ) from error
    if not isinstance(value, torch.Tensor) or value.ndim or not value.is_floating_point():
        what = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else type(value).__name__
        raise TaskError(f"model.loss: {loss} returned {what}; return one real number, as a tensor without dimensions")
    if not torch.isfinite(value):
        raise TaskError(f"model.loss: {loss} of a record of zeros is {value.item()}; it has to be a finite number")


def _first_line(error: Exception) -> str:
    """Name an error in a line; it comes from code or from a record of zeros, not from anybody's record."""
    text = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__} ({text[:200]})"


def _squared_error(scores: "torch.Tensor", label: "torch.Tensor") -> "torch.Tensor":
    return 0.5 * (scores[0] - label) ** 2


def _cross_entropy(scores: "torch.Tensor", label: "torch.Tensor") -> "torch.Tensor":
    """Return the cross entropy of K scores; of one score, the logistic loss of its margin."""
    import torch
    from torch.nn import functional

    if len(scores) == 1:
        loss: torch.Tensor = functional.softplus(-label * scores[0])
        return loss
    mine = (torch.arange(len(scores)) == label).to(scores.dtype)
    return torch.logsumexp(scores, dim=0) - (mine * scores).sum()
