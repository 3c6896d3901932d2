"""Run a coordinator: ``python -m parties.coordinator --config coordinator.toml``."""

import sys

from mpcdp.config import CoordinatorConfig
from mpcdp.roles.coordinator import Coordinator
from mpcdp.roles.process import Process, run_process


def start(process: Process[CoordinatorConfig]) -> None:
    """Run the session and write the model."""
    coordinator = Coordinator(process.task, process.plan, process.network, process.config.state)
    coordinator.run()
    process.report(seconds=coordinator.seconds)


if __name__ == "__main__":
    sys.exit(run_process(CoordinatorConfig, start))
