"""Capture TCP streams on the loopback interface with a packet socket (Linux, needs CAP_NET_RAW)."""

import socket
import struct
import threading
from collections.abc import Collection
from types import TracebackType
from typing import Self

__all__ = ["LoopbackCapture", "tls_records"]

_ALL_PROTOCOLS = 3
_PACKET_OUTGOING = 4
_RECEIVE_BUFFER = 256 << 20
_SO_RCVBUFFORCE = 33
Flow = tuple[int, int]
"""(source port, destination port)."""


class LoopbackCapture:
    """Record every TCP payload on loopback while the context is open.

    Raises:
        PermissionError: the user may not open packet sockets.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(_ALL_PROTOCOLS))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
        self._socket.bind(("lo", 0))
        self._socket.settimeout(0.2)
        self._segments: dict[Flow, list[tuple[int, bytes]]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._socket.close()

    def _read(self) -> None:
        while True:
            try:
                frame, address = self._socket.recvfrom(1 << 17)
            except TimeoutError:
                if self._stop.is_set():
                    return
                continue
            if address[2] != _PACKET_OUTGOING:  # loopback shows every packet twice
                self._keep(frame[14:])

    def _keep(self, packet: bytes) -> None:
        if packet[0] >> 4 == 4 and packet[9] == socket.IPPROTO_TCP:
            start, end = (packet[0] & 15) * 4, struct.unpack("!H", packet[2:4])[0]
        elif packet[0] >> 4 == 6 and packet[6] == socket.IPPROTO_TCP:
            start, end = 40, 40 + struct.unpack("!H", packet[4:6])[0]
        else:
            return
        source, destination, sequence = struct.unpack("!HHI", packet[start : start + 8])
        payload = packet[start + (packet[start + 12] >> 4) * 4 : end]
        flags = packet[start + 13]
        if flags & 2 or payload:
            self._segments.setdefault((source, destination), []).append(
                (sequence + 1 if flags & 2 else sequence, payload)
            )

    def streams(self, ports: Collection[int]) -> dict[Flow, bytes]:
        """Return the bytes of each direction between two of the ports, in order.

        Raises:
            AssertionError: a packet is missing from the capture.
        """
        return {
            flow: _join(segments) for flow, segments in self._segments.items() if flow[0] in ports and flow[1] in ports
        }


def _join(segments: list[tuple[int, bytes]]) -> bytes:
    first = segments[0][0]
    stream = bytearray()
    for sequence, payload in sorted(segments, key=lambda segment: (segment[0] - first) % 2**32):
        position = (sequence - first) % 2**32
        assert position <= len(stream), "the capture lost a packet"
        stream[position:] = payload if position + len(payload) >= len(stream) else stream[position:]
    return bytes(stream)


def tls_records(stream: bytes) -> list[int]:
    """Split a stream into TLS records and return their content types.

    Raises:
        AssertionError: the stream is not made of TLS records.
    """
    kinds, position = [], 0
    while position + 5 <= len(stream):
        kind, major, minor, length = struct.unpack("!BBBH", stream[position : position + 5])
        assert kind in (20, 21, 22, 23), f"content type {kind} is not TLS's"
        assert major == 3, f"version {major}.{minor} is not TLS's"
        assert minor <= 4, f"version {major}.{minor} is not TLS's"
        assert length <= 2**14 + 2048, "the record is longer than TLS allows"
        kinds.append(kind)
        position += 5 + length
    return kinds
