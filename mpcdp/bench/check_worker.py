"""One process of a contribution check that is measured: ``python -m mpcdp.bench.check_worker FOLDER NAME``."""

import sys
import time
from pathlib import Path
from typing import cast

import numpy as np

from mpcdp.bench.check import CheckSetting
from mpcdp.bench.processes import end_with_parent
from mpcdp.bench.report import Report, Run, peak_memory_mib
from mpcdp.bench.setting import DEALER
from mpcdp.bench.worker import CountingMesh, ask_dealer, network_of, serve_as_dealer
from mpcdp.errors import MpcdpError, ProtocolError
from mpcdp.mpc.backend import Mesh
from mpcdp.mpc.contribution_check import check_contributions
from mpcdp.secret_sharing.shares import SharedVector
from mpcdp.transport.channel import ComputePartyService
from mpcdp.transport.grpc import GrpcNetwork

__all__ = ["main"]


def main(folder: Path, name: str) -> int:
    """Run one process of a row until it has reported.

    Args:
        folder: holds the setting, and a folder of each process's own for its credentials and its report.
        name: which process this is.

    Returns:
        The exit code; an error is written to standard error.
    """
    end_with_parent()
    setting = CheckSetting.load(folder / "setting.json")
    try:
        with network_of(setting, folder, name) as network:
            report = serve_as_dealer(setting, network) if name == DEALER else _run_party(setting, network, name)
            report.save(folder / name / "report.json")
    except MpcdpError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


def _run_party(setting: CheckSetting, network: GrpcNetwork, name: str) -> Report:
    runs: list[Run] = []
    idle = peak_memory_mib()
    # Nobody may call a compute party's methods here: there is no owner and no coordinator.
    service = cast(ComputePartyService, object())
    with network.serve(service), network.mesh(setting.ref, setting.party_names) as mesh:
        for batch, owners in setting.batches.items():
            runs.append(_run_once(setting, network, name, mesh, batch=batch, owners=owners))
    return Report(idle, peak_memory_mib(), runs=tuple(runs[1:]))


def _run_once(setting: CheckSetting, network: GrpcNetwork, name: str, mesh: Mesh, *, batch: str, owners: int) -> Run:
    """Check vectors that are all as long as they may be, and so must pass."""
    from mpcdp.mpc.crypten_backend import crypten_engine

    vector = np.zeros(setting.dimension, dtype=np.int64)
    if mesh.rank == 0:
        vector[0] = 1 << setting.length_bits
    shares = (SharedVector(vector.copy()) for _ in range(owners))
    counting = CountingMesh(mesh)
    with crypten_engine(counting, None) as backend:
        mesh.exchange("bench/ready", b"")
        start = time.monotonic()
        source = ask_dealer(setting, network, name, batch)
        backend.supply(source)
        passed = backend.reveal_verdicts(check_contributions(backend, setting.check, range(owners), shares))
        end = time.monotonic()
    source.finish()
    if not passed.all():
        raise ProtocolError("a vector of the largest honest length failed: run the same version of mpcdp everywhere")
    return Run(start, end, rounds=counting.rounds, bytes_sent=counting.bytes_sent)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
