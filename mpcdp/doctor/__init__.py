"""What would keep a process from its session: found beforehand, each with what to do about it.

Read in this order: `findings` (what is reported), `examination` (in which order), then the checks: `agreement` (task,
policy, plan), `belongings` (certificates, ledger, table), `machine` (disk, memory, files, port), `peers`.
"""

from mpcdp.doctor.examination import examine
from mpcdp.doctor.findings import Finding

__all__ = ["Finding", "examine"]
