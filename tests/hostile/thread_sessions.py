"""Small sessions between threads, and what must hold of every end, whatever was done to their processes."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
import structlog
from evidence import charged, check_evidence, models, session_in_the_clear
from mortal_world import MortalWorld, OnMessage
from networks import task_document
from session_world import make_dataset
from witness import digest_of

import mpcdp.roles.session as session_module
from mpcdp.errors import MpcdpError
from mpcdp.mpc.noise_bank import PerPartyNoise, PooledNoise
from mpcdp.secret_sharing.shares import NoiseShare, RingVector
from mpcdp.task import Task
from mpcdp.transport import failures

__all__ = ["SECONDS", "SETTINGS", "check_end", "hurried", "make_world", "quiet", "small_task", "without_noise"]

SECONDS = 40.0
SETTINGS = tuple(
    f"{method} {noise} {parties}"
    for method in ("output", "gradient")
    for noise in ("joint", "per-party")
    for parties in (2, 3)
)
_OWNERS = ("owner-1", "owner-2")
_ROUNDS = 3


def small_task(setting: str, *, seconds: float = 3.0) -> Task:
    """Return a task of two owners.

    Args:
        setting: such as ``"gradient joint 3"``.
        seconds: of its deadlines.
    """
    method, noise, parties = setting.split()
    document = task_document(
        [20, 20],
        parties=int(parties),
        features=3,
        privacy={"epsilon": 1.0, "delta": 1e-6, "mechanism": "gaussian", "noise": noise},
        deadlines={"start_seconds": seconds + 1, "contribution_seconds": seconds, "round_seconds": seconds},
    )
    if method == "gradient":
        document["model"] = {"kind": "logistic-regression", "regularization": 0.1}
        document["method"] = {
            "kind": "gradient-perturbation",
            "rounds": _ROUNDS,
            "learning_rate": 2.0,
            "clipping_norm": 0.5,
        }
    return Task.model_validate(document)


def make_world(
    folder: Path,
    setting: str,
    monkeypatch: pytest.MonkeyPatch,
    *,
    on_message: OnMessage = lambda number, parcel: None,
    seconds: float = 3.0,
) -> tuple[MortalWorld, Task]:
    """Return a world of a small task, in which nothing runs yet."""
    task = small_task(setting, seconds=seconds)
    datasets = {name: make_dataset(task, name, seed=number) for number, name in enumerate(_OWNERS)}
    return MortalWorld(folder, task, datasets, patch=monkeypatch.setattr, on_message=on_message), task


def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let outer deadlines follow inner ones sooner than between machines."""
    monkeypatch.setattr(session_module, "_SLACK_SECONDS", 1.0)


def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Log nothing: a line for each of a hundred thousand refusals is no help."""
    monkeypatch.setattr(failures, "_log", structlog.wrap_logger(None, processors=[_drop]))


def _drop(*_: object) -> NoReturn:
    raise structlog.DropEvent


def without_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the noise be taken as always, and hand out zeros instead of it."""
    for kind in (PerPartyNoise, PooledNoise):

        def zeros(noise: object, index: int, take: Callable[..., NoiseShare] = kind.take) -> NoiseShare:
            return NoiseShare(np.zeros(take(noise, index).dimension, dtype=np.int64))

        monkeypatch.setattr(kind, "take", zeros)


def check_end(
    world: MortalWorld,
    task: Task,
    *,
    noise: bool | Callable[[int], RingVector] = False,
    restored: Sequence[str] = (),
) -> bool:
    """Check how everything ended, and tell whether everybody got the model.

    Args:
        world: at its end.
        task: of its session.
        noise: whether noise was added, or which in each round. If that is known, all releases and the model are those
            of an undisturbed session.
        restored: who got an older copy of its state.

    Raises:
        AssertionError: what is wrong.
    """
    names = re.compile("|".join(map(re.escape, world.names)))
    for name, error in world.errors().items():
        assert isinstance(error, MpcdpError), f"{name}: {error!r}"
        assert names.search(str(error)), f"{name} names nobody: {error}"
        assert "internal error" not in str(error), f"{name}: {error}"
    states = world.states()
    for clone in world.clones:
        # Of an owner that lives twice, the one that was in the session has paid for it.
        if clone.name in _OWNERS and not charged(states[clone.name]):
            states[clone.name] = clone.state
    check_evidence(task, states, world.testimonies, restored=restored)
    found = models(states)
    if noise is not True:
        releases, exact = session_in_the_clear(task, world.datasets, noise or None)
        assert {each.digest for each in world.testimonies if each.kind == "released"} <= set(map(digest_of, releases))
        for name, model in found.items():
            assert np.array_equal(np.asarray(model.coefficients), exact), f"{name} has another model"
    for name in ("coordinator", *_OWNERS):
        assert name in found or name in world.errors(), f"{name} ended well without a model"
    return not world.errors() and found.keys() == {"coordinator", *_OWNERS}
