"""The jobs of the soak, and when each has to run.

The run times are worked out without tocsin's triggers: those of an interval job by adding, those
of a cron job by reading every second of the soak on a wall clock of `zoneinfo`.
"""

from __future__ import annotations

import random
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import cache
from zoneinfo import ZoneInfo

from tocsin import CronTrigger, IntervalTrigger
from tocsin.triggers.base import BaseTrigger

#: Time zones of jobs, which take turns: half of them have daylight saving time.
ZONES = (
    "UTC",
    "Asia/Kolkata",
    "Asia/Tokyo",
    "Africa/Lagos",
    "Europe/Berlin",
    "America/New_York",
    "America/St_Johns",
    "Australia/Lord_Howe",
)
#: Which share of all jobs is cron jobs of each kind; all others are interval jobs.
CRON_SHARES = {"second": 0.001, "minute": 0.06, "hour": 0.1, "day": 0.039}
#: How many seconds there are from one run to the next.
CRON_PERIODS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
#: The longest interval, in seconds.
LONGEST = 3600
#: Every so many jobs one has the trigger of the job before it; all others have their own.
SHARING = 10

SECOND = 1_000_000
_TENTH = SECOND // 10
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True)
class Rule:
    """The fields of a cron job, None for any value, and its time zone."""

    second: int | None
    minute: int | None
    hour: int | None
    zone: str

    def trigger(self, begin: datetime) -> CronTrigger:
        """Make a trigger that fires whenever the wall clock matches, from an instant on."""
        second, minute, hour = (
            "*" if each is None else each for each in (self.second, self.minute, self.hour)
        )
        return CronTrigger(
            second=second,
            minute=minute,
            hour=hour,
            start_date=begin,
            timezone=ZoneInfo(self.zone),
            dst="wall-clock",
        )

    def occurrences(self, begin: int, end: int) -> list[int]:
        """List the instants from ``begin`` to before ``end`` at which the wall clock matches."""
        return [
            instant
            for instant, hour, minute in _readings(self.zone, begin, end).get(self.second, ())
            if self.minute in (None, minute) and self.hour in (None, hour)
        ]


@cache
def _readings(zone: str, begin: int, end: int) -> dict[int | None, list[tuple[int, int, int]]]:
    """Read a wall clock every second: instant, hour and minute, by the second; under None, all."""
    tz = ZoneInfo(zone)
    found: dict[int | None, list[tuple[int, int, int]]] = {None: []}
    for second in range(-(-begin // SECOND), -(-end // SECOND)):
        local = datetime.fromtimestamp(second, tz)
        reading = (second * SECOND, local.hour, local.minute)
        found[None].append(reading)
        found.setdefault(local.second, []).append(reading)
    return found


class Population:
    """So many jobs, numbered from 0, that together run ``rate`` times a second.

    It says when each has to run from ``begin`` to before ``end``, instants in microseconds since
    1970. The same ``seed`` gives the same jobs. Intervals are between a fifth of ``jobs / rate``
    seconds and an hour, in steps of a tenth of a second, with random phases. A job takes 16 bytes
    here, and the run times of a cron job.

    Raises ValueError for a rate that such intervals can't have.
    """

    def __init__(self, jobs: int, rate: float, begin: int, end: int, seed: int) -> None:
        self.jobs, self.begin, self.end = jobs, begin, end
        #: The first run of each job, whether before ``end`` or not.
        self.first = array("q")
        # The microseconds from run to run of an interval job; of a cron job ~n for the n-th rule.
        self._step = array("q")
        self._rules: dict[Rule, int] = {}
        self._occurrences: list[list[int]] = []
        draw = random.Random(seed)
        kinds = {kind: round(jobs * share) for kind, share in CRON_SHARES.items()}
        rest = rate - sum(count / CRON_PERIODS[kind] for kind, count in kinds.items())
        periods = _periods(jobs - sum(kinds.values()), rest, jobs / rate / 5)
        draw.shuffle(periods)
        for period in periods:
            step = max(round(period * 10), 1) * _TENTH
            self._add(step, begin + draw.randrange(step))
        for kind, count in kinds.items():
            for _ in range(count):
                rule = Rule(
                    None if kind == "second" else draw.randrange(60),
                    draw.randrange(60) if kind in ("hour", "day") else None,
                    draw.randrange(24) if kind == "day" else None,
                    draw.choice(ZONES),
                )
                index = self._rules.get(rule)
                if index is None:
                    index = self._rules[rule] = len(self._occurrences)
                    self._occurrences.append(rule.occurrences(begin, end))
                self._add(~index, min(self._occurrences[index], default=end))
        #: How many runs there have to be, of all jobs.
        self.runs = sum(self.count(number, begin, end) for number in range(jobs))

    def _add(self, step: int, first: int) -> None:
        if self._shares(len(self._step)):
            step, first = self._step[-1], self.first[-1]
        self._step.append(step)
        self.first.append(first)

    def _shares(self, number: int) -> bool:
        return number % SHARING == SHARING - 1

    def is_cron(self, number: int) -> bool:
        """Tell whether a job is a cron job, and not an interval job."""
        return self._step[number] < 0

    def triggers(self) -> Iterator[BaseTrigger]:
        """Make the triggers of all jobs, in the order of their numbers."""
        rules = list(self._rules)
        zones = [ZoneInfo(zone) for zone in ZONES]
        begin = _moment(self.begin)
        trigger: BaseTrigger
        for number, step in enumerate(self._step):
            if self._shares(number):
                pass
            elif step > 0:
                trigger = IntervalTrigger(
                    seconds=step / SECOND,
                    start_date=_moment(self.first[number]),
                    timezone=zones[number % len(zones)],
                )
            else:
                trigger = rules[~step].trigger(begin)
            yield trigger

    def after(self, number: int, instant: int) -> int:
        """Give the run after one; ``end`` or later if it is the last."""
        step = self._step[number]
        if step > 0:
            return instant + step
        times = self._occurrences[~step]
        place = bisect_right(times, instant)
        return times[place] if place < len(times) else self.end

    def has(self, number: int, instant: int) -> bool:
        """Tell whether a job has to run at an instant before ``end``."""
        step = self._step[number]
        if step > 0:
            since = instant - self.first[number]
            return since >= 0 and since % step == 0
        return instant in self._occurrences[~step]

    def count(self, number: int, since: int, until: int) -> int:
        """Count the runs that a job has to have from an instant to before another one."""
        step = self._step[number]
        if step > 0:
            first = self.first[number]
            # The runs before an instant are those that the steps to it have room for.
            return max(0, -((first - until) // step)) - max(0, -((first - since) // step))
        times = self._occurrences[~step]
        return bisect_left(times, until) - bisect_left(times, since)


def _moment(instant: int) -> datetime:
    return _EPOCH + timedelta(microseconds=instant)


def _periods(count: int, rate: float, shortest: float) -> list[float]:
    """Spread periods from ``shortest`` to `LONGEST`, so that their rates add up to ``rate``.

    Many are short, few are long: evenly on a logarithmic scale, but for a bend that is searched.
    """

    def spread(count: int, bend: float) -> list[float]:
        ratio = LONGEST / shortest
        return [shortest * ratio ** (((each + 0.5) / count) ** bend) for each in range(count)]

    low, high = 0.01, 100.0
    for _ in range(40):
        bend = (low + high) / 2
        if sum(1 / period for period in spread(1000, bend)) / 1000 * count < rate:
            low = bend
        else:
            high = bend
    found = spread(count, high)
    if not 0.9 * rate < sum(1 / period for period in found) < 1.1 * rate:
        raise ValueError(f"{count} intervals from {shortest:g} to {LONGEST} s can't run {rate:g}/s")
    return found
