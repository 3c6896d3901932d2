"""Central differential privacy by other people's libraries, on the pooled table: what a trusted curator would get.

Both are optional (``pip install "mpcdp[reproduce]"``). Each gets the same rows in the unit ball, and the best of a few
settings in hindsight at every epsilon, which favours them: the search is not charged.

* **diffprivlib** (IBM): logistic regression by objective perturbation, pure epsilon, one record replaced.
  Version 0.6.6 does not load beside scikit-learn 1.9: it names what that no longer has.
* **Opacus** (Meta): DP-SGD with Poisson samples, (epsilon, delta) for one record *added or removed*, which is a weaker
  promise than ours for one that is replaced.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpcdp.data.dataset import Dataset

__all__ = ["CENTRAL", "CentralMethod", "missing_libraries"]


@dataclass(frozen=True)
class CentralMethod:
    """A library's way to train on the pooled records.

    Args:
        key: of the method.
        library: that has to be installed.
        settings: tried, of which the best counts.
        train: dataset, epsilon, delta, setting and seed to a model, shape (d,).
        has_delta: whether delta plays a part.
    """

    key: str
    library: str
    settings: tuple[float, ...]
    train: Callable[[Dataset, float, float, float, int], NDArray[np.float64]]
    has_delta: bool


def missing_libraries() -> list[str]:
    """List the libraries that are not installed, or do not work with the versions of others that are."""
    return [method.library for method in CENTRAL if not _usable(method.library)]


def _usable(library: str) -> bool:
    try:
        import_module(library)
    except ImportError:
        return False
    return True


def _diffprivlib(
    dataset: Dataset, epsilon: float, delta: float, regularization: float, seed: int
) -> NDArray[np.float64]:
    from diffprivlib.models import LogisticRegression

    model = LogisticRegression(
        epsilon=epsilon,
        data_norm=1.0,
        C=1 / (regularization * dataset.record_count),
        fit_intercept=False,  # rows hold the bias
        max_iter=300,
        random_state=seed,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # convergence of a noisy objective, and what newer versions of its parts say
        model.fit(dataset.features, dataset.labels)
    return np.asarray(model.coef_, dtype=np.float64).reshape(-1)


_BATCH, _EPOCHS, _CLIPPING = 1024, 10, 1.0


def _opacus(dataset: Dataset, epsilon: float, delta: float, learning_rate: float, seed: int) -> NDArray[np.float64]:
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Opacus: fast generators are not cryptographic, hooks are deprecated
        model: Any = _private_training(dataset, epsilon, delta, learning_rate, torch.Generator().manual_seed(seed))
    return np.asarray(model._module.weight.detach().numpy()[0], dtype=np.float64)


def _private_training(dataset: Dataset, epsilon: float, delta: float, learning_rate: float, generator: Any) -> Any:
    """Train a linear layer by DP-SGD with a step that falls to zero."""
    import torch
    from opacus import PrivacyEngine

    rows = torch.tensor(dataset.features, dtype=torch.float32)
    labels = torch.tensor((dataset.labels + 1) / 2, dtype=torch.float32)
    layer = torch.nn.Linear(dataset.dimension, 1, bias=False)
    torch.nn.init.zeros_(layer.weight)
    optimizer = torch.optim.SGD(layer.parameters(), lr=learning_rate)
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(rows, labels), batch_size=_BATCH, generator=generator
    )
    private, optimizer, loader = PrivacyEngine().make_private_with_epsilon(
        module=layer,
        optimizer=optimizer,
        data_loader=loader,
        target_epsilon=epsilon,
        target_delta=delta,
        epochs=_EPOCHS,
        max_grad_norm=_CLIPPING,
        noise_generator=generator,
    )
    steps, loss = _EPOCHS * len(loader), torch.nn.BCEWithLogitsLoss()
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / steps)))
    for _ in range(_EPOCHS):
        for some, wanted in loader:
            optimizer.zero_grad()
            loss(private(some)[:, 0], wanted).backward()
            optimizer.step()
            schedule.step()
    return private


CENTRAL = (
    CentralMethod("diffprivlib", "diffprivlib", (1e-3, 1e-2, 1e-1), _diffprivlib, has_delta=False),
    CentralMethod("opacus", "opacus", (2.0, 16.0), _opacus, has_delta=True),
)
"""The libraries; the settings of diffprivlib are regularisations, those of Opacus learning rates."""
