"""A session between threads whose processes die, freeze, come back, and come back from older copies of their state.

A life of a process is a role on a thread, a network and a state folder. A dead one is cut off from all others at once;
what its threads still do reaches nobody and stays in its own folder. The next life begins with a copy of what was on
disk at the moment of death.
"""

import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from witness import Testimony, watch

from mpcdp.data.dataset import Dataset
from mpcdp.mpc.backend import Backend, CorrelationSource, Mesh
from mpcdp.mpc.plaintext_backend import PlaintextBackend
from mpcdp.plan import make_plan
from mpcdp.privacy.ledger import Ledger
from mpcdp.roles.compute_party import ComputeParty
from mpcdp.roles.coordinator import Coordinator
from mpcdp.roles.dealer import Dealer
from mpcdp.roles.dealing_desk import DealingDesk
from mpcdp.roles.journal import PartyJournal
from mpcdp.roles.owner import Owner
from mpcdp.roles.session import limits_of
from mpcdp.task import Task
from mpcdp.transport.channel import Member, Services
from mpcdp.transport.in_process import InProcessNetwork, InProcessWorld, Parcel
from mpcdp.transport.mesh import Stream
from mpcdp.transport.reception import Reception

__all__ = ["Killed", "Life", "MortalWorld", "OnMessage", "copy_state"]


OnMessage = Callable[[int, Parcel], None]


class Killed(BaseException):
    """The process of this thread is gone."""


class Life:
    """One process from its start to its end.

    Args:
        name: in the task.
        number: of the life, from 0.
        state: folder.
        clone: whether it is a second one beside another, which listens at an address that nobody calls.
    """

    def __init__(self, name: str, number: int, state: Path, *, clone: bool = False) -> None:
        self.name = name
        self.number = number
        self.state = state
        self.clone = clone
        self.dead = False
        self.error: BaseException | None = None
        self.thread = threading.Thread(name=f"{name}/{number}", daemon=True)


class _Network(InProcessNetwork):
    def __init__(self, life: Life, *arguments: Any, task_digest: bytes) -> None:
        super().__init__(*arguments, task_digest=task_digest)
        self.life = life

    @contextmanager
    def serve(self, service: Services | None) -> Iterator[None]:
        if self.life.dead:
            raise Killed
        with nullcontext() if self.life.clone else super().serve(service):
            yield

    def _start(self, peer: Member, method: str, messages: Iterable[bytes], seconds: float) -> Stream:
        if self.life.dead:
            raise Killed
        return super()._start(peer, method, messages, seconds)


class MortalWorld:
    """Runs the roles of a task; use it as a context manager, at whose end all lives are over.

    Args:
        folder: for state folders, ``name/number``.
        task: what they agreed on.
        datasets: the owners' records.
        patch: sets an attribute until the end of the test.
        on_message: called with the number of every message and with itself, before it is delivered.
    """

    def __init__(
        self,
        folder: Path,
        task: Task,
        datasets: Mapping[str, Dataset],
        *,
        patch: Callable[[Any, str, Any], None],
        on_message: OnMessage = lambda number, parcel: None,
    ) -> None:
        self._folder = folder
        self._task = task
        self._plan = make_plan(task)
        self.datasets = datasets
        self._on_message = on_message
        self._world = InProcessWorld(self._deliver)
        self.lock = threading.RLock()
        """Held while several lives end and begin that belong together."""
        self._messages = 0
        self._frozen: dict[str, float] = {}
        self._hook = threading.excepthook
        self.lives: dict[str, list[Life]] = {}
        self.clones: list[Life] = []
        self.testimonies: list[Testimony] = []
        watch(PlaintextBackend, self.party_of, self._note, patch)

    def __enter__(self) -> "MortalWorld":
        threading.excepthook = self._swallow_deaths
        return self

    def __exit__(self, *_: object) -> None:
        for clone in self.clones:
            clone.dead = True
        for name in self.lives:
            self.kill(name)
        threading.excepthook = self._hook

    def _swallow_deaths(self, arguments: "threading.ExceptHookArgs") -> None:
        if arguments.exc_type is not Killed:
            self._hook(arguments)

    # -- messages --------------------------------------------------------------------------------------------------

    def _deliver(self, parcel: Parcel) -> bytes:
        with self.lock:
            self._messages += 1
            number = self._messages
        self._on_message(number, parcel)
        while (
            wait := max(self._frozen.get(name, 0.0) for name in (parcel.sender, parcel.receiver))
        ) > time.monotonic():
            time.sleep(min(0.02, max(wait - time.monotonic(), 0)))
        return parcel.message

    def freeze(self, name: str, seconds: float) -> None:
        """Hold up everything from and to a process."""
        self._frozen[name] = time.monotonic() + seconds

    @property
    def members(self) -> tuple[Member, ...]:
        """All processes of the task."""
        return tuple(self._task.members())

    def reception(self, name: str) -> Reception | None:
        """Return where requests to a process arrive now, if it listens."""
        return self._world._receptions.get(name)

    # -- lives -----------------------------------------------------------------------------------------------------

    @property
    def names(self) -> tuple[str, ...]:
        """All processes."""
        return tuple(member.name for member in self._task.members())

    def life(self, name: str) -> Life:
        """Return a process's latest life."""
        return self.lives[name][-1]

    def start(self, *names: str, state: Path | None = None) -> None:
        """Start processes, all by default; the next life of one that died has its state, unless another is given."""
        for name in names or self.names:
            with self.lock:
                lives = self.lives.setdefault(name, [])
                life = Life(name, len(lives), self._folder / name / str(len(lives)))
                if state is not None:
                    shutil.copytree(state, life.state)
                lives.append(life)
            life.thread = threading.Thread(target=self._live, args=(life,), name=f"{name}/{life.number}", daemon=True)
            life.thread.start()

    def clone(self, name: str) -> None:
        """Start a second process beside the one that lives, with a copy of its state."""
        with self.lock:
            life = Life(name, len(self.clones), self._folder / name / f"clone-{len(self.clones)}", clone=True)
            copy_state(self.life(name).state, life.state)
            self.clones.append(life)
        life.thread = threading.Thread(target=self._live, args=(life,), name=f"{name}/clone", daemon=True)
        life.thread.start()

    def kill(self, name: str) -> None:
        """End a process as SIGKILL does, if it lives; its state is copied for its next life."""
        with self.lock:
            life = self.life(name)
            if life.dead or not life.thread.is_alive():
                return
            life.dead = True
            self._world.kill(name)
            self._world.kill(name)  # a call that it was just starting
            copy_state(life.state, self._rest(life))

    def restart(self, name: str) -> None:
        """Kill a process, if it lives, and start it again with what was on its disk."""
        with self.lock:
            self.kill(name)
            self._world.kill(name)  # had it just been about to listen
            life = self.life(name)
            if not life.dead:
                life.dead = True
                copy_state(life.state, self._rest(life))
        self.start(name, state=self._rest(life))

    def _rest(self, life: Life) -> Path:
        return self._folder / life.name / f"{life.number}.rest"

    def die(self, name: str) -> None:
        """End a process from one of its own threads.

        Raises:
            Killed: always.
        """
        self.kill(name)
        raise Killed

    def name_of(self, subject: Any) -> str | None:
        """Tell to which living process an object of the product belongs."""
        for life in (*(lives[-1] for lives in self.lives.values()), *self.clones):
            if not life.dead and _belongs(subject, life, self._task):
                return life.name
        return None

    def join(self, seconds: float) -> None:
        """Wait for the end of the latest life of everybody.

        Raises:
            AssertionError: one does not end.
        """
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with self.lock:
                running = [lives[-1] for lives in self.lives.values() if lives[-1].thread.is_alive()]
            if not [life for life in running if not life.dead]:
                return
            running[0].thread.join(0.02)
        raise AssertionError(f"{[life.thread.name for life in running]} hang")

    def states(self) -> dict[str, Path]:
        """Return the state folder of everybody's latest life."""
        return {name: lives[-1].state for name, lives in self.lives.items()}

    def errors(self) -> dict[str, BaseException]:
        """Return how the latest lives failed that failed."""
        return {name: lives[-1].error for name, lives in self.lives.items() if lives[-1].error is not None}

    def _live(self, life: Life) -> None:
        try:
            self._run(life)
        except Killed:
            pass
        except BaseException as error:  # noqa: BLE001 (the test looks at it)
            life.error = error

    def _run(self, life: Life) -> None:
        task, plan, name, state = self._task, self._plan, life.name, life.state
        me = next(member for member in task.members() if member.name == name)
        limits = limits_of(task, dimension=plan.dimension, rounds=plan.rounds)
        network = _Network(life, self._world, me, task.members(), limits, task_digest=task.digest)
        match me.role:
            case "coordinator":
                Coordinator(task, plan, network, state).run()
            case "dealer":
                Dealer(task, plan, network).run()
            case "compute":
                with PartyJournal(state) as journal:
                    ComputeParty(name, task, plan, network, journal, self._engine(life)).run()
            case _:
                with Ledger(state / "ledger.db") as ledger:
                    Owner(name, task, plan, self.datasets[name], network, ledger, state).run()

    def _engine(self, life: Life) -> Any:
        @contextmanager
        def engine(mesh: Mesh, correlations: CorrelationSource | None) -> Iterator[Backend]:
            if correlations is not None:
                for _ in correlations._chunks:  # type: ignore[attr-defined]
                    pass
            backend = PlaintextBackend(rank=mesh.rank, party_count=mesh.size, mesh=mesh)
            vars(backend)["_folder"] = life.state  # whose it is
            yield backend

        return engine

    def _note(self, testimony: Testimony) -> None:
        with self.lock:
            self.testimonies.append(testimony)

    def party_of(self, subject: Any) -> str:
        """Tell whose journal, backend or noise an object is.

        Raises:
            Killed: of a process that is dead.
        """
        if (name := self.name_of(subject)) is None:
            raise Killed
        return name


def _belongs(subject: Any, life: Life, task: Task) -> bool:
    """Tell whether an object of the product is part of a life, or this thread is, if the object does not show it."""
    subject = getattr(subject, "_database", subject)
    for attribute in ("_path", "_folder", "folder", "_output", "state"):
        place = getattr(subject, attribute, None)
        if isinstance(place, Path):
            return place.is_relative_to(life.state)
    if isinstance(subject, Path):
        return subject.is_relative_to(life.state)
    network = getattr(subject, "_network", None) or getattr(subject, "_caller", None)
    if isinstance(network, _Network):
        return network.life is life
    rank = getattr(subject, "_rank", getattr(subject, "rank", None))
    if rank is not None:
        return bool(task.compute_parties[rank].name == life.name)
    if isinstance(subject, DealingDesk | bytes):  # what the one dealer deals with, on threads of its callers
        return life.name == "dealer"
    return threading.current_thread() is life.thread


def copy_state(source: Path, target: Path) -> None:
    """Copy a state folder as a crash at this moment leaves it: databases as of their last commit."""
    target.mkdir(parents=True, mode=0o700)
    for path in sorted(source.rglob("*")) if source.exists() else ():
        copy = target / path.relative_to(source)
        try:
            if path.is_dir():
                copy.mkdir(mode=0o700, exist_ok=True)
            elif path.suffix == ".db":
                copy.touch(mode=0o600)
                with closing(sqlite3.connect(path, timeout=10)) as old, closing(sqlite3.connect(copy)) as new:
                    old.backup(new)
            elif not path.name.endswith(("-wal", "-shm", "-journal")):
                shutil.copy2(path, copy)
        except FileNotFoundError:
            continue  # deleted meanwhile by another thread of the process
