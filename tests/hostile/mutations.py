"""Seeded damage to serialized messages and to text files."""

import random
from collections.abc import Sequence

__all__ = ["mutate_bytes", "mutate_call", "mutate_file", "mutate_text"]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_TOKENS = (
    '""', "''", "[]", "{}", "[[]]", "0", "-1", "1e999", "-0.0", "nan", "inf", "true", "1979-05-27", "9" * 400,
    '"' + "x" * 3000 + '"', '"\\u0000"', '"\\u202e"', '"../../etc/passwd"', "0x1F", "[" * 200, "=", "[task]", "1.5",
    '"%s%n"', "65536", "18446744073709551616", '"é"', "#", "\x00", "null",
)  # fmt: skip


def mutate_bytes(data: bytes, others: Sequence[bytes], generator: random.Random) -> bytes:
    """Return a damaged copy of a protobuf message.

    Args:
        data: the message.
        others: messages to take pieces from.
        generator: of everything drawn.
    """
    for _ in range(generator.choice((1, 1, 1, 2, 3))):
        data = generator.choice(_MUTATIONS)(data, generator.choice(others), generator)
    return data


def mutate_call(messages: Sequence[bytes], others: Sequence[bytes], generator: random.Random) -> list[bytes]:
    """Return a damaged copy of all messages of one call: one of them changed, or their order."""
    changed = list(messages)
    at = generator.randrange(len(changed))
    match generator.randrange(8):
        case 0:
            del changed[at]
        case 1:
            changed.insert(at, changed[at])
        case 2:
            generator.shuffle(changed)
        case 3:
            changed.insert(at, generator.choice(others))
    if changed:
        at = generator.randrange(len(changed))
        changed[at] = mutate_bytes(changed[at], others, generator)
    return changed


def mutate_text(data: bytes, generator: random.Random) -> bytes:
    """Return a damaged copy of a TOML or CSV file."""
    for _ in range(generator.choice((1, 1, 2, 4))):
        lines = data.split(b"\n")
        at = generator.randrange(len(lines))
        match generator.randrange(9):
            case 0:
                data = _flip(data, b"", generator)
            case 1:
                data = data[: generator.randrange(len(data) + 1)]
            case 2:
                del lines[at]
                data = b"\n".join(lines)
            case 3:
                lines.insert(generator.randrange(len(lines)), lines[at])
                data = b"\n".join(lines)
            case 4:
                data = _insert(data, generator.randbytes(generator.randrange(1, 20)), generator)
            case 5:
                data = _insert(data, generator.choice(_TOKENS).encode(), generator)
            case 6:
                separator = generator.choice((b"=", b","))
                parts = lines[at].split(separator)
                parts[-1] = b" " + generator.choice(_TOKENS).encode()
                lines[at] = separator.join(parts)
                data = b"\n".join(lines)
            case 7:
                data = data.replace(generator.choice((b" ", b"\n", b'"', b",", b"=", b"0")), b"", 1)
            case 8:
                begin = generator.randrange(len(data) + 1)
                data = _insert(data, data[begin : begin + 200] * generator.choice((1, 50)), generator)
    return data


def mutate_file(data: bytes, generator: random.Random) -> bytes:
    """Return a damaged copy of a binary file, its end, where Parquet has its footer, as often as all the rest."""
    for _ in range(generator.choice((1, 1, 2, 4))):
        at = generator.choice((0, max(0, len(data) - 600)))
        head, tail = data[:at], data[at:]
        data = head + generator.choice((_flip, _flip, _truncate, _scatter, _lie_about_length))(tail, b"", generator)
    return data


def _insert(data: bytes, piece: bytes, generator: random.Random) -> bytes:
    at = generator.randrange(len(data) + 1)
    return data[:at] + piece + data[at:]


def _flip(data: bytes, _: bytes, generator: random.Random) -> bytes:
    changed = bytearray(data)
    for _bit in range(generator.choice((1, 2, 8))):
        if changed:
            changed[generator.randrange(len(changed))] ^= 1 << generator.randrange(8)
    return bytes(changed)


def _truncate(data: bytes, _: bytes, generator: random.Random) -> bytes:
    return data[: generator.randrange(len(data) + 1)]


def _splice(data: bytes, other: bytes, generator: random.Random) -> bytes:
    return data[: generator.randrange(len(data) + 1)] + other[generator.randrange(len(other) + 1) :]


def _scatter(data: bytes, _: bytes, generator: random.Random) -> bytes:
    return _insert(data, generator.randbytes(generator.choice((1, 4, 64, 4096))), generator)


def _swap_fields(data: bytes, other: bytes, generator: random.Random) -> bytes:
    fields = _fields(data) + generator.choice((0, 1)) * _fields(other)
    generator.shuffle(fields)
    return b"".join(fields[: generator.randint(0, len(fields))] + fields[: generator.choice((0, 0, 1))])


def _lie_about_length(data: bytes, _: bytes, generator: random.Random) -> bytes:
    """Replace a byte, which may well be a length, by a huge number."""
    at = generator.randrange(len(data) + 1)
    huge = generator.choice(
        (b"\xff\xff\xff\xff\x07", b"\xff" * 9 + b"\x01", b"\x80" * 10, b"\xff" * 11, b"\x80\x80\x40")
    )
    return data[:at] + huge + data[at + 1 :]


def _deepen(data: bytes, _: bytes, generator: random.Random) -> bytes:
    """Wrap the message into itself as one of its fields, many times."""
    for _layer in range(generator.choice((1, 20, 150))):
        data = bytes((generator.randrange(1, 6) << 3 | _BYTES,)) + _number(len(data)) + data
    return data


_MUTATIONS = (_flip, _flip, _truncate, _splice, _scatter, _swap_fields, _swap_fields, _lie_about_length, _deepen)


def _number(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(encoded) + bytes((value,))


def _fields(data: bytes) -> list[bytes]:
    """Cut a message into its outermost fields, as far as it has any."""
    fields, at = [], 0
    while at < len(data):
        begin = at
        wire = data[at] & 7
        value, at = _skip_number(data, at)
        if wire == _VARINT:
            _, at = _skip_number(data, at)
        elif wire == _BYTES:
            value, at = _skip_number(data, at)
            at += value
        elif wire in (_FIXED64, _FIXED32):
            at += 8 if wire == _FIXED64 else 4
        else:
            at = len(data)
        fields.append(data[begin:at])
    return fields


def _skip_number(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data):
        value |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
        if data[at - 1] < 0x80:
            break
    return value, at
