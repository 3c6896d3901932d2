"""Run a dealer: ``python -m parties.dealer --config dealer.toml``."""

import sys

from mpcdp.config import DealerConfig
from mpcdp.roles.dealer import Dealer
from mpcdp.roles.process import Process, run_process


def start(process: Process[DealerConfig]) -> None:
    """Serve the session."""
    Dealer(process.task, process.plan, process.network).run()
    process.report()


if __name__ == "__main__":
    sys.exit(run_process(DealerConfig, start))
