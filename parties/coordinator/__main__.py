"""Run a coordinator: ``python -m parties.coordinator --config coordinator.toml``."""

import sys

from mpcdp.config import CoordinatorConfig
from mpcdp.data.table import read_dataset
from mpcdp.roles.coordinator import Coordinator
from mpcdp.roles.process import Process, run_process


def start(process: Process[CoordinatorConfig]) -> None:
    """Run the session and write the model."""
    config = process.config
    validation = None if config.validation is None else read_dataset(config.validation, process.task.schema_)
    coordinator = Coordinator(process.task, process.plan, process.network, config.state, validation=validation)
    coordinator.run()
    process.report(seconds=coordinator.seconds)


if __name__ == "__main__":
    sys.exit(run_process(CoordinatorConfig, start))
