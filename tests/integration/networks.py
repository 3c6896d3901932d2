"""Small real networks for tests: synthetic tables, a task, certificates, and the processes of mpcdp on loopback."""

import csv
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w

from mpcdp.data.dataset import Dataset
from mpcdp.data.table import read_dataset
from mpcdp.local_network import LocalNetwork, create_network
from mpcdp.task import Task, load_task
from mpcdp.transport.channel import Role

__all__ = ["TestNetwork", "make_network", "task_document", "without_noise", "write_table"]


def task_document(
    records: Sequence[int], *, parties: int = 3, features: int = 4, start_seconds: float = 60.0, **sections: Any
) -> dict[str, Any]:
    """Return a task as TOML would hold it; ``sections`` replace or extend its sections."""
    noise = sections.get("privacy", {}).get("noise", "joint")
    document: dict[str, Any] = {
        "task": {"version": 1, "name": "test"},
        "model": {"kind": "logistic-regression", "regularization": 0.1, "certificate": 1e-7},
        "method": {"kind": "output-perturbation"},
        "privacy": {"epsilon": 1.0, "delta": 1e-6, "mechanism": "gaussian", "noise": noise},
        "schema": {
            "row_radius": 2.0,
            "label": {"column": "label", "classes": ["no", "yes"]},
            "features": [{"name": f"x{i}", "lower": -1.0, "upper": 1.0} for i in range(features)],
        },
        "deadlines": {"start_seconds": start_seconds, "contribution_seconds": 30.0, "round_seconds": 30.0},
        "coordinator": {"name": "coordinator"},
        "compute_parties": [{"name": f"party-{i + 1}"} for i in range(parties)],
        "owners": [{"name": f"owner-{i + 1}", "record_count": count} for i, count in enumerate(records)],
    }
    if noise == "joint":
        document["dealer"] = {"name": "dealer"}
    for section, values in sections.items():
        document[section] = {**document.get(section, {}), **values} if isinstance(values, dict) else values
    return document


def write_table(path: Path, *, records: int, features: int, seed: int) -> None:
    """Write a table of a noisy linear rule."""
    generator = np.random.default_rng(seed)
    rows = generator.uniform(-1.0, 1.0, size=(records, features))
    labels = np.where(rows.sum(axis=1) + generator.normal(0.0, 0.3, records) > 0, "yes", "no")
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*(f"x{i}" for i in range(features)), "label"])
        writer.writerows([*map(repr, row.tolist()), label] for row, label in zip(rows, labels, strict=True))


@dataclass(frozen=True)
class TestNetwork:
    """A network's folder, its task and its owners' records."""

    __test__ = False

    folder: Path
    task: Task
    datasets: Mapping[str, Dataset]

    def processes(self, **arguments: Any) -> LocalNetwork:
        """Return the network's processes, not yet started."""
        return LocalNetwork(self.folder, **arguments)

    def model_path(self, name: str) -> Path:
        """Return where a process writes the released model."""
        return self.folder / name / "state" / "model.json"


def make_network(folder: Path, document: Mapping[str, Any]) -> TestNetwork:
    """Write tables, task, certificates and configs."""
    tables = {}
    for number, owner in enumerate(document["owners"]):
        path = folder / f"{owner['name']}.csv"
        write_table(path, records=owner["record_count"], features=len(document["schema"]["features"]), seed=number)
        tables[owner["name"]] = path
    (folder / "task.toml").write_bytes(tomli_w.dumps(document).encode())
    create_network(folder / "network", folder / "task.toml", tables=tables)
    task = load_task(folder / "task.toml")
    datasets = {name: read_dataset(path, task.schema_) for name, path in tables.items()}
    return TestNetwork(folder=folder / "network", task=task, datasets=datasets)


def without_noise(role: Role, config: Path) -> list[str]:
    """Start compute parties whose noise vectors are all zero; everything else as in the product."""
    program = (
        [str(Path(__file__).with_name("compute_without_noise.py"))] if role == "compute" else ["-m", f"parties.{role}"]
    )
    return [sys.executable, *program, "--config", str(config)]
