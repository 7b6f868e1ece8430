"""Triggers made of other triggers."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import tzinfo
from typing import Any, TypeVar

from tocsin.errors import NoCommonFireTime
from tocsin.triggers.base import BaseTrigger, Trigger

_Self = TypeVar("_Self", bound="BaseCombiningTrigger")

#: How often an `AndTrigger` lets its triggers catch up with each other before it gives up.
MOST_STEPS = 20_000


class BaseCombiningTrigger(Trigger):
    """The base of `AndTrigger` and `OrTrigger`.

    Raises TypeError for what is no trigger, ValueError for an empty list.
    """

    __slots__ = ("_jitter", "triggers")

    def __init__(self, triggers: Iterable[BaseTrigger], jitter: float | None = None) -> None:
        self.triggers = list(triggers)
        for each in self.triggers:
            if not isinstance(each, BaseTrigger):
                raise TypeError(f"triggers: {each!r} is not a trigger")
        if not self.triggers:
            raise ValueError("triggers: the list is empty; give at least one trigger")
        self._set_jitter(jitter)

    @property
    def timezone(self) -> tzinfo | None:
        """The time zone of the first trigger that has one."""
        zones = (getattr(each, "timezone", None) for each in self.triggers)
        return next((each for each in zones if each is not None), None)

    def _arguments(self) -> dict[str, Any]:
        arguments: dict[str, Any] = {"triggers": self.triggers}
        if self.jitter is not None:
            arguments["jitter"] = self.jitter
        return arguments

    def to_dict(self) -> dict[str, Any]:
        """Give the trigger as a record of JSON values; ValueError if one has no record."""
        for each in self.triggers:
            if not isinstance(each, Trigger):
                raise ValueError(f"{each!r} has no record: it is not one of tocsin's triggers")
        return super().to_dict()

    @classmethod
    def _restore(cls: type[_Self], arguments: dict[str, Any]) -> _Self:
        given = arguments.pop("triggers", ())
        triggers = [
            each if isinstance(each, BaseTrigger) else Trigger.from_dict(each) for each in given
        ]
        return cls(triggers, **arguments)

    def _describe(self, word: str) -> str:
        return f" {word} ".join(f"({each.describe()})" for each in self.triggers)

    def __str__(self) -> str:
        return f"{self.kind}[{', '.join(map(str, self.triggers))}]"


class AndTrigger(BaseCombiningTrigger):
    """Fire at the instants at which all the triggers fire.

    Each trigger in turn jumps to its first fire time at or after the latest of the others',
    until all agree. Raises NoCommonFireTime when they do not after 20,000 jumps: such triggers
    (an interval that starts on half a second, and a cron trigger) will hardly ever agree.
    """

    __slots__ = ()

    kind = "and"

    def _next_plain(self, after: int) -> int | None:
        target = after + 1
        agreed = 0
        for step in range(MOST_STEPS):
            found = self.triggers[step % len(self.triggers)].next_instant(target - 1)
            if found is None:
                return None
            agreed = agreed + 1 if found == target else 1
            target = found
            if agreed >= len(self.triggers):
                return target
        raise self._disagreement("after", after, target)

    def _previous_plain(self, before: int) -> int | None:
        target = before - 1
        agreed = 0
        for step in range(MOST_STEPS):
            found = self.triggers[step % len(self.triggers)].previous_instant(target + 1)
            if found is None:
                return None
            agreed = agreed + 1 if found == target else 1
            target = found
            if agreed >= len(self.triggers):
                return target
        raise self._disagreement("before", before, target)

    def _disagreement(self, word: str, start: int, end: int) -> NoCommonFireTime:
        return NoCommonFireTime(
            f"{self} found no common fire time {word} {self.moment(start)}, having looked as"
            f" far as {self.moment(end)}; check that the triggers can coincide to the microsecond"
        )

    def describe(self) -> str:
        """Say in one line when the trigger fires."""
        return self._describe("and at the same time")


class OrTrigger(BaseCombiningTrigger):
    """Fire whenever one of the triggers fires; once where several do."""

    __slots__ = ()

    kind = "or"

    def _next_plain(self, after: int) -> int | None:
        found = [each.next_instant(after) for each in self.triggers]
        return min((each for each in found if each is not None), default=None)

    def _previous_plain(self, before: int) -> int | None:
        found = [each.previous_instant(before) for each in self.triggers]
        return max((each for each in found if each is not None), default=None)

    def describe(self) -> str:
        """Say in one line when the trigger fires."""
        return self._describe("or")
