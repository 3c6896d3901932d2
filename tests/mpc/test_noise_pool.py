"""One party's pool: what it says is done is on disk, and nothing is handed out twice, early or damaged."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mpcdp.errors import BudgetError, ConfigError, ProtocolError
from mpcdp.mpc.noise_bank import BLOCK_SAMPLES, Batch, NoisePool, PoolState, pool_folder, pool_state, whole_blocks
from mpcdp.mpc.noise_bank.state import agree
from mpcdp.secret_sharing.shares import NoiseShare

A, B = b"A" * 32, b"B" * 32
BANK = b"b" * 16


def batch(start: int, blocks: int = 1, name: bytes | None = None) -> Batch:
    return Batch(start * BLOCK_SAMPLES, blocks * BLOCK_SAMPLES, (name or b"%d" % start).ljust(16, b"."))


def numbers(made: Batch) -> np.ndarray:
    return np.arange(made.start, made.end, dtype=np.int64) + 10**12


def chunks(made: Batch, size: int = 700) -> Iterator[NoiseShare]:
    values = numbers(made)
    for start in range(0, made.count, size):
        yield NoiseShare(values[start : start + size].copy())


def add(pool: NoisePool, made: Batch) -> None:
    pool.store(made, chunks(made))
    pool.commit(made)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "noise" / "pool"


@pytest.fixture
def pool(folder: Path) -> Iterator[NoisePool]:
    with NoisePool(folder) as pool:
        pool.agree(PoolState(BANK))
        yield pool


def test_samples_come_back_as_they_were_stored_across_batches_and_processes(folder: Path) -> None:
    with NoisePool(folder) as pool:
        add(pool, batch(0, 2))
        add(pool, batch(2, 3))
        assert pool.reserve(A, 3000).count == 3 * BLOCK_SAMPLES
    with NoisePool(folder) as pool:
        for start, samples in ((0, 700), (700, 1), (701, 2371)):
            share = pool.take(start, samples)
            assert share.values.tolist() == [10**12 + start + i for i in range(samples)]


def test_a_second_take_is_refused_wherever_it_overlaps(pool: NoisePool) -> None:
    add(pool, batch(0, 4))
    pool.reserve(A, 4096)
    pool.take(1000, 100)
    pool.take(2000, 100)
    for start, samples in ((1000, 100), (999, 2), (1099, 1), (950, 1100), (1050, 10), (2099, 500), (0, 4096)):
        with pytest.raises(BudgetError, match="used already"):
            pool.take(start, samples)
    pool.take(1100, 900)
    pool.take(0, 1000)


def test_only_reserved_positions_are_handed_out(pool: NoisePool) -> None:
    add(pool, batch(0, 4))
    pool.reserve(A, 1024)
    for start, samples in ((1023, 2), (1024, 1), (-1, 1), (0, 0), (0, -5)):
        with pytest.raises(BudgetError, match="no session has reserved"):
            pool.take(start, samples)


def test_a_batch_that_is_not_ready_is_not_used(pool: NoisePool) -> None:
    pool.store(batch(0, 2), chunks(batch(0, 2)))
    assert pool.state().free == 0
    with pytest.raises(BudgetError, match="0 are free"):
        pool.reserve(A, 10)


def test_sessions_never_share_a_position_and_a_session_keeps_its_own(folder: Path) -> None:
    with NoisePool(folder) as pool:
        add(pool, batch(0, 5))
        first, second = pool.reserve(A, 1500), pool.reserve(B, 1024)
        assert (first.start, first.end, second.start, second.end) == (0, 2048, 2048, 3072)
    with NoisePool(folder) as pool:
        assert pool.reserve(A, 1500) == first
        assert pool.reserve(b"C", 2048).start == 3072
        with pytest.raises(BudgetError, match="has had its noise"):
            pool.reserve(A, 3000)


def test_a_session_that_is_over_gets_no_noise_again_and_its_samples_are_gone(folder: Path, pool: NoisePool) -> None:
    add(pool, batch(0, 4))
    pool.reserve(A, 2048)
    pool.release(A)
    path = next(folder.glob("*.noise"))
    sealed = path.stat().st_size // 4
    assert path.read_bytes()[: 2 * sealed] == bytes(2 * sealed)
    with pytest.raises(BudgetError, match="has had its noise"):
        pool.reserve(A, 2048)
    assert pool.reserve(B, 2048).start == 2048
    assert pool.take(2048, 5).values.tolist() == [10**12 + 2048 + i for i in range(5)]
    pool.release(B)
    assert list(folder.glob("*.noise")) == []
    assert pool.state().ready == 0
    assert pool.state().next == 4096


def test_release_of_one_session_spares_the_others(pool: NoisePool) -> None:
    add(pool, batch(0, 2))
    pool.reserve(A, 1024)
    pool.reserve(B, 1024)
    pool.release_others(B)
    assert pool.take(1024, 1024).values[0] == 10**12 + 1024
    with pytest.raises(BudgetError, match="no session has reserved"):
        pool.take(0, 1)


def test_destroyed_samples_are_not_noise(folder: Path) -> None:
    with NoisePool(folder) as pool:
        add(pool, batch(0, 3))
        pool.reserve(A, 3072)
        pool.destroy(10, 2050)  # whole blocks only: the second one
        pool.take(1, 1023)
        with pytest.raises(BudgetError, match="position 1024 are damaged or were used"):
            pool.take(1030, 5)
        pool.take(2048, 1024)


@pytest.mark.parametrize("offset", [0, 8191, 8192, 8207, 8208 + 100])
def test_a_changed_bit_is_refused(folder: Path, offset: int) -> None:
    with NoisePool(folder) as pool:
        add(pool, batch(0, 2))
        pool.reserve(A, 2048)
    path = next(folder.glob("*.noise"))
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)
    damaged = offset // 8208 * BLOCK_SAMPLES
    with NoisePool(folder) as pool:
        with pytest.raises(BudgetError, match=rf"position {damaged} are damaged.*`mpcdp noise discard`"):
            pool.take(damaged, 1)
        pool.take(BLOCK_SAMPLES - damaged, 1)


def test_blocks_of_another_place_or_batch_are_refused(folder: Path) -> None:
    with NoisePool(folder) as pool:
        add(pool, batch(0, 2))
        add(pool, batch(2, 2))
        pool.reserve(A, 4096)
    first, second = sorted(folder.glob("*.noise"))
    one, other = first.read_bytes(), second.read_bytes()
    first.write_bytes(one[8208:] + one[:8208])
    second.write_bytes(other[:8208])  # and the last block is lost
    with NoisePool(folder) as pool:
        for position in (0, 1024, 3072):
            with pytest.raises(BudgetError, match="damaged"):
                pool.take(position, 1)
        pool.take(2048, 1)
    second.unlink()
    with NoisePool(folder) as pool, pytest.raises(BudgetError, match="damaged"):
        pool.take(2048, 1)


def test_positions_are_not_made_twice(pool: NoisePool) -> None:
    made = batch(0, 3)
    with pytest.raises(ValueError, match="another number"):
        pool.store(made, chunks(batch(0, 2)))
    with pytest.raises(BudgetError, match="position 0 had a batch before"):
        pool.store(batch(0, 3, b"again"), chunks(made))
    assert pool.state().made == 3072  # burnt
    add(pool, batch(3))
    assert pool.reserve(A, 1).start == 3072


def test_too_many_samples_are_refused(pool: NoisePool) -> None:
    with pytest.raises(ValueError, match="another number"):
        pool.store(batch(0, 1), chunks(batch(0, 2)))


def test_what_was_not_agreed_on_is_destroyed(folder: Path, pool: NoisePool) -> None:
    add(pool, batch(0))
    add(pool, batch(1))
    pool.store(batch(2), chunks(batch(2)))
    pool.agree(PoolState(BANK, 0, 8192, (batch(1),)))
    assert [path.name for path in folder.glob("*.noise")] == [f"{1024:020}.noise"]
    assert pool.state() == PoolState(BANK, 0, 8192, (batch(1),))


def test_a_range_that_not_all_parties_have_is_given_up(pool: NoisePool) -> None:
    add(pool, batch(0, 2))
    pool.reserve(A, 1024)
    pool.agree(PoolState(BANK, 1024, 2048, (batch(0, 2),)), A)
    assert pool.reserve(A, 1024).start == 1024
    with pytest.raises(BudgetError, match="no session has reserved"):
        pool.take(0, 1)


def test_positions_only_grow(pool: NoisePool) -> None:
    add(pool, batch(0, 3))
    pool.reserve(A, 1024)
    for worse in (
        PoolState(BANK, 0, 3072, (batch(0, 3),)),
        PoolState(BANK, 1024, 2048),
        PoolState(b"c" * 16, 1024, 3072, (batch(0, 3),)),
    ):
        with pytest.raises(BudgetError, match="positions only grow"):
            pool.agree(worse)
    assert pool.state().next == 1024


def test_files_that_belong_to_no_batch_are_destroyed_at_the_next_start(folder: Path) -> None:
    with NoisePool(folder) as pool:
        add(pool, batch(0))
        path = folder / f"{5 * BLOCK_SAMPLES:020}.noise"
        path.write_bytes(b"samples" * 1000)
        kept = path.with_name("link")
        os.link(path, kept)
    with NoisePool(folder):
        assert not path.exists()
        assert kept.read_bytes() == bytes(7000)
        assert len(list(folder.glob("*.noise"))) == 1


def test_discard_leaves_nothing(folder: Path, pool: NoisePool) -> None:
    add(pool, batch(0))
    pool.reserve(A, 10)
    pool.discard()
    assert pool.state(A) == PoolState()
    assert list(folder.glob("*.noise")) == []


def test_one_process_at_a_time_and_anybody_may_look(folder: Path, pool: NoisePool) -> None:
    add(pool, batch(0, 2))
    with pytest.raises(ConfigError, match="another process uses it"):
        NoisePool(folder)
    assert pool_state(folder) == pool.state()
    pool.close()
    NoisePool(folder).close()


def test_looking_makes_nothing_and_names_what_is_no_pool(tmp_path: Path) -> None:
    assert pool_state(tmp_path / "none") == PoolState()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "bank.db").write_text("this is no database, but it is long enough to be taken for one" * 20)
    with pytest.raises(ConfigError, match="noise pool"):
        pool_state(tmp_path)
    with pytest.raises(ConfigError, match="noise pool"):
        NoisePool(tmp_path)


def test_files_are_private_and_durability_is_the_strongest_sqlite_has(folder: Path, pool: NoisePool) -> None:
    add(pool, batch(0))
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert pool._database.execute("PRAGMA synchronous").fetchone() == (3,)


def test_samples_are_synced_before_they_are_said_to_be_there(
    folder: Path, pool: NoisePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    fsync = os.fsync

    def note(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_size)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    pool.store(batch(0, 2), chunks(batch(0, 2)))
    assert 2 * 8208 in synced


def test_each_group_rank_and_law_has_its_own_folder(tmp_path: Path) -> None:
    usual: dict[str, Any] = {"certificates": ("a", "b"), "rank": 0, "distribution": "gaussian", "scale": 2**20}
    variants: tuple[dict[str, Any], ...] = (
        {},
        {"certificates": ("b", "a")},
        {"rank": 1},
        {"distribution": "laplace"},
        {"scale": 2**21},
    )
    folders = [pool_folder(tmp_path, **{**usual, **variant}) for variant in variants]
    assert len(set(folders)) == 5
    assert folders[0].parent == tmp_path / "noise"
    assert folders[0].name.startswith("gaussian-")


# -- states ------------------------------------------------------------------------------------------------------------


@st.composite
def states(draw: st.DrawFn) -> PoolState:
    position, batches = 0, []
    for gap, blocks in draw(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 4)), max_size=5)):
        batches.append(batch(position + gap, blocks))
        position += gap + blocks
    made = position + draw(st.integers(0, 2))
    following = draw(st.integers(0, made))
    reserved = draw(st.none() | st.tuples(st.integers(0, 5), st.integers(1, 5)))
    scaled = None if reserved is None else (reserved[0] * BLOCK_SAMPLES, reserved[1] * BLOCK_SAMPLES)
    bank = draw(st.sampled_from([b"b" * 16, b"c" * 16]))
    return PoolState(bank, following * BLOCK_SAMPLES, made * BLOCK_SAMPLES, tuple(batches), scaled)


@given(states())
def test_states_survive_the_wire(state: PoolState) -> None:
    assert PoolState.from_bytes(state.to_bytes(), sender="party-2") == state


@given(st.binary(max_size=200))
def test_any_bytes_are_a_state_or_refused(data: bytes) -> None:
    try:
        state = PoolState.from_bytes(data, sender="party-2")
    except ProtocolError:
        return
    assert len(state.to_bytes()) == len(data)


@given(states(), st.integers(1, 12 * BLOCK_SAMPLES))
def test_a_place_is_free_ready_and_whole_and_what_is_missing_makes_one(state: PoolState, samples: int) -> None:
    held = {
        block for made in state.batches for block in range(made.start, made.end, BLOCK_SAMPLES) if block >= state.next
    }
    assert state.free == len(held) * BLOCK_SAMPLES
    place = state.place(samples)
    fits = [start for start in sorted(held) if set(range(start, start + samples, BLOCK_SAMPLES)) <= held]
    assert place == (fits[0] if fits else None)
    missing = state.missing(samples)
    assert (missing == 0) == (place is not None)
    if missing:
        more = Batch(state.made, missing, b"m" * 16)
        filled = PoolState(state.bank, state.next, more.end, (*state.batches, more))
        assert filled.place(samples) is not None
        if missing > BLOCK_SAMPLES:
            less = Batch(state.made, missing - BLOCK_SAMPLES, b"m" * 16)
            assert PoolState(state.bank, state.next, less.end, (*state.batches, less)).place(samples) is None


@given(st.lists(states(), min_size=2, max_size=3))
def test_parties_agree_on_what_all_have_and_the_farthest_position(mine: list[PoolState]) -> None:
    mine = [PoolState(b"b" * 16, each.next, each.made, each.batches, each.reserved) for each in mine]
    assume(any(each.made for each in mine))
    agreed = agree(mine, ["p", "q", "r"][: len(mine)], fresh_bank=lambda: b"f" * 16)
    assert agreed.next == max(each.next for each in mine)
    assert agreed.made == max(each.made for each in mine)
    assert all(set(agreed.batches) <= set(each.batches) for each in mine)
    assert agreed.bank == b"b" * 16
    if agreed.reserved is not None:
        start, count = agreed.reserved
        assert all(each.reserved == agreed.reserved for each in mine)
        assert agreed.covers(start, start + count)


def test_unused_pools_get_a_fresh_id_and_used_ones_have_to_belong_together() -> None:
    empty, fresh, used = PoolState(), PoolState(b"u" * 16), PoolState(b"b" * 16, 0, 1024)
    other = PoolState(b"o" * 16, 0, 1024)
    names = ["alpha", "beta"]

    def bank(*both: PoolState) -> bytes:
        return agree(both, names, fresh_bank=lambda: b"f" * 16).bank

    # The id that all have may be a restored one that was used since.
    assert bank(empty, empty) == bank(empty, fresh) == bank(fresh, fresh) == b"f" * 16
    assert bank(used, used) == bank(used, PoolState(b"b" * 16)) == b"b" * 16
    for left, right in ((used, empty), (used, fresh)):
        with pytest.raises(ProtocolError, match=r"beta has lost the noise pool .* alpha: run `mpcdp noise discard`"):
            bank(left, right)
    with pytest.raises(ProtocolError, match=r"alpha has lost .* beta"):
        bank(empty, used)
    with pytest.raises(ProtocolError, match=r"beta has another noise pool than alpha: run `mpcdp noise discard`"):
        bank(used, other)


def test_figures_that_contradict_each_other_are_refused() -> None:
    bad: dict[str, Any]
    for bad in (
        {"next": 1024},
        {"made": 100},
        {"made": 1 << 60},
        {"bank": b"short"},
        {"made": 1024, "batches": (batch(0, 2),)},
        {"made": 4096, "batches": (batch(1), batch(0))},
        {"made": 4096, "batches": (batch(0, 2), batch(1))},
    ):
        with pytest.raises(ValueError, match="pool"):
            PoolState(**bad)
    for start, count, name in ((1, 1024, b"n" * 16), (0, 1000, b"n" * 16), (0, 0, b"n" * 16), (0, 1024, b"n")):
        with pytest.raises(ValueError, match="batch"):
            Batch(start, count, name)
    assert [whole_blocks(samples) for samples in (0, 1, 1024, 1025)] == [0, 1024, 1024, 2048]
