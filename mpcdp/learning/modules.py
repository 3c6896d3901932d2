"""Modules to train, as examples of what a task's ``model.factory`` names.

``factory = "mpcdp.learning.modules:small_mlp"``
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["small_mlp"]

_HIDDEN = 16


def small_mlp(*, inputs: int, outputs: int) -> "torch.nn.Module":
    """Make a network with one hidden layer of 16 units.

    Args:
        inputs: features of a record, the bias coordinate included.
        outputs: scores of a record.
    """
    from torch import nn

    return nn.Sequential(nn.Linear(inputs, _HIDDEN, bias=False), nn.Tanh(), nn.Linear(_HIDDEN, outputs))
