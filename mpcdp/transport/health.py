"""gRPC's standard health check (grpc.health.v1): is this process there, and does it answer?"""

from mpcdp.pb import health_pb2
from mpcdp.transport.reader import Reader

__all__ = ["read_health_check", "read_serving", "write_health_check", "write_serving"]


def write_health_check() -> bytes:
    """Serialize the question whether a process as a whole answers calls."""
    return health_pb2.HealthCheckRequest().SerializeToString()


def read_health_check(reader: Reader) -> None:
    """Check that the question is about the process as a whole, which is its only service.

    Raises:
        ProtocolError: another service is asked for.
    """
    if reader.single(health_pb2.HealthCheckRequest).service:
        raise reader.refuse("service", "is unknown: leave it empty to ask for the process as a whole")


def write_serving() -> bytes:
    """Serialize that a process answers calls."""
    return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING).SerializeToString()


def read_serving(reader: Reader) -> bool:
    """Read whether a process answers calls."""
    return bool(reader.single(health_pb2.HealthCheckResponse).status == health_pb2.HealthCheckResponse.SERVING)
