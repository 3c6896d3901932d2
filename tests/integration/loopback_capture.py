"""Capture TCP streams on the loopback interface with a packet socket (Linux, needs CAP_NET_RAW)."""

import ctypes
import socket
import struct
import threading
from collections.abc import Collection
from types import TracebackType
from typing import Self

__all__ = ["LoopbackCapture", "TcpStreams", "tls_records"]

_ALL_PROTOCOLS = 3
_PACKET_OUTGOING = 4
_RECEIVE_BUFFER = 256 << 20
_SO_RCVBUFFORCE = 33
_SO_ATTACH_FILTER = 26
_SOL_PACKET, _PACKET_STATISTICS = 263, 6
_SYN = 2
Flow = tuple[int, int]
"""(source port, destination port)."""


class LoopbackCapture:
    """Record every TCP payload to and from the given ports on loopback while the context is open.

    The kernel drops what belongs to other ports before it is queued, so that other processes' traffic cannot fill the
    queue.

    Raises:
        PermissionError: the user may not open packet sockets.
    """

    def __init__(self, ports: Collection[int]) -> None:
        # Without a protocol nothing is queued before the filter is in place.
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
        _attach(self._socket, _port_filter(ports))
        self._socket.bind(("lo", _ALL_PROTOCOLS))
        self._socket.settimeout(0.2)
        self._streams = TcpStreams()
        self._dropped = 0
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
        self._dropped = struct.unpack("II", self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))[1]
        self._socket.close()

    def _read(self) -> None:
        while True:
            try:
                frame = self._socket.recv(1 << 17)
            except TimeoutError:
                if self._stop.is_set():
                    return
                continue
            self._streams.add(frame[14:])

    def streams(self) -> dict[Flow, list[bytes]]:
        """Return the bytes of each direction of the connections, in order; a list has one entry for each connection.

        Raises:
            AssertionError: a packet is missing from the capture.
        """
        assert not self._dropped, f"the kernel dropped {self._dropped} packets of the capture"
        return self._streams.joined()


class TcpStreams:
    """Put the segments of captured connections together.

    A pair of ports may serve several connections one after another (a dial that was refused leaves its port free at
    once), so every SYN with a sequence number of its own starts a new stream.
    """

    def __init__(self) -> None:
        self._segments: dict[Flow, list[list[tuple[int, bytes]]]] = {}
        self._headless: set[Flow] = set()

    def add(self, packet: bytes) -> None:
        """Take in an IP packet; one that is not TCP is ignored."""
        if packet[0] >> 4 == 4 and packet[9] == socket.IPPROTO_TCP:
            start, end = (packet[0] & 15) * 4, struct.unpack("!H", packet[2:4])[0]
        elif packet[0] >> 4 == 6 and packet[6] == socket.IPPROTO_TCP:
            start, end = 40, 40 + struct.unpack("!H", packet[4:6])[0]
        else:
            return
        source, destination, sequence = struct.unpack("!HHI", packet[start : start + 8])
        payload = packet[start + (packet[start + 12] >> 4) * 4 : end]
        streams = self._segments.setdefault((source, destination), [])
        if packet[start + 13] & _SYN:
            sequence = (sequence + 1) % 2**32
            if not streams or streams[-1][0][0] != sequence:  # a SYN may be sent again
                streams.append([(sequence, payload)])
        elif payload and streams:
            streams[-1].append((sequence, payload))
        elif payload:
            self._headless.add((source, destination))

    def joined(self) -> dict[Flow, list[bytes]]:
        """Return the bytes of each direction of each connection.

        Raises:
            AssertionError: a segment is missing, the first one of a connection perhaps.
        """
        assert not self._headless, f"the capture lost the start of {sorted(self._headless)}"
        return {flow: [_join(segments) for segments in streams] for flow, streams in self._segments.items() if streams}


def _join(segments: list[tuple[int, bytes]]) -> bytes:
    first = segments[0][0]
    stream = bytearray()
    for sequence, payload in sorted(segments, key=lambda segment: (segment[0] - first) % 2**32):
        position = (sequence - first) % 2**32
        assert position <= len(stream), f"the capture lost {position - len(stream)} bytes of a stream"
        stream[position:] = payload if position + len(payload) >= len(stream) else stream[position:]
    return bytes(stream)


_LOAD, _LOAD_HALF, _LOAD_BYTE, _LOAD_HALF_AT_X = 0x20, 0x28, 0x30, 0x48
_X_IS, _X_IS_HEADER_LENGTH, _JUMP_IF_EQUAL, _JUMP, _RETURN = 0x01, 0xB1, 0x15, 0x05, 0x06
_PACKET_TYPE = 0xFFFFF000 + 4
Instruction = tuple[int, int, int, int]
"""(code, instructions to skip if true, if false, constant), as `struct sock_filter`."""


def _port_filter(ports: Collection[int]) -> list[Instruction]:
    """Return the BPF program that passes TCP to or from the ports, and only one of loopback's two copies of it."""
    matches: list[Instruction] = []
    for offset in (14, 16):  # behind the Ethernet and the IP header: the source port, the destination port
        matches.append((_LOAD_HALF_AT_X, 0, 0, offset))
        matches += [(_JUMP_IF_EQUAL, 0, 0, port) for port in ports]
    accept = len(matches) + 1
    matches = [
        (code, accept - index - 1 if code == _JUMP_IF_EQUAL else 0, 0, constant)
        for index, (code, _, _, constant) in enumerate(matches)
    ]
    ending: list[Instruction] = [(_RETURN, 0, 0, 0), (_RETURN, 0, 0, 1 << 17)]
    head: list[Instruction] = [
        (_LOAD, 0, 0, _PACKET_TYPE),
        (_JUMP_IF_EQUAL, 11, 0, _PACKET_OUTGOING),
        (_LOAD_HALF, 0, 0, 12),
        (_JUMP_IF_EQUAL, 0, 4, 0x0800),
        (_LOAD_BYTE, 0, 0, 23),
        (_JUMP_IF_EQUAL, 0, 7, socket.IPPROTO_TCP),
        (_X_IS_HEADER_LENGTH, 0, 0, 14),
        (_JUMP, 0, 0, 6),
        (_JUMP_IF_EQUAL, 0, 4, 0x86DD),
        (_LOAD_BYTE, 0, 0, 20),
        (_JUMP_IF_EQUAL, 0, 2, socket.IPPROTO_TCP),
        (_X_IS, 0, 0, 40),
        (_JUMP, 0, 0, 1),
        (_RETURN, 0, 0, 0),
    ]
    return [*head, *matches, *ending]


def _attach(packets: socket.socket, program: list[Instruction]) -> None:
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *instruction) for instruction in program))
    packets.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HL", len(program), ctypes.addressof(code)))


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
