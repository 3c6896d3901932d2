"""The network over gRPC with mutual TLS: one port per process, nothing else."""

from mpcdp.transport.grpc.network import GrpcNetwork

__all__ = ["GrpcNetwork"]
