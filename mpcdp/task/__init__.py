"""What everybody agreed on: the method, the data's public description, the privacy, and who takes part.

All processes hold the same ``task.toml``. Its digest is in every message, and a process that holds another task is
refused. Comments, key order and the writing of numbers do not matter to the digest; every value does::

    [task]          version, name
    [model]         kind; regularization, certificate, huber_width where kind and method have them
    [privacy]       epsilon, delta, mechanism, noise
    [method]        kind; with "gradient-perturbation" also, all optional: rounds, learning_rate, clipping_norm,
                    momentum, averaging, radius, sampling_rate;
                    with "update-aggregation" rounds and clipping_norm, and [model] kind = "update" with coordinates
    [schema]        see `mpcdp.data.schema`                                    (not with "update-aggregation")
    [deadlines]     start_seconds, contribution_seconds, round_seconds
    [session]       minimum_owners, minimum_records
    [coordinator]   name, certificate
    [dealer]        name, certificate                                          (with noise = "joint" only)
    [[compute_parties]]  name, certificate                                     (2 to 5; the order is their rank)
    [[owners]]      name, certificate, record_count

``parties/task.toml`` is an annotated example.
"""

from mpcdp.task.policy import check_policy, objections
from mpcdp.task.sections import Deadlines, Model, Owner, Participant, Privacy
from mpcdp.task.task import Task, load_task

__all__ = [
    "Deadlines",
    "Model",
    "Owner",
    "Participant",
    "Privacy",
    "Task",
    "check_policy",
    "load_task",
    "objections",
]
