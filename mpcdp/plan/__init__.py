"""From a task to everything that has to agree: sensitivity, noise, encoding, headroom, and the exact privacy cost.

`calibration` has the mathematics, `plan` the result, `text` its description for people.

**Who is protected against whom.** One record of one owner is replaced; any k - 1 of the k compute parties, and any
other owners, may pool what they saw. With joint noise nobody knows any of the one copy. With per-party noise the
guarantee rests on the one copy of the party that stays honest: the other k - 1 are known to the adversary, and adding
known numbers is post-processing. The *accuracy* pays for all copies: standard deviation sqrt(k) sigma. What other
owners contributed is known to the adversary and a constant shift: sums need no assumption about it. Reduction modulo
2^64 is post-processing too; headroom is a matter of correctness.
"""

from mpcdp.plan.calibration import DeltaTerms
from mpcdp.plan.plan import Plan, make_plan

__all__ = ["DeltaTerms", "Plan", "make_plan"]
