"""Central differential privacy by other people's libraries, on the pooled table: what a trusted curator would get.

Each gets the same rows in the unit ball, and the best of a few settings in hindsight at every epsilon, which favours
them: the search is not charged.

* **diffprivlib** (IBM): logistic regression by objective perturbation, least squares by the functional mechanism, both
  pure epsilon, one record replaced. It does not load beside the scikit-learn that others here need (version 0.6.6 names
  what 1.9 no longer has), so it runs in an environment of its own, made at the first use.
* **Opacus** (Meta; ``pip install "mpcdp[reproduce]"``): DP-SGD with Poisson samples, (epsilon, delta) for one record
  *added or removed*, which is a weaker promise than ours for one that is replaced.
"""

import json
import math
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpcdp.data.dataset import Dataset
from mpcdp.errors import PeerError
from mpcdp.own_environment import own_environment, run_alone

__all__ = ["CENTRAL", "DIFFPRIVLIB", "CentralMethod", "Trial", "left_out"]

DIFFPRIVLIB = ("diffprivlib==0.6.6", "numpy==2.4.6", "scikit-learn==1.7.2", "scipy==1.17.1")
"""Its environment: the newest scikit-learn that it works with, and versions with wheels for every Python we support."""

_MAKING_SECONDS = 1800.0
_TRIAL_SECONDS = 600.0


@dataclass(frozen=True)
class Trial:
    """One training that is asked for.

    Args:
        epsilon: budget.
        delta: budget; not every library uses it.
        setting: what the library was set to.
        seed: of its noise.
    """

    epsilon: float
    delta: float
    setting: float
    seed: int


@dataclass(frozen=True)
class CentralMethod:
    """A library's way to train on the pooled records.

    Args:
        library: its name, and the method's key.
        settings: tried, of which the best counts.
        prepare: makes it usable.
        train: dataset and trials to their models, shape (number of trials, d).
        has_delta: whether delta plays a part.
    """

    library: str
    settings: tuple[float, ...]
    prepare: Callable[[], object]
    train: Callable[[Dataset, Sequence[Trial]], NDArray[np.float64]]
    has_delta: bool


def left_out() -> dict[str, str]:
    """Make the libraries usable; return those that are not, and why."""
    reasons = {}
    for method in CENTRAL:
        try:
            method.prepare()
        except (ImportError, PeerError) as error:
            reasons[method.library] = str(error)
    return reasons


@cache
def _diffprivlib_python() -> Path:
    """Make diffprivlib's environment, and see that it loads there."""
    python = own_environment("diffprivlib", DIFFPRIVLIB, seconds=_MAKING_SECONDS)
    run_alone([str(python), "-I", "-c", "import diffprivlib.models"], seconds=_TRIAL_SECONDS)
    return python


def _diffprivlib(dataset: Dataset, trials: Sequence[Trial]) -> NDArray[np.float64]:
    python = _diffprivlib_python()
    jobs = [
        {
            "epsilon": trial.epsilon,
            "regularization": trial.setting,
            "seed": trial.seed,
            "regression": dataset.class_count == 0,
        }
        for trial in trials
    ]
    program = files("mpcdp.reproduce").joinpath("diffprivlib_script.py")
    with tempfile.TemporaryDirectory(prefix="mpcdp-diffprivlib-") as name, as_file(program) as script:
        table, wanted = Path(name) / "table.npz", Path(name) / "jobs.json"
        np.savez(table, features=dataset.features, labels=dataset.labels)
        wanted.write_text(json.dumps(jobs), encoding="utf-8")
        command = [str(python), "-I", str(script), str(table), str(wanted)]
        models = json.loads(run_alone(command, seconds=_TRIAL_SECONDS * len(trials)))
    return np.array(models, dtype=np.float64).reshape(len(trials), dataset.dimension)


_BATCH, _EPOCHS, _CLIPPING = 1024, 10, 1.0


def _opacus(dataset: Dataset, trials: Sequence[Trial]) -> NDArray[np.float64]:
    models = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Opacus: fast generators are not cryptographic, hooks are deprecated
        for trial in trials:
            model = _private_training(dataset, trial)
            models.append(np.asarray(model._module.weight.detach().numpy()[0], dtype=np.float64))
    return np.stack(models)


def _private_training(dataset: Dataset, trial: Trial) -> Any:
    """Train a linear layer by DP-SGD with a step that falls to zero."""
    import torch
    from opacus import PrivacyEngine

    generator = torch.Generator().manual_seed(trial.seed)
    rows, labels = torch.tensor(dataset.features, dtype=torch.float32), _torch_labels(dataset)
    layer = torch.nn.Linear(dataset.dimension, 1, bias=False)
    torch.nn.init.zeros_(layer.weight)
    optimizer = torch.optim.SGD(layer.parameters(), lr=trial.setting)
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(rows, labels), batch_size=_BATCH, generator=generator
    )
    multiplier = _noise_multiplier(trial.epsilon, trial.delta, 1 / len(loader))
    private, optimizer, loader = PrivacyEngine().make_private(
        module=layer,
        optimizer=optimizer,
        data_loader=loader,
        noise_multiplier=multiplier,
        max_grad_norm=_CLIPPING,
        noise_generator=generator,
    )
    loss = torch.nn.MSELoss() if dataset.class_count == 0 else torch.nn.BCEWithLogitsLoss()
    steps = _EPOCHS * len(loader)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / steps)))
    for _ in range(_EPOCHS):
        for some, wanted in loader:
            optimizer.zero_grad()
            loss(private(some)[:, 0], wanted).backward()
            optimizer.step()
            schedule.step()
    return private


@cache
def _noise_multiplier(epsilon: float, delta: float, sampling_rate: float) -> float:
    """Ask Opacus' accountant, at a precision that fits the budget: its own, 0.01, is more than small ones."""
    from opacus.accountants.utils import get_noise_multiplier

    precision = min(0.01, epsilon / 20)
    return float(
        get_noise_multiplier(
            target_epsilon=epsilon,
            target_delta=delta,
            sample_rate=sampling_rate,
            epochs=_EPOCHS,
            accountant="prv",
            epsilon_tolerance=precision,
            eps_error=precision,
        )
    )


def _torch_labels(dataset: Dataset) -> Any:
    """Return numbers as they are, classes as 0 and 1."""
    import torch

    labels = dataset.labels if dataset.class_count == 0 else (dataset.labels + 1) / 2
    return torch.tensor(labels, dtype=torch.float32)


CENTRAL = (
    CentralMethod("diffprivlib", (1e-3, 1e-2, 1e-1), _diffprivlib_python, _diffprivlib, has_delta=False),
    CentralMethod("opacus", (2.0, 16.0), partial(import_module, "opacus"), _opacus, has_delta=True),
)
"""The libraries; the settings of diffprivlib are regularisations, those of Opacus learning rates."""
