"""A released model as a file: coefficients, the schema they belong to, and the privacy they cost."""

import json
import os
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mpcdp.data.schema import Schema
from mpcdp.errors import InputError
from mpcdp.learning.module_model import ModuleModel
from mpcdp.learning.record_loss import RecordLoss
from mpcdp.learning.scores import output_count, scores
from mpcdp.private_files import sync_folder

__all__ = ["ModuleSource", "PrivacyStatement", "TrainedModel"]


class PrivacyStatement(BaseModel):
    """What a release cost, in numbers and in words.

    Args:
        epsilon: of (epsilon, delta)-differential privacy, for the whole session.
        delta: likewise.
        relation: which neighbouring tables the guarantee compares.
        text: the guarantee and its assumptions, for people.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    epsilon: float
    delta: float
    relation: str
    text: str


class ModuleSource(BaseModel):
    """Which PyTorch module a model's coefficients belong to: the task's ``factory``, ``loss`` and ``seed``.

    Predicting needs the factory alone: what scores mean follows the label, not the loss.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    factory: str
    loss: RecordLoss
    seed: int


class TrainedModel(BaseModel):
    """A model that a session released. The file is JSON: loading it runs no code, but *predicting* with a module
    imports the factory it names; do that with models from people whose software you would install.

    Args:
        task: the task's name.
        task_digest: SHA-256 of the task, hexadecimal.
        session: id of the session, hexadecimal.
        kind: what was trained.
        record_schema: how a row becomes features; None for updates.
        coefficients: one per feature of the schema, the bias last; for three or more classes, those of each class in
            turn; or the parameters of a module; or the sum of all rounds' mean updates of a model that other software
            trains.
        module: where the module comes from; None for linear models.
        owners: whose contributions the last round held.
        privacy: what it cost each record.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", serialize_by_alias=True)

    format: Literal["mpcdp-model/1"] = "mpcdp-model/1"
    task: str
    task_digest: str
    session: str
    kind: Literal[
        "logistic-regression", "huber-svm", "multinomial-logistic-regression", "ridge-regression", "module", "update"
    ]
    module: ModuleSource | None = None
    schema_section: Schema | None = Field(default=None, alias="record_schema")
    coefficients: tuple[float, ...]
    owners: tuple[str, ...]
    privacy: PrivacyStatement

    @model_validator(mode="after")
    def _dimension_fits(self) -> "TrainedModel":
        if (self.module is None) == (self.kind == "module"):
            raise ValueError("a module's source belongs to models of kind module, and only to them")
        if (self.schema_section is None) != (self.kind == "update"):
            raise ValueError("a schema belongs to models of every kind but update, and only to them")
        if self.module is None and self.schema_section is not None:
            expected = output_count(self.schema_section.label) * self.schema_section.dimension
            if len(self.coefficients) != expected:
                raise ValueError(f"{len(self.coefficients)} coefficients for {expected} features and outputs")
        if not np.isfinite(self.coefficients).all():
            raise ValueError("a coefficient is not a finite number")
        return self

    @property
    def record_schema(self) -> Schema:
        """How a row becomes features.

        Raises:
            InputError: this is a sum of updates, which only the software that trains their model can use.
        """
        if self.schema_section is None:
            raise InputError(f"model of task {self.task!r}: it is a sum of updates; use it where they were computed")
        return self.schema_section

    def save(self, path: Path) -> None:
        """Write the model, replacing the file in one step; it is on disk when this returns."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(path.name + ".part")
        with temporary.open("w", encoding="utf-8") as file:
            file.write(self.model_dump_json(indent=2, by_alias=True) + "\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)

    @classmethod
    def load(cls, path: Path) -> "TrainedModel":
        """Read a model file.

        Raises:
            InputError: the file cannot be read or is not a model of this format.
        """
        try:
            return cls.model_validate(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
            problem = error.strerror if isinstance(error, OSError) else error
            raise InputError(f"model {path}: {problem}; give the model.json that a session wrote") from error
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "file"
            raise InputError(
                f"model {path}: {where}: {first['msg']}; give the model.json that a session wrote"
            ) from error

    def decision(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return each row's scores, shape (n,), or (n, K) for three or more classes.

        One score: positive means the schema's second class, or it is the number itself, on the scale [-1, 1] of its
        bounds. Several: the largest one names the class.

        Args:
            features: shape (n, d), as `mpcdp.data.table.read_features` makes them.
        """
        label, source = self.record_schema.label, self.module
        module = None
        if source is not None:
            module = ModuleModel(
                factory=source.factory,
                loss=source.loss,
                seed=source.seed,
                dimension=self.record_schema.dimension,
                outputs=output_count(label),
            )
            if module.parameter_count != len(self.coefficients):
                raise InputError(
                    f"model: {source.factory} makes a module of {module.parameter_count} parameters, the file has "
                    f"{len(self.coefficients)}: install the version of its package that the model was trained with"
                )
        return scores(np.asarray(self.coefficients), features, label=label, module=module)

    def predict(self, features: NDArray[np.float64]) -> list[str]:
        """Return the predicted class of each row, or the predicted number in the column's own units."""
        label, values = self.record_schema.label, self.decision(features)
        if label.kind == "number":
            return [f"{value:.9g}" for value in label.unscale(values)]
        positions = values.argmax(axis=1) if values.ndim == 2 else (values > 0).astype(np.int64)
        return [label.classes[position] for position in positions]
