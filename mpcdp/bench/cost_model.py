"""What a session costs, fitted to sessions that were measured.

time = a + b * message rounds * round trip + c * bytes + e * owners. The last term is there because an owner costs
connections, handshakes and a ledger, which is far more than what it uploads.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

__all__ = ["COEFFICIENTS", "CostModel", "Observation", "fit_costs"]

COEFFICIENTS = 4


@dataclass(frozen=True)
class Observation:
    """One session.

    Args:
        message_rounds: messages that follow one another.
        round_trip_seconds: of the network between the processes.
        bytes_sent: payload of all processes together.
        owners: number of owners.
        seconds: how long it took.
    """

    message_rounds: int
    round_trip_seconds: float
    bytes_sent: int
    owners: int
    seconds: float


@dataclass(frozen=True)
class CostModel:
    """Time = start + rounds_factor * message rounds * round trip + per_byte * bytes + per_owner * owners.

    Args:
        start_seconds: a: what every session costs.
        rounds_factor: b: what part of a round trip one of the message rounds costs; about a half for messages that go
            both ways at once, one for a question and its answer.
        seconds_per_byte: c: the whole machine's work for one byte of payload.
        seconds_per_owner: e: the whole machine's work for one owner, whatever it uploads.
        residuals: measured less fitted, in seconds, of each session it was fitted to.
    """

    start_seconds: float
    rounds_factor: float
    seconds_per_byte: float
    seconds_per_owner: float
    residuals: tuple[float, ...] = ()

    def predict(self, *, message_rounds: int, round_trip_seconds: float, bytes_sent: float, owners: int) -> float:
        """Return how many seconds a session takes."""
        return (
            self.start_seconds
            + self.rounds_factor * message_rounds * round_trip_seconds
            + self.seconds_per_byte * bytes_sent
            + self.seconds_per_owner * owners
        )


def fit_costs(observations: Sequence[Observation]) -> CostModel:
    """Fit the model by least squares with no negative coefficient.

    A session counts by its relative error: else the longest one, which has the largest error, would decide alone.

    Args:
        observations: at least as many as coefficients; differing in round trips, bytes and owners.

    Raises:
        ValueError: they do not determine the coefficients.
    """
    table = np.array(
        [[1.0, each.message_rounds * each.round_trip_seconds, each.bytes_sent, each.owners] for each in observations]
    )
    seconds = np.array([each.seconds for each in observations])
    if len(observations) < COEFFICIENTS or not (seconds > 0).all():
        raise ValueError(f"a fit takes at least {COEFFICIENTS} sessions, each of which took some time")
    scale = table.max(axis=0)
    if not scale.all() or np.linalg.matrix_rank(table / scale) < COEFFICIENTS:
        raise ValueError(
            "a fit takes sessions that differ in their round trips, in their bytes and in their owners, each on its own"
        )
    scaled, _ = nnls(table / scale / seconds[:, None], np.ones(len(seconds)))
    coefficients = scaled / scale
    residuals = tuple(map(float, seconds - table @ coefficients))
    start, factor, per_byte, per_owner = map(float, coefficients)
    return CostModel(start, factor, per_byte, per_owner, residuals)
