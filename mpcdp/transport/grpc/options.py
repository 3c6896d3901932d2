"""How connections are set up, on both sides alike."""

from mpcdp.transport.access import HEALTH
from mpcdp.transport.reader import MESSAGE_BYTES
from mpcdp.transport.reception import CALLS_PER_MEMBER

__all__ = ["ERROR_KIND", "Options", "channel_options", "handshake_seconds", "path_of", "server_options"]

Options = list[tuple[str, str | int]]

ERROR_KIND = "mpcdp-error"
"""Key, in the trailing metadata of a failed call, of the kind of its error."""

_CONNECT_SECONDS = 1.0
_HANDSHAKE_SECONDS = 10.0
_IDLE_SECONDS = 300.0
_PING_STRIKES = 30
_HEADER_BYTES = 8 << 10
_STREAMS_PER_CONNECTION = 2 * CALLS_PER_MEMBER
_UNCOMPRESSED = 1  # the set of algorithms that has only "identity" in it


def path_of(method: str) -> str:
    """Return what a method is called on the wire."""
    return f"/{method}" if method == HEALTH else f"/mpcdp.pb.{method}"


def _options(keepalive_seconds: float) -> Options:
    milliseconds = round(1000 * keepalive_seconds)
    return [
        ("grpc.max_receive_message_length", MESSAGE_BYTES),
        ("grpc.max_send_message_length", MESSAGE_BYTES),
        # Nothing of ours is compressed, and four compressed megabytes could become four gigabytes.
        ("grpc.compression_enabled_algorithms_bitset", _UNCOMPRESSED),
        # A killed peer shows at once, a frozen one by not answering pings. Its time to answer has two names, and
        # without the second one it takes a minute.
        ("grpc.keepalive_time_ms", milliseconds),
        ("grpc.keepalive_timeout_ms", milliseconds),
        ("grpc.http2.ping_timeout_ms", milliseconds),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    ]


def channel_options(certificate: str, *, keepalive_seconds: float, rush_seconds: float) -> Options:
    """Return a client's options.

    Args:
        certificate: DNS name that the server's certificate must have.
        keepalive_seconds: time between two pings, and time to answer one.
        rush_seconds: how long a server needs to accept everybody when all come at once.
    """
    return [
        *_options(keepalive_seconds),
        ("grpc.ssl_target_name_override", certificate),
        # Connections go to the address in the config, whatever the environment says about web proxies.
        ("grpc.enable_http_proxy", 0),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.initial_reconnect_backoff_ms", 100),
        # Also the time an attempt has, handshake included. Those that give up and come again keep a server that has a
        # thousand handshakes to make from ever finishing one.
        ("grpc.min_reconnect_backoff_ms", round(1000 * max(_CONNECT_SECONDS, rush_seconds))),
        ("grpc.max_reconnect_backoff_ms", 1000),
    ]


def handshake_seconds(rush_seconds: float) -> float:
    """Return how long a handshake may take at a server; see `channel_options`."""
    return max(_HANDSHAKE_SECONDS, rush_seconds)


def server_options(*, keepalive_seconds: float, rush_seconds: float) -> Options:
    """Return a server's options; see `channel_options`."""
    return [
        *_options(keepalive_seconds),
        # A stranger who connects and says nothing holds a file descriptor for this long, not for two minutes.
        ("grpc.server_handshake_timeout_ms", round(1000 * handshake_seconds(rush_seconds))),
        # A second process on the same port must be an error, not a lottery.
        ("grpc.so_reuseport", 0),
        # Members ping at twice this interval. Whoever has sent so many too early is disconnected.
        ("grpc.http2.min_recv_ping_interval_without_data_ms", round(500 * keepalive_seconds)),
        ("grpc.http2.max_ping_strikes", _PING_STRIKES),
        # A member has few calls under way, and the next ones wait on its own side.
        ("grpc.max_concurrent_streams", _STREAMS_PER_CONNECTION),
        # Our headers have some hundred bytes.
        ("grpc.max_metadata_size", _HEADER_BYTES),
        ("grpc.absolute_max_metadata_size", _HEADER_BYTES),
        # Connections on which nothing is called; whoever wants to call again connects again.
        ("grpc.max_connection_idle_ms", round(1000 * _IDLE_SECONDS)),
    ]
