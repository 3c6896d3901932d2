"""Losses of one record that tasks of the tests name: some that can be trained with, and some that cannot."""

from typing import Any

import torch
from torch.nn import functional

A_NUMBER = 3


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
