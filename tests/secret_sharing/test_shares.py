"""Shares keep their content to themselves and their types apart."""

import copy
import pickle

import numpy as np
import pytest

from mpcdp.secret_sharing.shares import NoisedVector, NoiseShare, SharedVector, Verdicts

SHARES = [SharedVector, NoiseShare, NoisedVector]
SECRET = 123_456_789


@pytest.mark.parametrize("kind", SHARES)
def test_a_share_shows_its_dimension_only(kind: type[SharedVector]) -> None:
    share = kind(np.array([SECRET, 2]))
    expected = f"{kind.__name__}(<redacted>, dimension=2)"
    for text in (repr(share), str(share), f"{share}", f"{share!r}", repr([share]), "%s" % share):  # noqa: UP031
        assert expected in text
        assert str(SECRET) not in text
    assert not hasattr(share, "__dict__")


@pytest.mark.parametrize("kind", SHARES)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_share_is_not_pickled(kind: type[SharedVector], protocol: int) -> None:
    share = kind(np.array([SECRET]))
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(share, protocol)
    with pytest.raises(TypeError, match="cannot be pickled"):
        copy.deepcopy([share])


@pytest.mark.parametrize("kind", SHARES)
def test_a_share_cannot_be_written(kind: type[SharedVector]) -> None:
    share = kind(np.array([1, 2]))
    with pytest.raises(ValueError, match="read-only"):
        share.values[0] = 0
    with pytest.raises(AttributeError):
        setattr(share, "label", "x")  # noqa: B010  # the type checker refuses the plain assignment


@pytest.mark.parametrize("kind", SHARES)
@pytest.mark.parametrize("values", [np.zeros(2), np.zeros(2, dtype=np.int32), np.zeros((2, 1), dtype=np.int64)])
def test_a_share_is_a_vector_over_the_ring(kind: type[SharedVector], values: np.ndarray) -> None:
    with pytest.raises(ValueError, match="one-dimensional int64"):
        kind(values)


def test_sums_wrap_around() -> None:
    top = np.array([2**63 - 1, -(2**63)])
    total = SharedVector.total([SharedVector(top.copy()), SharedVector(np.array([1, -1]))], dimension=2)
    assert total.values.tolist() == [-(2**63), 2**63 - 1]
    noised = NoisedVector.add(SharedVector(top.copy()), NoiseShare(np.array([1, -1])))
    assert noised.values.tolist() == [-(2**63), 2**63 - 1]


def test_the_sum_of_no_shares_is_zero() -> None:
    assert SharedVector.total([], dimension=3).values.tolist() == [0, 0, 0]


def test_a_sum_leaves_its_terms_alone() -> None:
    share = SharedVector(np.array([5]))
    SharedVector.total([share, share], dimension=1)
    assert share.values.tolist() == [5]


def test_dimensions_must_agree() -> None:
    with pytest.raises(ValueError, match="dimension 2 does not fit"):
        SharedVector.total([SharedVector(np.zeros(2, dtype=np.int64))], dimension=3)
    with pytest.raises(ValueError, match="dimension 1 does not fit"):
        NoisedVector.add(SharedVector(np.zeros(2, dtype=np.int64)), NoiseShare(np.zeros(1, dtype=np.int64)))


def test_verdicts_hide_what_belongs_to_nobody_and_keep_the_rest_to_themselves() -> None:
    words = np.array([SECRET, -1])
    verdicts = Verdicts(words, count=67)
    assert verdicts.bits.tolist() == [SECRET, 0b111]
    assert words.tolist() == [SECRET, -1]
    assert repr(verdicts) == "Verdicts(<redacted>, count=67)"
    with pytest.raises(ValueError, match="read-only"):
        verdicts.bits[0] = 0
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(verdicts)


@pytest.mark.parametrize(("words", "count"), [(1, 0), (1, 65), (2, 64), (0, 1)])
def test_verdicts_fill_their_words(words: int, count: int) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        Verdicts(np.zeros(words, dtype=np.int64), count=count)
