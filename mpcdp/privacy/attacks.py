"""What (epsilon, delta) means for somebody who attacks: how well any test can tell two neighbouring tables apart.

An attacker knows everything but which of two values one record has, sees all releases, and decides by any rule. Let
alpha be the probability of a wrong "yes" (false positive), beta that of a right one (true positive). Differential
privacy, applied to the event "yes" and to its complement, in both directions, is the same as

    beta <= e^epsilon alpha + delta    and    1 - alpha <= e^epsilon (1 - beta) + delta .

Source: Wasserman & Zhou 2010, Theorem 2.4; Kairouz, Oh & Viswanath 2015, Theorem 2.1; Dong, Roth & Su 2022,
section 2.2.
"""

import math

__all__ = ["posterior_bound", "success_bound", "true_positive_bound"]


def true_positive_bound(*, epsilon: float, delta: float, false_positive_rate: float) -> float:
    """Bound how often any test is right to say "yes" that says it wrongly with a given probability.

    Args:
        epsilon: of the guarantee.
        delta: of the guarantee.
        false_positive_rate: alpha, in [0, 1].

    Raises:
        ValueError: an argument is out of range.
    """
    _check(epsilon, delta)
    if not 0 <= false_positive_rate <= 1:
        raise ValueError(f"a rate lies in [0, 1], not {false_positive_rate}")
    by_yes = math.exp(epsilon) * false_positive_rate + delta
    by_no = 1 - math.exp(-epsilon) * (1 - delta - false_positive_rate)
    return min(1.0, by_yes, by_no)


def success_bound(*, epsilon: float, delta: float) -> float:
    """Bound how often any attacker guesses right between two equally likely values of a record; 1/2 is blind guessing.

    It is (1 + max(beta - alpha)) / 2 = (e^epsilon + delta) / (1 + e^epsilon), where the two bounds above meet.
    """
    _check(epsilon, delta)
    return (1 + delta * math.exp(-epsilon)) / (1 + math.exp(-epsilon))


def posterior_bound(*, epsilon: float, delta: float, prior: float, false_positive_rate: float) -> float:
    """Bound what an attacker may believe after a "yes" of a test, by Bayes' rule.

    Args:
        epsilon: of the guarantee.
        delta: of the guarantee.
        prior: what the attacker believed before, in (0, 1).
        false_positive_rate: of the test, in (0, 1].

    Raises:
        ValueError: an argument is out of range.
    """
    if not 0 < prior < 1 or not 0 < false_positive_rate <= 1:
        raise ValueError(f"prior lies in (0, 1) and the rate in (0, 1], not {prior} and {false_positive_rate}")
    right = true_positive_bound(epsilon=epsilon, delta=delta, false_positive_rate=false_positive_rate)
    return prior * right / (prior * right + (1 - prior) * false_positive_rate)


def _check(epsilon: float, delta: float) -> None:
    if not (math.isfinite(epsilon) and epsilon >= 0 and 0 <= delta <= 1):
        raise ValueError(f"epsilon is finite and at least 0, delta in [0, 1], not {epsilon} and {delta}")
