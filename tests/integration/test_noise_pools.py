"""Noise that was made ahead serves the next sessions, and each sample only one of them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from networks import make_network, task_document

from mpcdp.mpc.noise_bank import pool_state
from mpcdp.privacy.ledger import Ledger, NoiseRecord
from mpcdp.roles.noise_fill import pool_of
from mpcdp.task import load_task


def _fill(network: Path, samples: int) -> Any:
    program = [sys.executable, "-c", "from mpcdp.cli import main; main()"]
    options = ["noise", "fill", "--network", str(network), "--samples", str(samples), "--json"]
    result = subprocess.run([*program, *options], capture_output=True, text=True, timeout=120, check=True)
    return json.loads(result.stdout)


@pytest.mark.slow
def test_a_session_uses_what_was_made_ahead_and_the_dealer_deals_nothing(tmp_path: Path) -> None:
    network = make_network(tmp_path, task_document([30, 40], parties=2))
    bank = _fill(network.folder, 3000)["parties"]["party-1"]["bank"]
    with network.processes() as processes:
        processes.start()
        results = processes.wait(120)
        assert [result.exit_code for result in results] == [0] * len(results)
        batches = [event["batch"] for event in processes.events("dealer") if event.get("event") == "dealing"]
        assert not any(batch.startswith("noise") for batch in batches)  # those of the filling stand in the same log
    task = load_task(network.folder / "task.toml")
    for party in ("party-1", "party-2"):
        state = pool_state(pool_of(task, party, network.folder / party / "state", "gaussian"))
        assert (state.next, state.free, state.ready) == (1024, 2048, 3072)
    for owner in ("owner-1", "owner-2"):
        with Ledger(network.folder / owner / "state" / "ledger.db") as ledger:
            (noted,) = (entry for entry in ledger.entries() if isinstance(entry, NoiseRecord))
            assert (noted.bank.hex(), noted.start, noted.end) == (bank, 0, 1024)
