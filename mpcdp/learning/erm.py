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

`CertifiedSolver.gradient_error` is their sum E, enlarged by 1 %, which covers underflow, points that rounding puts
outside the ball by less than a thousandth of R, and the sum's own rounding. A theta is accepted when its computed norm
is at most R and the computed ||grad|| + E is at most tau; then the certificate holds as a theorem, however theta was
found.

**Why it is always met, and when.** Newton's method (fast, but with no useful bound on its steps) is tried first, for a
public number of steps. Where it has not arrived by then, an accelerated gradient method starts anew. With
a = sqrt(lambda / L), P the projection on the ball of R, which contains theta*, and x = z = 0 at first, it repeats

    y = (x + a z) / (1 + a),    z <- P((1 - a) z + a y - (a / lambda) grad J(y)),    x <- (1 - a) x + a z .

*In exact arithmetic with gradients off by at most e*, let V = J(x) - J(theta*) + (lambda/2) ||z - theta*||^2. Call the
projected point w - (a / lambda) g. The new x differs from y by a (z - w), so smoothness, L a^2 = lambda, convexity at
the old x, the optimality of the projection and strong convexity at theta* give, in this order of use,

    V_new <= (1 - a) V + a e ||z_new - theta*||   and, as ||z_new - theta*|| <= sqrt(2 V_new / lambda),
    sqrt(V_new) <= (1 - a/2) sqrt(V) + 2 a e / sqrt(2 lambda) .

*Rounding.* S bounds the step (a / lambda) ||g||, r = gamma_16 (R + S) the rounding of x, of y, and of z before it is
projected. The projection, whose norm is a sum of d squares, adds gamma_(d+16) R; z moves by at most
t = r + gamma_(d+16) R in all, hence x by at most r + a t. Rounding y makes e = E + L r. Moving x by s and z by t adds
at most sqrt(L/2) s + sqrt(lambda/2) t to sqrt(V), here at most c = sqrt(L/2) r + 2 sqrt(lambda/2) t. So after k steps

    sqrt(V) <= (1 - a/2)^k sqrt(l(0)) + (4 a e / sqrt(2 lambda) + 2 c) / a ,

as V = J(0) - J(theta*) + (lambda/2) ||theta*||^2 <= l(0) at first. *At y*: with V = p^2 + q^2, its two terms,
||grad J(x)|| <= sqrt(2 L) p, ||x - theta*|| <= sqrt(2/lambda) p and ||z - theta*|| = sqrt(2/lambda) q, so that
||grad J(y)|| <= ||grad J(x)|| + L ||y - x|| + L r <= sqrt(2 L) (2 p + q) + L r <= sqrt(10 L V) + L r. So when

    tau >= 2 (sqrt(L / lambda) (11 E + 24 L r) + 9 L gamma_(d+16) R) ,

that is, at or above `certificate_floor` (half of tau for limit and acceptance, half for the steps), then
k = (2 / a) log(2 sqrt(10 L l(0)) / tau) steps, a public number, are enough for *every* table. So no record's value can
make an owner fail, and `worst_case_operations` bounds what it can make an owner compute.

Source: Nesterov, Introductory Lectures on Convex Optimization, 2004, section 2.2, for the exact method; Keerthi &
DeCoste, JMLR 2005, for Newton's method with an exact line search on a piecewise quadratic risk.
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
_NEWTON_STEPS = 500
_BISECTIONS = 50


def _gamma(count: int) -> float:
    """Return gamma_k, the relative error of k roundings in sequence."""
    return count * _UNIT_ROUNDOFF / (1 - count * _UNIT_ROUNDOFF)


def _gradient_operations(record_count: int, dimension: int) -> int:
    """Return a generous price of one gradient: two passes over the rows, the derivatives, and what every call costs."""
    return 2 * record_count * dimension + 20 * record_count + 50_000


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
        """Return the smallest certificate that accelerated descent provably meets in double precision.

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
        """Return 2 (sqrt(L / lambda) (11 E + 24 L r) + 9 L gamma_(d+16) R) for this solver's certificate."""
        error = self.gradient_error(record_count=record_count, dimension=dimension)
        longest_gradient = self.loss.lipschitz + self.regularization * self.radius + error
        longest_step = longest_gradient * self.contraction / self.regularization
        rounding = self.smoothness * _gamma(16) * (self.radius + longest_step)
        projection = self.smoothness * _gamma(dimension + 16) * self.radius
        return 2 * ((11 * error + 24 * rounding) / self.contraction + 9 * projection)

    @property
    def contraction(self) -> float:
        """a = sqrt(lambda / L): twice the share of its distance that a step of accelerated descent goes at least."""
        return math.sqrt(self.regularization / self.smoothness)

    @property
    def descent_steps(self) -> int:
        """Number of accelerated gradient steps that meet the certificate for every table."""
        distance = 2 * math.sqrt(10 * self.smoothness * self.loss.at_zero) / self.certificate
        return math.ceil(2 / self.contraction * math.log(max(distance, 1.0))) + 1

    def newton_steps(self, *, record_count: int, dimension: int) -> int:
        """Return how many of Newton's steps are tried: they cost at most half of what descent may cost.

        Args:
            record_count: n.
            dimension: d.
        """
        size = record_count * dimension
        # The Hessian is a product of matrices, about eight times faster per operation than one with a vector.
        factoring = size * dimension // 8 + 6 * size + dimension**3 // 4
        searching = 5 * _BISECTIONS * record_count
        step = factoring + searching + _gradient_operations(record_count, dimension)
        return min(_NEWTON_STEPS, self.descent_steps * _gradient_operations(record_count, dimension) // (2 * step))

    def worst_case_operations(self, *, record_count: int, dimension: int) -> int:
        """Return what `solve` costs at most, whatever the table: Newton's steps, and descent's after them.

        Args:
            record_count: n.
            dimension: d.

        Returns:
            Additions and multiplications; a slow core makes about 10^9 a second.
        """
        return 3 * self.descent_steps * _gradient_operations(record_count, dimension) // 2

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
        with np.errstate(all="ignore"):  # what overflows is not accepted
            theta = search.newton(self.newton_steps(**counts))
            return theta if search.accepts(theta, search.gradient(theta)) else search.descend()


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

    def newton(self, steps: int) -> NDArray[np.float64]:
        """Take Newton steps from zero, each as long as the risk falls, until theta is certified."""
        theta = np.zeros(self.dataset.dimension)
        for _ in range(steps):
            gradient = self.gradient(theta)
            if self.accepts(theta, gradient):
                break
            margins = self.dataset.labels * (self.dataset.features @ theta)
            step = self._newton_step(margins, gradient)
            theta = theta - self._step_length(theta, step, margins) * step
        return theta

    def _newton_step(self, margins: NDArray[np.float64], gradient: NDArray[np.float64]) -> NDArray[np.float64]:
        """Solve H step = gradient for the Hessian H at given margins; the gradient itself where that cannot be done."""
        rows, dimension = self.dataset.features, self.dataset.dimension
        roots = np.sqrt(self.solver.loss.second_derivative(margins) / self.dataset.record_count)
        hessian = self.solver.regularization * np.eye(dimension)
        for start in range(0, self.dataset.record_count, 16 * _BLOCK):
            weighted = roots[start : start + 16 * _BLOCK, np.newaxis] * rows[start : start + 16 * _BLOCK]
            hessian += weighted.T @ weighted
        try:
            return np.asarray(np.linalg.solve(hessian, gradient))
        except np.linalg.LinAlgError:
            return gradient

    def _step_length(
        self, theta: NDArray[np.float64], step: NDArray[np.float64], margins: NDArray[np.float64]
    ) -> float:
        """Return how far to go from theta against ``step``: all the way, or to where the risk no longer falls.

        The derivative along the way decides: it only ever grows, the risk being convex, costs no pass over the rows,
        and unlike the risk's value it stays informative down to the last digits. Going to where it vanishes is what
        keeps narrow Huber losses, whose second derivative jumps, from stalling.
        """
        changes = self.dataset.labels * (self.dataset.features @ step)
        across, along = float(theta @ step), float(step @ step)

        def descent(length: float) -> float:
            slopes = self.solver.loss.derivative(margins - length * changes)
            mean = float(slopes @ changes) / self.dataset.record_count
            return mean + self.solver.regularization * (across - length * along)

        lower, length, upper = 0.0, 1.0, 1.0
        at_start = descent(0.0)
        for _ in range(_BISECTIONS):
            here = descent(length)
            if here < -0.02 * at_start:
                upper = length
            elif here > 0.02 * at_start and length < upper:
                lower = length
            else:
                break
            length = (lower + upper) / 2
        return length

    def descend(self) -> NDArray[np.float64]:
        """Take accelerated gradient steps from zero until theta is certified, which their public number guarantees."""
        share, regularization = self.solver.contraction, self.solver.regularization
        theta = ahead = behind = np.zeros(self.dataset.dimension)  # y, z and x of the module's text
        for _ in range(self.solver.descent_steps):
            gradient = self.gradient(theta)
            if self.accepts(theta, gradient):
                break
            ahead = self._project((1 - share) * ahead + share * theta - (share / regularization) * gradient)
            behind = (1 - share) * behind + share * ahead
            theta = (behind + share * ahead) / (1 + share)
        return theta

    def _project(self, theta: NDArray[np.float64]) -> NDArray[np.float64]:
        """Shorten theta to the ball of R if it lies outside."""
        norm = np.linalg.norm(theta)
        return theta if norm <= self.solver.radius else np.asarray(theta * (self.solver.radius / norm))
