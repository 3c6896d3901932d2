"""The contribution check: whether each owner's vector is short enough, decided inside the computation.

`norm_check` has the claim and its proof, `comparison` the circuits, `circuit` the check as the parties run it.
"""

from mpcdp.mpc.contribution_check.circuit import check_contributions, check_schedule
from mpcdp.mpc.contribution_check.norm_check import NormCheck, norm_check

__all__ = ["NormCheck", "check_contributions", "check_schedule", "norm_check"]
