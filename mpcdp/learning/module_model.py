"""Sums of clipped per-record gradients of any PyTorch module and any loss of one record.

A task names an importable *factory*, ``"package.module:function"``, which is called with the number of features and of
outputs and returns a ``torch.nn.Module``. Its first parameters are drawn from a public seed; the parameters, one after
the other, are the model's one flat float64 vector. `mpcdp.learning.record_loss` has the losses.

Per-record gradients come from `torch.func` (``vmap`` over ``grad``), in micro-batches of bounded memory, in float64.
Each is clipped, and they are added up. That a record's gradient depends on no other record is what the privacy of the
whole method rests on, so modules that mix records (batch normalisation) or draw at random (dropout) are refused.

**Clipped means clipped.** A norm of p numbers errs by less than (p + 4) 2^-53 of itself, whatever the order of its
sum; gradients are shortened to C (1 - 2^-32 - p 2^-52), so that as real numbers none is longer than C. One that is not
finite, or whose norm is not, counts as zero. **Rounding of the sum**: n terms added in any order, gamma_n n C at most.

torch is imported when such a model is used, and not before.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mpcdp.data.dataset import Dataset
from mpcdp.data.records import Blocks
from mpcdp.errors import TaskError
from mpcdp.learning.record_loss import LossFunction, RecordLoss, check_record_loss, find_function, find_record_loss

if TYPE_CHECKING:
    import torch

__all__ = ["ModuleModel"]

_BATCH_NUMBERS = 2**22
"""Most gradient coordinates held at a time: 32 MiB, and a few times that while they are computed."""

_UNIT_ROUNDOFF = 2.0**-53


@dataclass(frozen=True, kw_only=True)
class ModuleModel:
    """A PyTorch module, for training by gradients.

    Args:
        factory: ``"package.module:function"``; called as ``function(inputs=d, outputs=K)``.
        loss: of one record: ``"cross-entropy"`` of K scores (one score for two classes), ``"squared-error"`` (half of
            it), or an importable function of the scores and the label; see `mpcdp.learning.record_loss`.
        seed: public; of the first parameters.
        dimension: features d of a record, the bias coordinate included; at least 1.
        outputs: scores K of a record; 1 for two classes or a number.
    """

    factory: str
    loss: RecordLoss
    seed: int
    dimension: int
    outputs: int

    @cached_property
    def _module(self) -> "torch.nn.Module":
        """The module, with its first parameters.

        Raises:
            TaskError: there is no such factory, or its module cannot be trained with privacy.
        """
        import torch

        create = find_function(self.factory, field="model.factory")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)  # public: it decides where training starts, and hides nothing
            module = create(inputs=self.dimension, outputs=self.outputs)
        if not isinstance(module, torch.nn.Module):
            raise TaskError(f"model.factory: {self.factory} returned no torch.nn.Module; return one")
        for part in module.modules():
            mixes = isinstance(part, torch.nn.modules.batchnorm._NormBase) and not _keeps_records_apart(part)
            if mixes or isinstance(part, torch.nn.modules.dropout._DropoutNd):
                raise TaskError(
                    f"model.factory: {self.factory} has a {type(part).__name__}, which mixes records or draws at "
                    "random; use LayerNorm or GroupNorm, and no dropout"
                )
        return module.double().train(False)

    @cached_property
    def _loss_function(self) -> LossFunction:
        return find_record_loss(self.loss)

    def check_loss(self) -> None:
        """Try the loss on a record of zeros, which is nobody's, before training is planned.

        Raises:
            TaskError: an importable loss cannot be trained with; see `mpcdp.learning.record_loss`.
        """
        import torch

        scores = self.scores(self.initial_parameters(), np.zeros((1, self.dimension)))
        check_record_loss(self.loss, torch.from_numpy(scores[0]))

    @cached_property
    def parameter_count(self) -> int:
        """Number of coordinates p of a model."""
        return sum(parameter.numel() for parameter in self._module.parameters())

    @property
    def gradient_bound(self) -> float:
        """1: there is no bound for modules; the rules measure clipping against this."""
        return 1.0

    @property
    def smoothness(self) -> float:
        """8: there is no bound for modules; it makes the rules' longest step 2."""
        return 8.0

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the first parameters, 16 digits: processes whose torch draws others must not train together."""
        return hashlib.sha256(self.initial_parameters().astype("<f8").tobytes()).hexdigest()[:16]

    def initial_parameters(self) -> NDArray[np.float64]:
        """Return the public first parameters, shape (p,)."""
        parts = [parameter.detach().numpy().ravel() for parameter in self._module.parameters()]
        return np.concatenate(parts).astype(np.float64)

    def summation_error(self, record_count: int) -> float:
        """Bound the L2 error of a computed sum of so many gradients, per unit of clipping norm."""
        return record_count * record_count * _UNIT_ROUNDOFF / (1 - record_count * _UNIT_ROUNDOFF)

    @property
    def block_size(self) -> int:
        """Rows that are added up at a time."""
        return max(1, _BATCH_NUMBERS // self.parameter_count)

    def clipped_sum(
        self, dataset: Blocks, parameters: NDArray[np.float64], *, clipping_norm: float
    ) -> NDArray[np.float64]:
        """Add up the records' gradients, each clipped to a norm, shape (p,); memory for one micro-batch.

        Raises:
            ValueError: the table's dimension is not the model's.
        """
        if dataset.dimension != self.dimension:
            raise ValueError(f"a table of dimension {dataset.dimension} does not fit a model of {self.dimension}")
        total = np.zeros(self.parameter_count)
        block_sum = partial(self._block_sum, parameters=parameters, clipping_norm=clipping_norm)
        for part in dataset.map_blocks(block_sum, self.block_size):
            total += part
        return total

    def _block_sum(
        self, block: Dataset, first: int, *, parameters: NDArray[np.float64], clipping_norm: float
    ) -> NDArray[np.float64]:
        """Add up a block's clipped gradients, shape (p,)."""
        import torch

        gradients = torch.func.vmap(torch.func.grad(self._record_loss), in_dims=(None, 0, 0))
        flat = torch.from_numpy(np.array(parameters, dtype=np.float64))
        shortened = clipping_norm * (1 - 2.0**-32 - self.parameter_count * 2.0**-52)
        each = gradients(flat, torch.tensor(block.features), torch.tensor(block.labels))
        norms = torch.sqrt(torch.sum(each * each, dim=1))
        usable = torch.isfinite(norms)
        factors = torch.where(usable, torch.clamp(shortened / norms, max=1.0), 0.0)
        total = torch.where(usable, factors, 0.0) @ torch.where(usable[:, None], each, 0.0)
        return np.asarray(total.numpy(), dtype=np.float64)

    def scores(self, parameters: NDArray[np.float64], features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return each row's scores, shape (n, K)."""
        import torch

        with torch.no_grad():
            values = torch.func.functional_call(
                self._module, self._unflatten(torch.from_numpy(np.array(parameters))), (torch.tensor(features),)
            )
        return np.asarray(values.numpy(), dtype=np.float64).reshape(len(features), self.outputs)

    def _record_loss(self, flat: "torch.Tensor", row: "torch.Tensor", label: "torch.Tensor") -> "torch.Tensor":
        """Compute one record's loss; `torch.func` maps it over the records."""
        import torch

        values: torch.Tensor = torch.func.functional_call(self._module, self._unflatten(flat), (row[None, :],)).reshape(
            self.outputs
        )
        return self._loss_function(values, label)

    def _unflatten(self, flat: "torch.Tensor") -> "dict[str, torch.Tensor]":
        parts, start = {}, 0
        for name, parameter in self._module.named_parameters():
            parts[name] = flat[start : start + parameter.numel()].reshape(parameter.shape)
            start += parameter.numel()
        return parts


def _keeps_records_apart(part: Any) -> bool:
    """Tell instance normalisation, which looks at one record at a time, from batch normalisation."""
    from torch.nn.modules.instancenorm import _InstanceNorm

    return isinstance(part, _InstanceNorm) and not part.track_running_stats
