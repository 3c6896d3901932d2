"""What a session costs, fitted to sessions that were measured. Two models, which answer two questions.

How long one takes where all its processes share one machine, as they do when they are measured:

    time = a + b * message rounds * round trip + c * bytes + e * owners.

The last term is there because an owner costs connections, handshakes and a ledger on that machine, which is far more
than what it uploads. And how much work it is for one server whose owners have machines of their own, as in earnest:

    processor seconds = a' + c' * bytes received + e' * owners.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

__all__ = ["CostModel", "Observation", "ServerModel", "ServerObservation", "fit_costs", "fit_server"]


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
    coefficients, residuals = _fit(
        table,
        np.array([each.seconds for each in observations]),
        differ="in their round trips, in their bytes and in their owners",
    )
    start, factor, per_byte, per_owner = coefficients
    return CostModel(start, factor, per_byte, per_owner, residuals)


@dataclass(frozen=True)
class ServerObservation:
    """One session at one server.

    Args:
        bytes_received: payload of all calls and answers that it got.
        owners: number of owners.
        processor_seconds: that its process used.
    """

    bytes_received: int
    owners: int
    processor_seconds: float


@dataclass(frozen=True)
class ServerModel:
    """Processor seconds = start + per_byte * bytes received + per_owner * owners.

    Args:
        start_seconds: a': what every session costs.
        seconds_per_byte: c': for one byte of payload that is received; what computing grows with it is in it.
        seconds_per_owner: e': for one owner, whatever it uploads: its connection, its calls, what is written for it.
        residuals: measured less fitted, in seconds, of each session it was fitted to.
    """

    start_seconds: float
    seconds_per_byte: float
    seconds_per_owner: float
    residuals: tuple[float, ...] = ()

    def predict(self, *, bytes_received: float, owners: int) -> float:
        """Return how many processor seconds a session takes."""
        return self.start_seconds + self.seconds_per_byte * bytes_received + self.seconds_per_owner * owners


def fit_server(observations: Sequence[ServerObservation]) -> ServerModel:
    """Fit the model of one server, in the same way as `fit_costs`.

    Args:
        observations: at least three; differing in bytes and owners.

    Raises:
        ValueError: they do not determine the coefficients.
    """
    (start, per_byte, per_owner), residuals = _fit(
        np.array([[1.0, each.bytes_received, each.owners] for each in observations]),
        np.array([each.processor_seconds for each in observations]),
        differ="in their bytes and in their owners",
    )
    return ServerModel(start, per_byte, per_owner, residuals)


def _fit(
    table: NDArray[np.float64], seconds: NDArray[np.float64], *, differ: str
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the coefficients of the table's columns, and measured less fitted of its rows."""
    count = table.shape[-1]
    if len(seconds) < count or not (seconds > 0).all():
        raise ValueError(f"a fit takes at least {count} sessions, each of which took some time")
    scale = table.max(axis=0)
    if not scale.all() or np.linalg.matrix_rank(table / scale) < count:
        raise ValueError(f"a fit takes sessions that differ {differ}, each on its own")
    scaled, _ = nnls(table / scale / seconds[:, None], np.ones(len(seconds)))
    coefficients = scaled / scale
    return tuple(map(float, coefficients)), tuple(map(float, seconds - table @ coefficients))
