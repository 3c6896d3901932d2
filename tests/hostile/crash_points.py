"""Points of the product's code at which a test lets a process die, without a hook in the product."""

import functools
import importlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["Point", "arm", "point"]

When = Literal["before", "after", "item"]
_ORDINALS = {1: "1st", 2: "2nd", 3: "3rd"}


@dataclass(frozen=True)
class Point:
    """A moment in the life of a process.

    Args:
        module: which has the function, without the leading ``mpcdp.``.
        function: name of the function, or ``Class.method``.
        when: before the call does anything, after it has returned; "item" is before an iterator that it returned
            yields its item number ``call``, counted from 0.
        call: number of the call, counted from 1; calls without the argument do not count.
        argument: a positional argument that the call must have; by default any call counts.
    """

    module: str
    function: str
    when: When
    call: int = 1
    argument: str | None = None

    def __str__(self) -> str:
        name = self.function if self.argument is None else f"{self.function}[{self.argument}]"
        if self.when == "item":
            return f"{name}-item-{self.call}"
        number = "" if self.call == 1 else f"-{_ORDINALS.get(self.call, f'{self.call}th')}"
        return f"{self.when}{number}-{name}"


def point(text: str) -> Point:
    """Read ``"before roles.journal:PartyJournal.bind_round #2 [argument]"``; number and argument may be missing."""
    when, place, *rest = text.split()
    module, _, function = place.partition(":")
    call = next((int(word[1:]) for word in rest if word.startswith("#")), 0 if when == "item" else 1)
    argument = next((word[1:-1] for word in rest if word.startswith("[")), None)
    return Point(module, function, when, call, argument)  # type: ignore[arg-type]


def arm(
    point: Point,
    fire: Callable[[], None],
    *,
    counts: Callable[[Any], bool] = lambda subject: True,
    patch: Callable[[Any, str, Any], None] = setattr,
) -> None:
    """Patch the point's function so that it calls ``fire`` at the point.

    Args:
        point: where.
        fire: called on the thread that is there; what it raises passes through.
        counts: tells from a call's first argument whether it is one of the process that is meant.
        patch: sets an attribute.
    """
    owner: Any = importlib.import_module(f"mpcdp.{point.module}")
    *classes, name = point.function.split(".")
    for each in classes:
        owner = getattr(owner, each)
    original = getattr(owner, name)
    calls = itertools.count(1)

    @functools.wraps(original)
    def function(*arguments: Any, **options: Any) -> Any:
        if (point.argument is not None and point.argument not in arguments) or not counts(arguments[0]):
            return original(*arguments, **options)
        if point.when == "item":
            return _stopping(original(*arguments, **options), point.call, fire)
        due = next(calls) == point.call
        if due and point.when == "before":
            fire()
        result = original(*arguments, **options)
        if due and point.when == "after":
            fire()
        return result

    patch(owner, name, function)


def _stopping(items: Iterator[Any], number: int, fire: Callable[[], None]) -> Iterator[Any]:
    for index in itertools.count():
        if index == number:
            fire()
        try:
            item = next(items)
        except StopIteration:
            return
        yield item
