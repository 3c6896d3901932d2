import numpy as np
import pytest
from scipy import stats
from thread_parties import run_in_threads

from mpcdp.errors import ProtocolError
from mpcdp.mpc.backend import Mesh, Words
from mpcdp.mpc.common_coins import CommonCoins


def draw(mesh: Mesh) -> list[Words]:
    coins = CommonCoins(mesh)
    return [coins.words(1000), coins.words(3), coins.words(0)]


@pytest.mark.parametrize("party_count", [2, 3, 5])
def test_all_parties_draw_equal_words(party_count: int) -> None:
    first, *others = run_in_threads(party_count, draw)
    assert [words.size for words in first] == [1000, 3, 0]
    assert np.unique(np.concatenate(first)).size == 1003
    for other in others:
        assert all(map(np.array_equal, first, other))


def test_words_are_uniform_and_new_in_every_session() -> None:
    draws = [run_in_threads(2, draw)[0][0] for _ in range(2)]
    for words in (*draws, draws[0] ^ draws[1]):
        assert stats.chisquare(np.bincount(words.view(np.uint8), minlength=256)).pvalue > 1e-7


class _Mesh:
    """Two peers whose contributions are given; keeps our own."""

    rank, size = 1, 3

    def __init__(self, *answers: bytes) -> None:
        self._answers = answers
        self.sent: list[tuple[str, bytes]] = []

    def exchange(self, operation: str, payload: bytes | memoryview) -> list[bytes | memoryview]:
        self.sent.append((operation, bytes(payload)))
        return [self._answers[0], payload, self._answers[1]]


def test_one_honest_contribution_makes_the_coins_fresh() -> None:
    meshes = [_Mesh(bytes(32), bytes(32)) for _ in range(2)]
    words = [CommonCoins(mesh).words(4).tolist() for mesh in meshes]
    assert not set(words[0]) & set(words[1])
    assert meshes[0].sent != meshes[1].sent


def test_the_round_is_taken_once_and_late() -> None:
    mesh = _Mesh(b"a" * 32, b"b" * 32)
    coins = CommonCoins(mesh)
    assert mesh.sent == []
    coins.words(1)
    coins.words(1)
    ((operation, contribution),) = mesh.sent
    assert (operation, len(contribution)) == ("coins", 32)


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_contribution_of_another_length_names_the_party(length: int) -> None:
    with pytest.raises(ProtocolError, match=f"compute party 2 contributed {length} bytes"):
        CommonCoins(_Mesh(b"a" * 32, bytes(length))).words(1)


def test_coins_print_redacted() -> None:
    assert repr(CommonCoins(_Mesh())) == "CommonCoins(<redacted>)"
