"""Sets of owners against Python's own sets, and their one form on the wire."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpcdp.secret_sharing.owner_set import OWNER_LIMIT, OwnerSet

positions = st.sets(st.integers(0, 300))


@given(positions, positions)
def test_it_behaves_as_a_set(one: set[int], other: set[int]) -> None:
    a, b = OwnerSet.of(one), OwnerSet.of(other)
    assert list(a) == sorted(one)
    assert len(a) == len(one)
    assert set(a & b) == one & other
    assert set(a | b) == one | other
    assert set(a - b) == one - other
    assert (a <= b) == (one <= other)
    assert all((position in a) == (position in one) for position in range(-2, 305))
    assert (a == b) == (one == other)


@given(positions)
def test_it_survives_the_wire_in_its_shortest_form(members: set[int]) -> None:
    owners = OwnerSet.of(members)
    bitmap = owners.to_bytes()
    assert OwnerSet.from_bytes(bitmap) == owners
    assert len(bitmap) == (max(members) // 8 + 1 if members else 0)
    with pytest.raises(ValueError, match="zeros"):
        OwnerSet.from_bytes(bitmap + b"\0")


def test_its_size_is_bounded() -> None:
    assert len(OwnerSet.of([OWNER_LIMIT - 1]).to_bytes()) == OWNER_LIMIT // 8
    for wrong in ([OWNER_LIMIT], [-1]):
        with pytest.raises(ValueError, match="positions"):
            OwnerSet.of(wrong)
    with pytest.raises(ValueError, match="positions"):
        OwnerSet(-1)
    with pytest.raises(ValueError, match="positions"):
        OwnerSet(1 << OWNER_LIMIT)
    with pytest.raises(ValueError, match="too long"):
        OwnerSet.from_bytes(bytes(OWNER_LIMIT // 8) + b"\1")
