"""Losses of one record that tasks of the tests name: some that can be trained with, and some that cannot."""

from typing import Any

import torch
from torch.nn import functional

A_NUMBER = 3


def linear(*, inputs: int, outputs: int) -> Any:
    """A module, to go with a loss."""
    return torch.nn.Linear(inputs, outputs, bias=False)


def logistic_again(scores: Any, label: Any) -> Any:
    return torch.log1p(torch.exp(-label * scores[0]))


def softmax_again(scores: Any, label: Any) -> Any:
    return -functional.log_softmax(scores, dim=0).gather(0, label.long()[None])[0]


def squares_again(scores: Any, label: Any) -> Any:
    return ((scores[0] - label) / 2) ** 2 * 2


def steep(scores: Any, label: Any) -> Any:
    """Gradients that are huge, infinite or, above 1, not a number, from scores that are moderate."""
    return torch.exp(300 * scores.abs().sum()) * (2 - label) + torch.sqrt(1 - scores[0])


def absolute(scores: Any, label: Any) -> Any:
    return (scores[0] - label).abs()


def hinge(scores: Any, label: Any) -> Any:
    return torch.relu(1 - label * scores[0])


def rounded_hinge(scores: Any, label: Any) -> Any:
    """The Huber loss of a margin, its rounded part from 0.5 to 1.5."""
    short = (1.5 - label * scores[0]).clamp(min=0)
    return torch.where(short < 1, short**2 / 2, short - 0.5)


def with_three_arguments(scores: Any, label: Any, weight: Any) -> Any:
    return scores[0] * label * weight


def no_tensor(scores: Any, label: Any) -> Any:
    return float(scores[0] * label)


def of_every_score(scores: Any, label: Any) -> Any:
    return (scores - label) ** 2


def whole(scores: Any, label: Any) -> Any:
    return (scores[0] * label).long()


def infinite(scores: Any, label: Any) -> Any:
    return (scores[0] - label) / 0


def only_of_the_second_class(scores: Any, label: Any) -> Any:
    return torch.log(label) + scores[0]


def deciding(scores: Any, label: Any) -> Any:
    return torch.relu(1 - scores[0]) if label > 0 else torch.relu(1 + scores[0])


def drawing(scores: Any, label: Any) -> Any:
    return (scores[0] - label + torch.randn(())) ** 2


def particular(scores: Any, label: Any) -> Any:
    """Raises for what is no probability, which a sigmoid of no number is not."""
    return functional.binary_cross_entropy(torch.sigmoid(scores[0]), (label + 1) / 2)
