"""How a process is doing: one object that follows its log, and a read-only listener that shows it.

The listener, in `mpcdp.status.listener`, is loaded by those who ask for it only. Nothing here is secret and nothing
depends on a record; `mpcdp.status.snapshot` says of each item why.
"""

from mpcdp.status.log_limit import LogLimit
from mpcdp.status.progress import Progress
from mpcdp.status.snapshot import Facts, Figures, NoiseStock, Status

__all__ = ["Facts", "Figures", "LogLimit", "NoiseStock", "Progress", "Status"]
