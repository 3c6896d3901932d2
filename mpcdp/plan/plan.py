"""A task's plan: the one frozen object that carries everything that has to agree."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpcdp.errors import PlanError
from mpcdp.mpc.backend import CorrelationRequest
from mpcdp.mpc.contribution_check import NormCheck, norm_check
from mpcdp.mpc.noise import OFFSET, Distribution, Mode, UniversalNoise, universal_noise
from mpcdp.plan.calibration import Calibration, DeltaTerms, rounded_up
from mpcdp.plan.text import description, statement, warnings
from mpcdp.privacy.accountant import compose, gaussian_epsilon
from mpcdp.privacy.budget import PrivacyBudget
from mpcdp.privacy.composition import GaussianCost
from mpcdp.privacy.mechanisms import rounded_gaussian_distance
from mpcdp.privacy.sensitivity import Sensitivity
from mpcdp.secret_sharing.fixed_point import Encoding
from mpcdp.secret_sharing.shares import RingVector
from mpcdp.task import Task

__all__ = ["Plan", "make_plan"]

_RING_BITS = 62
"""Every coordinate of a noised sum stays below 2^62 in magnitude, half of what the ring could hold."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything about a session that follows from its task; every process computes it for itself.

    Args:
        task_name: the task's name.
        task_digest: SHA-256 of the task, 32 bytes.
        dimension: number of coordinates d.
        rounds: number of releases T.
        record_counts: n_j of every owner, in the task's order; public.
        minimum_owners: a round with fewer contributions is not released.
        minimum_records: nor is one of owners with fewer records together.
        method: how the model is trained.
        settings: of the method, what everybody has to agree on besides the task.
        sampling_rate: probability of each record to take part in a round.
        party_count: number of compute parties k.
        sensitivity: of one round's sum of contributions, L2, real units.
        integer_sensitivity: of one round's sum of encoded contributions, in the mechanism's norm, ring units.
        distribution: of the noise.
        noise_mode: who samples it.
        noise: the universal noise; ``noise.scale`` in ring units.
        noise_copies: how many independent copies each release holds, 1 or k.
        encoding: between real vectors and the ring.
        noise_scale: sigma or t of *one* copy on the sum, real units.
        asked: the task's budget.
        cost: what the session costs, computed forward from the final scale; epsilon as asked, delta at most as asked.
        delta_terms: what the cost's delta consists of.
        headroom_bits: factors of 2 between the largest possible release and 2^62.
        contribution_check: what every contribution is proven to keep before it is added, if the task asks for it.

    Guarantees:
        The session's releases are cost-differentially private under the relation of ``sensitivity``, and the cost fits
        what the task asked. With Gaussian noise at most 0.1 % of the asked delta is left unused; with Laplace noise at
        most 0.1 % of epsilon, while delta is only what the sampler's own error costs.
    """

    task_name: str
    task_digest: bytes
    dimension: int
    rounds: int
    record_counts: tuple[int, ...]
    minimum_owners: int
    minimum_records: int
    method: str
    settings: Mapping[str, float | str]
    sampling_rate: float
    party_count: int
    sensitivity: Sensitivity
    integer_sensitivity: Sensitivity
    distribution: Distribution
    noise_mode: Mode
    noise: UniversalNoise
    noise_copies: int
    encoding: Encoding
    noise_scale: float
    asked: PrivacyBudget
    cost: PrivacyBudget
    delta_terms: DeltaTerms
    headroom_bits: float
    contribution_check: NormCheck | None

    @property
    def digest(self) -> bytes:
        """SHA-256 of what has to be equal at all processes for their arithmetic to fit together; 32 bytes."""
        agreed = [
            self.task_digest.hex(),
            self.dimension,
            self.rounds,
            self.minimum_owners,
            self.minimum_records,
            self.method,
            sorted(self.settings.items()),
            self.sampling_rate,
            self.distribution,
            self.noise_mode,
            self.noise.scale,
            self.noise_copies,
            self.encoding.scale,
            self.encoding.bound,
            None if self.contribution_check is None else asdict(self.contribution_check),
        ]
        return hashlib.sha256(b"mpcdp/plan/3\0" + json.dumps(agreed).encode()).digest()

    @property
    def noise_schedule(self) -> tuple[CorrelationRequest, ...]:
        """The dealer's correlations for the joint noise of all rounds."""
        return self.noise.schedule(self.dimension * self.rounds)

    @property
    def gaussian_cost(self) -> GaussianCost | None:
        """The cost as one Gaussian, to be composed with other tasks; None for Laplace noise and for samples."""
        if self.distribution != "gaussian" or self.sampling_rate < 1:
            return None
        samples = self.dimension * self.rounds
        distance = rounded_gaussian_distance(noise_scale=self.noise.scale, samples=samples)
        return GaussianCost(
            mu_squared=self.rounds * (self.integer_sensitivity.bound / self.noise.scale) ** 2,
            distance=samples * self.noise.total_variation + distance,
        )

    def spent(self, rounds: int) -> float:
        """Return the epsilon that so many rounds cost, at the plan's delta; at most the plan's own.

        Args:
            rounds: how many were released, from 0 to all.
        """
        if rounds == 0:
            return 0.0
        if self.distribution == "laplace" or self.sampling_rate < 1:
            return self.cost.epsilon * (rounds / self.rounds if self.distribution == "laplace" else 1.0)
        mu = compose(mu=self.integer_sensitivity.bound / self.noise.scale, rounds=rounds)
        return min(self.cost.epsilon, gaussian_epsilon(mu=mu, delta=self.delta_terms.mechanism))

    @property
    def decode_offset(self) -> float:
        """What to add to a revealed integer, ring units: 1/2 for every copy of the noise."""
        return self.noise_copies * OFFSET

    @property
    def noise_deviation(self) -> float:
        """Standard deviation of all noise on one coordinate of the sum, real units."""
        one_copy = self.noise_scale * (math.sqrt(2) if self.distribution == "laplace" else 1.0)
        return math.sqrt(self.noise_copies) * one_copy

    @property
    def noise_share(self) -> float:
        """Expected length of the noise over that of the longest possible sum of contributions, averaged over rounds.

        A public measure of how much a model can learn; what records really give is shorter than the longest.
        """
        longest = self.sampling_rate * self.encoding.bound / max(self.record_counts) * sum(self.record_counts)
        return self.noise_deviation * math.sqrt(self.dimension / self.rounds) / longest

    def decode(self, release: RingVector) -> NDArray[np.float64]:
        """Turn a revealed vector into the noised sum of contributions, real units, shape (d,)."""
        return self.encoding.decode(release, offset=self.decode_offset)

    @property
    def accepted_norms(self) -> tuple[float, ...]:
        """The norm that no contribution of each owner exceeds in a release, real units; empty without a check."""
        if self.contribution_check is None:
            return ()
        return tuple(self.contribution_check.accepted(j) / self.encoding.scale for j in range(len(self.record_counts)))

    def warnings(self) -> tuple[str, ...]:
        """List what the task may ask for but had better not."""
        return warnings(self)

    def statement(self) -> str:
        """State the guarantee and everything it assumes, for people."""
        return statement(self)

    def to_json(self) -> dict[str, Any]:
        """Return the plan as one JSON object."""
        return {
            "task": self.task_name,
            "task_digest": self.task_digest.hex(),
            "plan_digest": self.digest.hex(),
            "dimension": self.dimension,
            "rounds": self.rounds,
            "record_counts": list(self.record_counts),
            "minimum_owners": self.minimum_owners,
            "minimum_records": self.minimum_records,
            "method": self.method,
            "settings": dict(self.settings),
            "sampling_rate": self.sampling_rate,
            "parties": self.party_count,
            "sensitivity": _json(self.sensitivity),
            "integer_sensitivity": _json(self.integer_sensitivity),
            "distribution": self.distribution,
            "noise_mode": self.noise_mode,
            "noise_copies": self.noise_copies,
            "noise_scale": self.noise_scale,
            "noise_deviation": self.noise_deviation,
            "noise_share": self.noise_share,
            "universal_scale": self.noise.scale,
            "encoding": asdict(self.encoding),
            "headroom_bits": self.headroom_bits,
            "contribution_check": None if self.contribution_check is None else asdict(self.contribution_check),
            "accepted_norms": list(self.accepted_norms),
            "epsilon": self.cost.epsilon,
            "delta": self.cost.delta,
            "delta_asked": self.asked.delta,
            "delta_terms": asdict(self.delta_terms),
            "statement": self.statement(),
            "warnings": list(self.warnings()),
        }

    def describe(self) -> str:
        """Describe the plan, its cost and its guarantee, for people."""
        return description(self)


def make_plan(task: Task) -> Plan:
    """Make a task's plan. The same task gives the same plan at every process.

    Raises:
        PlanError: no plan exists within the task's budget; the message says why and names a cure.
    """
    method = task.method()
    distribution, mode = task.privacy.mechanism, task.privacy.noise
    noise = universal_noise(distribution, mode)
    asked = PrivacyBudget(epsilon=task.privacy.epsilon, delta=task.privacy.delta)
    try:
        sensitivity = method.sensitivity(task.record_counts)
        bounds = [rounded_up(method.contribution_bound(count)) for count in task.record_counts]
    except (ValueError, OverflowError) as error:
        raise PlanError(f"model: its bounds leave double precision ({error}); use a larger regularization") from error
    calibration = Calibration(
        distribution=distribution,
        noise=noise,
        dimension=method.dimension,
        rounds=method.rounds,
        sensitivity=sensitivity,
        bound=max(bounds),
        sampling_rate=method.sampling_rate,
    )
    scale = calibration.solve(asked)
    terms = calibration.delta_terms(scale, epsilon=asked.epsilon)
    copies = 1 if mode == "joint" else len(task.compute_parties)
    return Plan(
        task_name=task.name,
        task_digest=task.digest,
        dimension=method.dimension,
        rounds=method.rounds,
        record_counts=task.record_counts,
        minimum_owners=task.session.minimum_owners,
        minimum_records=task.minimum_records,
        method=task.method_.kind,
        settings=method.settings,
        sampling_rate=method.sampling_rate,
        party_count=len(task.compute_parties),
        sensitivity=sensitivity,
        integer_sensitivity=calibration.integer_sensitivity(scale),
        distribution=distribution,
        noise_mode=mode,
        noise=noise,
        noise_copies=copies,
        headroom_bits=_headroom_bits(scale, bounds, copies=copies, noise=noise),
        encoding=Encoding(scale=scale, bound=max(bounds)),
        contribution_check=_check(task, scale, bounds, dimension=method.dimension),
        noise_scale=noise.scale / scale,
        asked=asked,
        cost=PrivacyBudget(epsilon=asked.epsilon, delta=terms.total),
        delta_terms=terms,
    )


def _json(sensitivity: Sensitivity) -> dict[str, Any]:
    return {
        "norm": sensitivity.norm.value,
        "bound": sensitivity.bound,
        "relation": sensitivity.relation.value,
    }


def _check(task: Task, scale: float, bounds: list[float], *, dimension: int) -> NormCheck | None:
    """Choose the contribution check's numbers.

    Raises:
        PlanError: the ring has no room for it.
    """
    if not task.session.contribution_check:
        return None
    try:
        return norm_check(dimension=dimension, scale=scale, bounds=bounds)
    except ValueError as error:
        raise PlanError(
            f"session.contribution_check: {error}, and the check has no room for it; use fewer records for each owner, "
            "or a smaller epsilon"
        ) from error


def _headroom_bits(scale: float, bounds: list[float], *, copies: int, noise: UniversalNoise) -> float:
    """Compute how many factors of 2 lie between the largest possible release and 2^62.

    Every owner's coordinate is at most scale * R_j + 1/2, every copy of the noise at most ``largest``.

    Raises:
        PlanError: a release could exceed 2^62.
    """
    largest = scale * math.fsum(bounds) + len(bounds) / 2 + copies * noise.largest
    if largest >= 2.0**_RING_BITS:
        raise PlanError(
            f"the noised sum could reach 2^{math.log2(largest):.1f} and must stay below 2^{_RING_BITS}; "
            + ('use privacy.noise = "joint", ' if copies > 1 else "")
            + "fewer records, or a smaller epsilon"
        )
    return _RING_BITS - math.log2(largest)
