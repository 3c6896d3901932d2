"""Regularised empirical risk minimisation to a public certificate.

For rows x_i in the unit ball, labels y_i and a loss l, the risk is

    J(theta) = (1/n) sum_i l(y_i <x_i, theta>) + (lambda/2) ||theta||^2 .

It is lambda-strongly convex and L-smooth, L = smoothness + lambda, since ||x_i|| <= 1. "Solved" means a *certificate*
tau, a constant of the task: ||grad J(theta)|| <= tau as real numbers, which puts theta within tau / lambda of the
minimiser theta*.

**Where theta is.** J(theta*) <= J(0) = l(0) gives ||theta*|| <= sqrt(2 l(0) / lambda); lambda theta* = -(mean gradient)
gives ||theta*|| <= G / lambda. So every certified theta lies in the ball of

    R = (min(sqrt(2 l(0) / lambda), G / lambda) + tau / lambda) (1 + 2^-20) .

**Rounding of a computed gradient.** u = 2^-53, gamma_k = k u / (1 - k u); a sum of k products computed in any order
differs from the true one by at most gamma_k times the sum of the products' magnitudes (Higham, Accuracy and Stability
of Numerical Algorithms, 2002, section 3.1). For ||theta|| <= R:

* margins: gamma_d R each, which the derivative enlarges at most by `smoothness`; evaluating it adds `derivative_error`;
  as ||x_i|| <= 1, the mean of derivatives times rows inherits these errors undiminished but not enlarged;
* that mean, whose rows are added within blocks of B and then block by block: gamma_(min(n, B) + ceil(n/B) + 2) G, the
  division by n and the sum with lambda theta included;
* lambda theta: gamma_2 lambda R; the norm's own evaluation: gamma_(d+2) tau for a norm of at most tau.

`CertifiedSolver.gradient_error` is their sum E, enlarged by 1 %, which covers underflow and the sum's own rounding. A
theta is accepted when its computed norm is at most R and the computed ||grad|| + E is at most tau; then the
certificate holds as a theorem, however theta was found.

**Why it is always met.** Newton's method (fast, but with no useful bound on its steps) is tried first. Where it stalls,
projected gradient descent follows: theta <- P(theta - grad / L), P the projection on the ball of R, which contains
theta*. The exact step shrinks ||theta - theta*|| by 1 - lambda/L; the computed one is off by at most
e = E/L + gamma_(d+16) R (quotient, difference, projection). After k steps the distance is at most
(1 - lambda/L)^k 2R + e L / lambda, and the gradient at most L times that. When tau >= 2 (e L^2/lambda + 3 E), that is,
at or above `certificate_floor`, then k = (L/lambda) log(4 L R / tau) steps, a public number, are enough for *every*
table. So no record's value can make an owner fail.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mpcdp.data.dataset import Dataset
from mpcdp.learning.losses import Loss

__all__ = ["CertifiedSolver"]

_UNIT_ROUNDOFF = 2.0**-53
_BLOCK = 512  # rows added up at a time: B + n/B is the length of the sums whose rounding is bounded
_NEWTON_STEPS = 100
_BISECTIONS = 40
_DENSE_DIMENSION = 1024  # up to here the Hessian is formed and factored; above, conjugate gradients only apply it


def _gamma(count: int) -> float:
    """Return gamma_k, the relative error of k roundings in sequence."""
    return count * _UNIT_ROUNDOFF / (1 - count * _UNIT_ROUNDOFF)


@dataclass(frozen=True, kw_only=True)
class CertifiedSolver:
    """Minimises the regularised risk until its gradient's norm is at most a public constant.

    Args:
        loss: loss of the margin.
        regularization: lambda, positive.
        certificate: tau, positive; bound on ||grad J|| at what `solve` returns.

    Raises:
        ValueError: an argument is not a positive finite number.
    """

    loss: Loss
    regularization: float
    certificate: float

    def __post_init__(self) -> None:
        for name in ("regularization", "certificate"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} is a positive finite number, not {value}")

    @property
    def smoothness(self) -> float:
        """L: bound on the risk's second derivative in any direction."""
        return (self.loss.smoothness + self.regularization) * (1 + 2.0**-40)

    @property
    def radius(self) -> float:
        """R: bound on the L2 norm of every certified parameter vector."""
        loss, regularization = self.loss, self.regularization
        minimizer = min(math.sqrt(2 * loss.at_zero / regularization), loss.lipschitz / regularization)
        return (minimizer + self.certificate / regularization) * (1 + 2.0**-20)

    def gradient_error(self, *, record_count: int, dimension: int) -> float:
        """Return E: bound on how far a computed gradient's norm is from the true gradient's, inside the ball of R.

        Args:
            record_count: n.
            dimension: d.
        """
        margins = self.loss.smoothness * _gamma(dimension) * self.radius + self.loss.derivative_error
        summation = _gamma(min(record_count, _BLOCK) + math.ceil(record_count / _BLOCK) + 2) * self.loss.lipschitz
        regularizer = _gamma(2) * self.regularization * self.radius
        norm = _gamma(dimension + 2) * self.certificate
        return 1.01 * (margins + summation + regularizer + norm)

    def certificate_floor(self, *, record_count: int, dimension: int) -> float:
        """Return the smallest certificate that gradient descent provably meets in double precision.

        It does not depend on this solver's own certificate, and is infinite when no certificate can be met.

        Args:
            record_count: n.
            dimension: d.
        """
        # What descent can meet depends on tau through R and E, affinely; the floor is where the two lines cross.
        smallest, at_one = (
            replace(self, certificate=certificate)._met_by_descent(record_count, dimension)
            for certificate in (2.0**-500, 1.0)
        )
        growth = at_one - smallest
        return 1.001 * smallest / (1 - growth) if growth < 1 else math.inf

    def _met_by_descent(self, record_count: int, dimension: int) -> float:
        """Return 2 (e L^2 / lambda + 3 E) for this solver's certificate."""
        error = self.gradient_error(record_count=record_count, dimension=dimension)
        step_error = error / self.smoothness + _gamma(dimension + 16) * self.radius
        return 2 * (step_error * self.smoothness**2 / self.regularization + 3 * error)

    @property
    def descent_steps(self) -> int:
        """Number of gradient steps that meet the certificate for every table, whatever Newton's method did."""
        condition = self.smoothness / self.regularization
        return max(1, math.ceil(condition * math.log(4 * self.smoothness * self.radius / self.certificate)) + 1)

    def solve(self, dataset: Dataset) -> NDArray[np.float64]:
        """Minimise the risk on a table.

        Args:
            dataset: n rows of dimension d.

        Returns:
            theta, shape (d,), with ||grad J(theta)|| <= certificate and ||theta|| <= radius, as real numbers.

        Raises:
            ValueError: the certificate is below `certificate_floor`, which depends on n and d alone.

        Guarantees:
            Never fails, warns or returns an uncertified vector because of a record's value.
        """
        counts = {"record_count": dataset.record_count, "dimension": dataset.dimension}
        if self.certificate < self.certificate_floor(**counts):
            raise ValueError(f"certificate {self.certificate} is below the floor {self.certificate_floor(**counts)}")
        search = _Search(self, dataset, self.certificate - self.gradient_error(**counts))
        with np.errstate(all="ignore"):  # a wild Newton step may overflow; it is then not accepted
            theta = search.newton(np.zeros(dataset.dimension))
            if not search.accepts(theta, search.gradient(theta)):
                theta = search.descend(theta)
        return theta


@dataclass(frozen=True)
class _Search:
    """One table's search for a certified vector.

    Args:
        solver: constants.
        dataset: rows and labels.
        target: tau - E, what a computed gradient's norm has to reach.
    """

    solver: CertifiedSolver
    dataset: Dataset
    target: float

    def gradient(self, theta: NDArray[np.float64]) -> NDArray[np.float64]:
        """Compute grad J(theta), shape (d,); its summation order is the one `gradient_error` assumes."""
        rows, labels = self.dataset.features, self.dataset.labels
        coefficients = self.solver.loss.derivative(labels * (rows @ theta)) * labels
        total = np.zeros(self.dataset.dimension)
        for start in range(0, self.dataset.record_count, _BLOCK):
            total += coefficients[start : start + _BLOCK] @ rows[start : start + _BLOCK]
        return np.asarray(total / self.dataset.record_count + self.solver.regularization * theta)

    def accepts(self, theta: NDArray[np.float64], gradient: NDArray[np.float64]) -> bool:
        """Tell whether theta, whose computed gradient is given, is certified; what is not finite never is."""
        return bool(np.linalg.norm(theta) <= self.solver.radius and np.linalg.norm(gradient) <= self.target)

    def newton(self, theta: NDArray[np.float64]) -> NDArray[np.float64]:
        """Take damped Newton steps until theta is certified, at most a fixed number of them."""
        gradient = self.gradient(theta)
        for _ in range(_NEWTON_STEPS):
            if self.accepts(theta, gradient) or not np.all(np.isfinite(gradient)):
                break
            step = self._newton_step(theta, gradient)
            theta, gradient = self._line_search(theta, step, slope=float(gradient @ step))
        return theta

    def _line_search(
        self, theta: NDArray[np.float64], step: NDArray[np.float64], *, slope: float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Go from theta against ``step``, all the way or until the risk no longer falls; return point and gradient.

        The derivative along the way decides, and it only ever grows, the risk being convex. Unlike the risk's value it
        stays informative down to the last digits, and unlike the gradient's norm it is not misled where the Huber
        loss's second derivative jumps.

        Args:
            theta: start, shape (d,).
            step: subtracted, shape (d,).
            slope: rate at which the risk falls at the start, positive.
        """
        lower, length, upper = 0.0, 1.0, 1.0
        for _ in range(_BISECTIONS):
            point = theta - length * step
            gradient = self.gradient(point)
            slope_here = float(gradient @ step)
            if slope_here < -slope / 100:
                upper = length
            elif slope_here > slope / 2 and length < 1:
                lower = length
            else:
                break
            length = (lower + upper) / 2
        return point, gradient

    def _newton_step(self, theta: NDArray[np.float64], gradient: NDArray[np.float64]) -> NDArray[np.float64]:
        """Solve H step = gradient for the Hessian H at theta, exactly or (in high dimension) approximately."""
        rows, labels, dimension = self.dataset.features, self.dataset.labels, self.dataset.dimension
        curvatures = self.solver.loss.second_derivative(labels * (rows @ theta)) / self.dataset.record_count
        if dimension <= _DENSE_DIMENSION:
            hessian = self.solver.regularization * np.eye(dimension)
            for start in range(0, self.dataset.record_count, 16 * _BLOCK):
                part = rows[start : start + 16 * _BLOCK]
                weighted = np.sqrt(curvatures[start : start + 16 * _BLOCK])[:, np.newaxis] * part
                hessian += weighted.T @ weighted
            try:
                return np.asarray(np.linalg.solve(hessian, gradient))
            except np.linalg.LinAlgError:
                return gradient
        from scipy.sparse.linalg import LinearOperator, cg

        def apply_hessian(vector: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.asarray((curvatures * (rows @ vector)) @ rows + self.solver.regularization * vector)

        hessian = LinearOperator((dimension, dimension), matvec=apply_hessian, dtype=np.float64)
        return np.asarray(cg(hessian, gradient, maxiter=200)[0])

    def descend(self, theta: NDArray[np.float64]) -> NDArray[np.float64]:
        """Take projected gradient steps until theta is certified, which their public number guarantees."""
        theta = self._project(theta) if np.all(np.isfinite(theta)) else np.zeros_like(theta)
        for _ in range(self.solver.descent_steps):
            gradient = self.gradient(theta)
            if self.accepts(theta, gradient):
                break
            theta = self._project(theta - gradient / self.solver.smoothness)
        return theta

    def _project(self, theta: NDArray[np.float64]) -> NDArray[np.float64]:
        """Shorten theta to the ball of R if it lies outside."""
        norm = np.linalg.norm(theta)
        return theta if norm <= self.solver.radius else np.asarray(theta * (self.solver.radius / norm))
