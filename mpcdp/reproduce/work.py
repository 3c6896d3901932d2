"""Doing the stages of experiments on all cores: in processes, as threads are no use to many small matrices."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from queue import Queue

from threadpoolctl import threadpool_limits

from mpcdp.errors import MpcdpError
from mpcdp.reproduce.experiment import Stage
from mpcdp.reproduce.points import Point

__all__ = ["StageNews", "available_cores", "do_stages"]


@dataclass(frozen=True)
class StageNews:
    """What a stage is doing.

    Args:
        stage: its position.
        share: how much further it is than before; 0 when it begins.
        seconds: how long it took, once it is over.
        processor_seconds: of its process, likewise.
    """

    stage: int
    share: float = 0.0
    seconds: float | None = None
    processor_seconds: float | None = None


Tell = Callable[[StageNews], None]


def available_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


def do_stages(stages: Sequence[Stage], *, jobs: int, tell: Tell) -> list[Point]:
    """Do all stages and return their points, in the order of the stages however they end.

    Args:
        stages: what to do; a stage's numbers do not depend on which process does it.
        jobs: how many at a time; one is done in this process.
        tell: what is told of them, by one thread at a time.

    Raises:
        MpcdpError: a process was killed, probably for want of memory.
    """
    if min(jobs, len(stages)) <= 1:
        return [point for number, stage in enumerate(stages) for point in _do(stage, number, tell)]
    context = multiprocessing.get_context("spawn")
    # A queue in a process of its own: one between the workers would stay locked for ever by a worker that is killed.
    with context.Manager() as manager:
        news: Queue[StageNews | None] = manager.Queue()
        reader = threading.Thread(target=_hand_on, args=(news, tell), daemon=True)
        reader.start()
        others = set(multiprocessing.active_children())
        pool = ProcessPoolExecutor(min(jobs, len(stages)), context, initializer=_prepare, initargs=(stages, news))
        try:
            return [point for points in pool.map(_do_in_worker, range(len(stages))) for point in points]
        except BrokenProcessPool:
            raise MpcdpError("a process was killed, probably for want of memory: use fewer --jobs") from None
        except BaseException:
            for worker in set(multiprocessing.active_children()) - others:
                worker.terminate()  # what it is doing may take long, and nobody will read it
            raise
        finally:
            pool.shutdown(cancel_futures=True)
            news.put(None)
            reader.join()


def _hand_on(news: "Queue[StageNews | None]", tell: Tell) -> None:
    while (one := news.get()) is not None:
        tell(one)


def _do(stage: Stage, number: int, tell: Tell) -> Sequence[Point]:
    begin, spent = time.monotonic(), time.process_time()
    tell(StageNews(number))
    with threadpool_limits(1):
        points = stage.run(lambda share: tell(StageNews(number, share)))
    took, cpu = time.monotonic() - begin, time.process_time() - spent
    tell(StageNews(number, seconds=took, processor_seconds=cpu))
    return points


_worker: "tuple[Sequence[Stage], Queue[StageNews | None]]"


def _prepare(stages: Sequence[Stage], news: "Queue[StageNews | None]") -> None:
    """Take all stages at once: those of one table share it, and what is computed from it."""
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the process that started this one
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _worker = stages, news


def _end_with_parent() -> None:
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)


def _do_in_worker(number: int) -> Sequence[Point]:
    stages, news = _worker
    return _do(stages[number], number, news.put)
