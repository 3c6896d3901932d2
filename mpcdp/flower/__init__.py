"""Flower apps with mpcdp as their secure aggregator; ``pip install "mpcdp[flower]"``.

Flower moves the global model and says when to train. An owner's update does not travel with its replies: the mod
`ShareUpdates` hands it to the owner's own mpcdp process, on the same machine, which clips it and uploads shares of it.
The strategy `SecureFedAvg` takes the released, noised sum from beside the coordinator. mpcdp's processes run as for any
other task (``mpcdp run``), one session for one run of the app.

**What is guaranteed** is the guarantee of the task's plan, for whole owners (`mpcdp.learning.update_aggregation`), as
long as nothing else of an owner's table reaches Flower. Replies to training carry a constant, an exception of the app's
training counts as an update of zeros, and all other messages (evaluation, queries) are refused.
"""

try:
    import flwr  # noqa: F401 (the next imports would say less)
except ImportError as error:
    raise ImportError(
        'mpcdp.flower needs Flower: pip install "mpcdp[flower]" into an environment of its own'
    ) from error

from mpcdp.flower.client import ShareUpdates
from mpcdp.flower.server import SecureFedAvg

__all__ = ["SecureFedAvg", "ShareUpdates"]
