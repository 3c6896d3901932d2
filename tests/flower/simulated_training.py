"""What the clients of the simulated app train."""

import numpy as np

__all__ = ["FIRST", "model_trained_by"]

FIRST: dict[str, np.ndarray] = {"weights": np.ones((5, 6), dtype=np.float32), "bias": np.zeros(7)}
"""The first global model."""


def model_trained_by(partition: int, model: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What a client's training makes of a model; the third client moves farther than the clipping norm."""
    scale = (0.05, 0.1, 3.0)[partition]
    return {
        name: (0.9 * values + scale * np.cos(np.arange(values.size) + partition).reshape(values.shape)).astype(
            values.dtype
        )
        for name, values in model.items()
    }
