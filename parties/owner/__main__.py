"""Run a data owner: ``python -m parties.owner --config owner.toml``."""

import sys

from mpcdp.config import OwnerConfig
from mpcdp.privacy.composition import limit_of
from mpcdp.privacy.ledger import LEDGER_FILE, Ledger
from mpcdp.roles.owner import Owner, check_table
from mpcdp.roles.process import Process, run_process


def start(process: Process[OwnerConfig]) -> None:
    """Check the table, then attend the session."""
    config = process.config
    dataset = check_table(process.task, config.name, config.table, config.data)
    with Ledger(config.state / LEDGER_FILE, limit=limit_of(config.ledger)) as ledger:
        owner = Owner(config.name, process.task, process.plan, dataset, process.network, ledger, config.state)
        owner.run()
    process.report()


if __name__ == "__main__":
    sys.exit(run_process(OwnerConfig, start))
