"""Run a compute party: ``python -m parties.compute --config compute.toml``."""

import sys

from mpcdp.config import ComputePartyConfig
from mpcdp.mpc.crypten_backend import crypten_engine
from mpcdp.roles.compute_party import ComputeParty
from mpcdp.roles.journal import PartyJournal
from mpcdp.roles.process import Process, run_process


def start(process: Process[ComputePartyConfig]) -> None:
    """Serve the session with CrypTen as the engine."""
    config = process.config
    with PartyJournal(config.state) as journal:
        ComputeParty(config.name, process.task, process.plan, process.network, journal, crypten_engine).run()
    process.report()


if __name__ == "__main__":
    sys.exit(run_process(ComputePartyConfig, start))
