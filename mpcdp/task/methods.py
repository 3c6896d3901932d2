"""From what a task asks for to the method that trains, with what the rules choose filled in."""

import math
from typing import TYPE_CHECKING

from mpcdp.errors import ConfigError
from mpcdp.learning.gradient_perturbation import SAMPLING_STEPS, GradientPerturbation
from mpcdp.learning.linear import LinearModel, MarginResiduals, Residuals, SoftmaxResiduals, SquaredResiduals
from mpcdp.learning.losses import HuberSvmLoss, LogisticLoss, Loss
from mpcdp.learning.method import Method
from mpcdp.learning.module_model import ModuleModel
from mpcdp.learning.output_perturbation import OutputPerturbation
from mpcdp.learning.schedule import choose_schedule
from mpcdp.learning.scores import output_count
from mpcdp.learning.statistics import SufficientStatistics
from mpcdp.learning.update_aggregation import UpdateAggregation
from mpcdp.privacy.accountant import gaussian_mu

if TYPE_CHECKING:
    from mpcdp.task.task import Task

__all__ = ["linear_model_of", "loss_of", "method_of", "module_of"]


def loss_of(task: "Task") -> Loss:
    """Build the margin loss that [model] names.

    Raises:
        ConfigError: the model has another kind of loss.
    """
    match task.model.kind:
        case "huber-svm":
            return HuberSvmLoss(width=task.model.huber_width or 1.0)
        case "logistic-regression":
            return LogisticLoss()
    raise ConfigError(f"model.kind: {task.model.kind} has no loss of a margin")


def method_of(task: "Task") -> Method:
    """Build the method that [method] names."""
    asked, model = task.method_, task.model
    match asked.kind:
        case "statistics":
            return SufficientStatistics(parameter_count=task.schema_.dimension)
        case "gradient-perturbation":
            return _gradient_perturbation(task)
        case "update-aggregation":
            return UpdateAggregation(
                dimension=model.coordinates or 0,
                rounds=asked.rounds or 0,
                clipping_norm=asked.clipping_norm or math.nan,
            )
    return OutputPerturbation(
        loss=loss_of(task),
        regularization=model.regularization or math.nan,
        certificate=model.certificate or math.nan,
        dimension=task.schema_.dimension,
        training_seconds=task.deadlines.start_seconds,
    )


def module_of(task: "Task") -> ModuleModel | None:
    """Build the PyTorch module that [model] names, if it names one."""
    asked = task.model
    if asked.factory is None or asked.loss is None or asked.seed is None:
        return None
    return ModuleModel(
        factory=asked.factory,
        loss=asked.loss,
        seed=asked.seed,
        dimension=task.schema_.dimension,
        outputs=output_count(task.schema_.label),
    )


def linear_model_of(task: "Task") -> LinearModel:
    """Build the linear model that [model] names, for training by gradients."""
    kind: Residuals
    match task.model.kind:
        case "ridge-regression":
            kind = SquaredResiduals()
        case "multinomial-logistic-regression":
            kind = SoftmaxResiduals(task.schema_.label.class_count)
        case _:
            kind = MarginResiduals(loss_of(task))
    return LinearModel(kind=kind, dimension=task.schema_.dimension)


def _gradient_perturbation(task: "Task") -> GradientPerturbation:
    asked, regularization = task.method_, task.model.regularization or 0.0
    model = module_of(task) or linear_model_of(task)
    if isinstance(model, ModuleModel):
        model.check_loss()
    schedule = choose_schedule(
        mu=gaussian_mu(epsilon=task.privacy.epsilon, delta=task.privacy.delta),
        record_count=sum(task.record_counts),
        dimension=model.parameter_count,
        gradient_bound=model.gradient_bound,
        smoothness=model.smoothness,
        quadratic=isinstance(model, LinearModel) and model.quadratic,
        regularization=regularization,
        rounds=asked.rounds,
        learning_rate=asked.learning_rate,
        momentum=asked.momentum,
        clipping_norm=asked.clipping_norm,
    )
    rate = 1.0 if asked.sampling_rate is None else asked.sampling_rate
    return GradientPerturbation(
        model=model,
        rounds=schedule.rounds,
        learning_rate=schedule.learning_rate,
        clipping_norm=schedule.clipping_norm,
        regularization=regularization,
        momentum=schedule.momentum,
        averaging=asked.averaging is not False,
        radius=asked.radius,
        sampling_rate=max(1, round(rate * SAMPLING_STEPS)) / SAMPLING_STEPS,
    )
