"""The plaintext backend against the contract of backends; and the contract against faulty backends."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from backend_contract import check_backend, contract_schedule
from numpy.typing import NDArray
from thread_parties import SharingBackendUnsafe, block_products, run_in_threads

from mpcdp.mpc.backend import Backend, CorrelationRequest, Mesh, NormMasks, Words
from mpcdp.mpc.plaintext_backend import PlaintextBackend
from mpcdp.secret_sharing.randomness import KeyStream, derive_key, random_key
from mpcdp.secret_sharing.shares import RingVector, Verdicts

ROOT = Path(__file__).parents[2]


def test_alone() -> None:
    backend: Backend = PlaintextBackend()
    check_backend(backend)


@pytest.mark.parametrize("party_count", [2, 3])
def test_among_several_parties(party_count: int) -> None:
    def party(mesh: Mesh) -> None:
        check_backend(PlaintextBackend(rank=mesh.rank, party_count=mesh.size, mesh=mesh))

    run_in_threads(party_count, party)


@pytest.mark.parametrize("party_count", [2, 3, 5])
def test_contract_holds_for_true_shares(party_count: int) -> None:
    secret = random_key()
    run_in_threads(party_count, lambda mesh: check_backend(SharingBackendUnsafe(mesh, secret)))


def test_contract_schedule_is_deterministic() -> None:
    schedule = contract_schedule()
    assert schedule == contract_schedule()
    assert {request.kind for request in schedule} == {"and", "chain", "integer", "norm"}
    assert CorrelationRequest("and", 2, 3 * 2 * 5) in schedule
    assert CorrelationRequest("and", 2, 3 * 5, 3) in schedule


class _Or(PlaintextBackend):
    def and_rows(self, rows: Words, selector: Words) -> Words:
        return rows | selector


class _InPlace(PlaintextBackend):
    def and_rows(self, rows: Words, selector: Words) -> Words:
        rows &= selector
        return rows


class _BigEndianLanes(PlaintextBackend):
    def unmask(self, digits: Words, masks: RingVector) -> RingVector:
        octets = np.ascontiguousarray(digits).view(np.uint8)
        lanes = np.unpackbits(octets, axis=-1, bitorder="big").astype(np.int64)
        return 2 ** np.arange(len(digits)) @ lanes - masks


class _ForgottenCarry(PlaintextBackend):
    def unmask(self, digits: Words, masks: RingVector) -> RingVector:
        return super().unmask(digits[:-1], masks)


class _ForgottenMask(PlaintextBackend):
    def unmask(self, digits: Words, masks: RingVector) -> RingVector:
        return super().unmask(digits, masks & 0)


class _SameWords(PlaintextBackend):
    def random_words(self, shape: tuple[int, ...]) -> Words:
        return KeyStream(bytes(32)).words(int(np.prod(shape))).reshape(shape)


class _SameWordInEveryColumn(PlaintextBackend):
    def random_words(self, shape: tuple[int, ...]) -> Words:
        return np.repeat(super().random_words((*shape[:-1], 1)), shape[-1], axis=-1)


class _BiasedWords(PlaintextBackend):
    def random_words(self, shape: tuple[int, ...]) -> Words:
        return super().random_words(shape) | super().random_words(shape)


class _SelectorForEachRow(PlaintextBackend):
    def select_random(self, coefficients: Words) -> Words:
        rows = [
            super(_SelectorForEachRow, self).select_random(row)
            for row in np.split(coefficients, coefficients.shape[1], axis=1)
        ]
        return np.concatenate(rows)


class _SameSelectors(PlaintextBackend):
    def select_random(self, coefficients: Words) -> Words:
        shape = (len(coefficients).bit_length() - 1, *coefficients.shape[2:])
        return self.select(coefficients, KeyStream(bytes(32)).words(int(np.prod(shape))).reshape(shape))


class _OneSelectorForAll(PlaintextBackend):
    def select_random(self, coefficients: Words) -> Words:
        shape = (len(coefficients).bit_length() - 1, *coefficients.shape[2:])
        return self.select(coefficients, np.broadcast_to(self.random_words(shape[1:]), shape))


class _SelectorsBackwards(PlaintextBackend):
    def select(self, coefficients: Words, selectors: Words) -> Words:
        return super().select(coefficients, selectors[::-1])


class _TableInsteadOfPolynomial(PlaintextBackend):
    def select(self, coefficients: Words, selectors: Words) -> Words:
        for selector in selectors[::-1]:
            low, high = np.split(coefficients, 2)
            coefficients = low & ~selector ^ high & selector
        result: Words = coefficients[0]
        return result


class _OneBitForTheChain(PlaintextBackend):
    def random_chain(self, length: int, shape: tuple[int, ...]) -> Words:
        return np.repeat(self.random_words((1, *shape)), length, axis=0)


class _ChainOfBitsNotPrefixes(PlaintextBackend):
    def random_chain(self, length: int, shape: tuple[int, ...]) -> Words:
        return self.random_words((length, *shape))


class _ForgottenHead(PlaintextBackend):
    def extend_chain(self, head: Words, length: int) -> Words:
        return self.random_chain(length, head.shape)


class _WrongIntegers(PlaintextBackend):
    def random_integers(self, bits: int, words: int) -> tuple[Words, RingVector]:
        digits, values = super().random_integers(bits, words)
        return digits, values + 1


class _BiasedIntegers(PlaintextBackend):
    def random_integers(self, bits: int, words: int) -> tuple[Words, RingVector]:
        return np.full((bits, words), -1), np.full(64 * words, 2**bits - 1)


class _AllButTheLast(PlaintextBackend):
    def and_all(self, rows: Words) -> Words:
        return super().and_all(rows[:-1])


class _AnyOfAll(PlaintextBackend):
    def and_all(self, rows: Words) -> Words:
        product: Words = np.bitwise_or.reduce(rows, axis=0)
        return product


class _WrongSquares(PlaintextBackend):
    def open_masked(self, values: RingVector, *, digits: int, shift: int) -> tuple[RingVector, NormMasks]:
        opened, masks = super().open_masked(values, digits=digits, shift=shift)
        return opened, NormMasks(masks.products, masks.shifted, masks.squares + 1)


class _WrongProducts(PlaintextBackend):
    def open_masked(self, values: RingVector, *, digits: int, shift: int) -> tuple[RingVector, NormMasks]:
        opened, masks = super().open_masked(values, digits=digits, shift=shift)
        return opened, NormMasks(~masks.products, masks.shifted, masks.squares)


class _SameMaskAgain(PlaintextBackend):
    """Uniform, and everything fits, but for the second opening."""

    def open_masked(self, values: RingVector, *, digits: int, shift: int) -> tuple[RingVector, NormMasks]:
        masks = KeyStream(bytes(32)).words(values.size)
        rows = [masks] if shift == 0 else [masks >> shift, (masks.view(np.uint64) >> np.uint64(shift)).view(np.int64)]
        shifted = np.stack(rows)
        return values + masks, NormMasks(block_products(masks, digits), shifted, shifted * shifted)


class _VerdictsOfTheLastWordFirst(PlaintextBackend):
    def reveal_verdicts(self, verdicts: Verdicts) -> NDArray[np.bool_]:
        return super().reveal_verdicts(verdicts)[::-1]


@pytest.mark.parametrize(
    "faulty",
    [
        _AllButTheLast,
        _AnyOfAll,
        _WrongSquares,
        _WrongProducts,
        _SameMaskAgain,
        _VerdictsOfTheLastWordFirst,
        _Or,
        _InPlace,
        _BigEndianLanes,
        _ForgottenCarry,
        _ForgottenMask,
        _SameWords,
        _SameWordInEveryColumn,
        _BiasedWords,
        _SelectorForEachRow,
        _SameSelectors,
        _OneSelectorForAll,
        _SelectorsBackwards,
        _TableInsteadOfPolynomial,
        _OneBitForTheChain,
        _ChainOfBitsNotPrefixes,
        _ForgottenHead,
        _WrongIntegers,
        _BiasedIntegers,
    ],
    ids=lambda c: c.__name__,
)
def test_contract_rejects(faulty: type[PlaintextBackend]) -> None:
    with pytest.raises(AssertionError):
        check_backend(faulty())


def test_only_rank_zero_knows_anything() -> None:
    def party(mesh: Mesh) -> tuple[Words, Words]:
        backend = PlaintextBackend(rank=mesh.rank, party_count=mesh.size, mesh=mesh)
        return backend.random_words((4, 4)), backend.public(np.full((4, 4), -1))

    (random, public), *others = run_in_threads(3, party)
    assert random.any()
    assert (public == -1).all()
    assert not any(words.any() for pair in others for words in pair)


def test_random_words_come_from_the_stream() -> None:
    key = derive_key(b"plaintext backend", salt=b"", purpose="test")
    words = PlaintextBackend(stream=KeyStream(key)).random_words((3, 5))
    assert np.array_equal(words, KeyStream(key).words(15).reshape(3, 5))


def test_two_backends_do_not_share_their_random_words() -> None:
    assert not np.array_equal(PlaintextBackend().random_words((4,)), PlaintextBackend().random_words((4,)))


def test_several_parties_need_a_mesh() -> None:
    with pytest.raises(ValueError, match="mesh"):
        PlaintextBackend(rank=0, party_count=2)


SNIPPET = """
from mpcdp.mpc.backend import Backend
from mpcdp.mpc.plaintext_backend import PlaintextBackend
from mpcdp.secret_sharing.shares import NoisedVector, NoiseShare, SharedVector

backend: Backend = PlaintextBackend()

def noised(vector: NoisedVector) -> None:
    backend.reveal(vector)

def shared(vector: SharedVector) -> None:
    backend.reveal(vector)  # refused

def noise(vector: NoiseShare) -> None:
    backend.reveal(vector)  # refused

def bits(vector: NoisedVector) -> None:
    backend.reveal_verdicts(vector)  # refused

def twice(vector: NoisedVector, share: NoiseShare) -> None:
    NoisedVector.add(vector, share)  # refused
"""


def test_type_checker_refuses_to_reveal_what_is_not_noised(tmp_path: Path) -> None:
    snippet = tmp_path / "snippet.py"
    snippet.write_text(SNIPPET.lstrip())
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--config-file",
        str(ROOT / "pyproject.toml"),
        "--cache-dir",
        str(tmp_path),
    ]
    result = subprocess.run([*command, str(snippet)], cwd=ROOT, capture_output=True, text=True, check=False)
    errors = [line for line in result.stdout.splitlines() if ": error:" in line]
    lines = [int(line.split(":")[1]) for line in errors]
    marked = [number for number, line in enumerate(SNIPPET.lstrip().splitlines(), 1) if "# refused" in line]
    assert lines == marked, result.stdout + result.stderr
    assert all('expected "NoisedVector"' in line for line in errors[:2])
