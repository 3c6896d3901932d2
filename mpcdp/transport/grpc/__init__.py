"""The network over gRPC with mutual TLS: one port per process, nothing else."""

import os

# gRPC writes a line of its own for each handshake that fails, so that any stranger could fill a log; ours is in
# `handshakes`. It reads this once, when it is loaded; who looks for an error in gRPC itself sets it.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

from mpcdp.transport.grpc.network import GrpcNetwork

__all__ = ["GrpcNetwork"]
