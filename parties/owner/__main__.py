"""Run a data owner: ``python -m parties.owner --config owner.toml``."""

import sys

from mpcdp.config import OwnerConfig
from mpcdp.privacy.budget import PrivacyBudget
from mpcdp.privacy.ledger import Ledger
from mpcdp.roles.owner import Owner, check_table
from mpcdp.roles.process import Process, run_process


def start(process: Process[OwnerConfig]) -> None:
    """Check the table, then attend the session."""
    config = process.config
    dataset = check_table(process.task, config.name, config.table)
    limit = None
    if config.ledger is not None:
        limit = PrivacyBudget(epsilon=config.ledger.epsilon_limit, delta=config.ledger.delta_limit)
    with Ledger(config.state / "ledger.db", limit=limit) as ledger:
        owner = Owner(config.name, process.task, process.plan, dataset, process.network, ledger, config.state)
        owner.run()
    process.report()


if __name__ == "__main__":
    sys.exit(run_process(OwnerConfig, start))
