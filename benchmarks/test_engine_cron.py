"""The next fire time of each expression of the corpus, against the peers.

Each is used as its documentation says, from the same instant on, for the same fire times:

- tocsin: ``after = trigger.next_fire_time(after)``; as an iterator, ``next(fire_times)``.
- APScheduler: ``after = trigger.get_next_fire_time(after, after)``, the call that its scheduler
  makes after each run.
- cronsim: ``next(it)``; it is an iterator and has no other interface. This favours it: it need
  not look at a datetime that it did not make itself. "anew" is ``next(CronSim(expr, after))``,
  what a caller has to do who comes with a datetime.
- croniter: ``iter.get_next(datetime)``.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from datetime import datetime, timezone, tzinfo
from itertools import repeat
from statistics import median
from zoneinfo import ZoneInfo

import pytest
from apscheduler.triggers.cron import CronTrigger as ApsTrigger
from croniter import croniter
from cronsim import CronSim

from benchmarks.corpus import CORPUS
from benchmarks.races import Contestant, Race, Report, Times, ratios
from tocsin import CronTrigger, _twin

ZONES: dict[str, tzinfo] = {"UTC": timezone.utc, "Europe/Berlin": ZoneInfo("Europe/Berlin")}
START = datetime(2026, 1, 5, 7, 13, 22)
#: So many fire times are found one after the other, then again from the start.
STEPS = 10
#: Tocsin does it so often a round, for the clock not to count.
AGAIN = 20


def chain(step: Callable[[datetime], datetime | None], start: datetime, again: int) -> Contestant:
    """Find fire times by giving each one back."""

    def batch() -> None:
        for _ in repeat(None, again):
            after = start
            for _ in repeat(None, STEPS):
                after = step(after)  # type: ignore[assignment]

    return Contestant(batch, STEPS * again)


def iterate(make: Callable[[], Iterator[datetime]], again: int = 1) -> Contestant:
    """Find fire times by an iterator; making it is not timed."""
    made: list[Iterator[datetime]] = []

    def restore() -> None:
        made[:] = [make() for _ in range(again)]

    def batch() -> None:
        for iterator in made:
            for _ in repeat(None, STEPS):
                next(iterator)

    restore()
    return Contestant(batch, STEPS * again, restore)


def croniter_steps(expression: str, start: datetime) -> Iterator[datetime]:
    found = croniter(expression, start)
    while True:
        yield found.get_next(datetime)


class Corpus:
    """The times of all expressions in all zones."""

    def __init__(self) -> None:
        self.times: dict[tuple[str, str], Times] = {}

    def ratios(self, zone: str, peer: str, name: str) -> dict[str, list[float]]:
        """Give by expression, in each round, how often ``name`` fits into the time of a peer."""
        return {
            expression: ratios(times, peer, name)
            for (place, expression), times in self.times.items()
            if place == zone
        }

    def report(
        self,
        report: Report,
        text: str,
        peer: str,
        name: str,
        *,
        middle: float | None = None,
        worst: float | None = None,
    ) -> None:
        """Report the median over the expressions and the worst of them."""
        for zone in ZONES:
            found = self.ratios(zone, peer, name)
            rounds = [median(each) for each in zip(*found.values(), strict=True)]
            report.figure(f"{text}, {zone}, median", rounds, at_least=middle)
            expression = min(found, key=lambda each: median(found[each]))
            figure = f"{text}, {zone}, worst ({expression})"
            report.figure(figure, found[expression], at_least=worst)

    def table(self, title: str, name: str, peers: tuple[str, ...]) -> str:
        """Show for each expression the time of a step, and the ratios to the peers."""
        heads = "".join(f"{'ns' if peer == name else peer:>13}" for peer in (name, *peers))
        lines = [title, f"{'':24}" + "  |".join(f"{heads:>13}" for _ in ZONES)]
        for expression in dict.fromkeys(expression for _, expression in self.times):
            cells = []
            for zone in ZONES:
                times = self.times[zone, expression]
                cell = f"{median(times[name]):>13.0f}"
                for peer in peers:
                    cell += f"{median(ratios(times, peer, name)):>12.1f}x"
                cells.append(cell)
            lines.append(f"{expression:24}" + "  |".join(cells))
        return "\n".join(lines)

    @property
    def complete(self) -> bool:
        """Tell whether all of the corpus was measured, not a selection."""
        return len(self.times) == len(ZONES) * len(CORPUS)


def each_expression(test: Callable[..., None]) -> Callable[..., None]:
    """Run a test for each expression in each zone."""
    for name, values in (("expression", CORPUS), ("zone", ZONES)):
        test = pytest.mark.parametrize(name, values)(test)
    return test


@pytest.fixture(scope="module")
def datetimes(report: Report) -> Iterator[Corpus]:
    corpus = Corpus()
    yield corpus
    if corpus.complete:
        peers = ("APScheduler", "cronsim", "cronsim anew", "croniter")
        title = f"next fire time, datetime to datetime: {' and '.join(ZONES)}"
        report.tables.append(corpus.table(title, "tocsin", peers))
        text = "next fire time: APScheduler / tocsin"
        corpus.report(report, text, "APScheduler", "tocsin", middle=50, worst=20)
        text = "next fire time: cronsim / tocsin"
        corpus.report(report, text, "cronsim", "tocsin", middle=30, worst=20)
        text = "by iterator: cronsim / tocsin"
        corpus.report(report, text, "cronsim", "iterator", middle=30, worst=20)
        text = "from a given datetime: cronsim / tocsin"
        corpus.report(report, text, "cronsim anew", "tocsin", middle=30, worst=20)
        corpus.report(report, "next fire time: croniter / tocsin", "croniter", "tocsin")


@each_expression
def test_next_fire_time(zone: str, expression: str, race: Race, datetimes: Corpus) -> None:
    tz = ZONES[zone]
    start = START.replace(tzinfo=tz)
    trigger = CronTrigger.from_crontab(expression, tz)
    aps = ApsTrigger.from_crontab(expression, tz)
    expected = [next(it) for it in [CronSim(expression, start)] for _ in range(STEPS)]
    assert list(trigger.fire_times(start, limit=STEPS)) == expected
    datetimes.times[zone, expression] = race(
        {
            "tocsin": chain(trigger.next_fire_time, start, AGAIN),
            "iterator": iterate(lambda: trigger.fire_times(start), AGAIN),
            "APScheduler": chain(lambda after: aps.get_next_fire_time(after, after), start, 1),
            "cronsim": iterate(lambda: CronSim(expression, start)),
            "cronsim anew": chain(lambda after: next(CronSim(expression, after)), start, 1),
            "croniter": iterate(lambda: croniter_steps(expression, start)),
        }
    )


@pytest.mark.parametrize("zone", ZONES)
def test_leap_day(zone: str, race: Race, report: Report) -> None:
    tz = ZONES[zone]
    start = START.replace(tzinfo=tz)
    minutes, leap_days = (
        CronTrigger.from_crontab(expression, tz) for expression in ("* * * * *", "0 0 29 2 *")
    )
    times = race(
        {
            "leap days": chain(leap_days.next_fire_time, start, 200),
            "minutes": chain(minutes.next_fire_time, start, 200),
        }
    )
    figure = f"next fire time: 0 0 29 2 * / * * * * *, {zone}"
    report.figure(figure, ratios(times, "leap days", "minutes"), at_most=3)


@pytest.fixture(scope="module")
def made(report: Report) -> Iterator[Corpus]:
    corpus = Corpus()
    yield corpus
    if corpus.complete:
        for peer in ("APScheduler", "cronsim"):
            text = f"parse, then one fire time: {peer} / tocsin"
            corpus.report(report, text, peer, "tocsin")


@each_expression
def test_parse(zone: str, expression: str, race: Race, made: Corpus) -> None:
    tz = ZONES[zone]
    start = START.replace(tzinfo=tz)

    def anew(find: Callable[[], object]) -> Contestant:
        return Contestant(lambda: [find() for _ in repeat(None, STEPS)], STEPS)

    made.times[zone, expression] = race(
        {
            "tocsin": anew(lambda: CronTrigger.from_crontab(expression, tz).next_fire_time(start)),
            "APScheduler": anew(
                lambda: ApsTrigger.from_crontab(expression, tz).get_next_fire_time(start, start)
            ),
            "cronsim": anew(lambda: next(CronSim(expression, start))),
        },
        rounds=5,
    )


@pytest.fixture(scope="module")
def instants(report: Report) -> Iterator[Corpus]:
    corpus = Corpus()
    yield corpus
    if corpus.complete:
        title = f"next fire time, integer to integer: {' and '.join(ZONES)}"
        report.tables.append(corpus.table(title, "fill", ("astimezone",)))
        text = "integers: astimezone there and back / fire time"
        corpus.report(report, text, "astimezone", "fill", middle=5)


@each_expression
def test_fill(zone: str, expression: str, race: Race, instants: Corpus) -> None:
    """Fill an array with fire times, against a datetime that goes to Berlin and back to UTC."""
    schedule = CronTrigger.from_crontab(expression, ZONES[zone])._schedule
    start = schedule.instant(START.replace(tzinfo=ZONES[zone]))
    cells = array("q", bytes(8 * 200))
    moment = START.replace(tzinfo=timezone.utc)
    berlin = ZONES["Europe/Berlin"]

    def convert() -> None:
        for _ in repeat(None, 200):
            moment.astimezone(berlin).astimezone(timezone.utc)

    assert schedule.fill(cells, start, 2**60) == len(cells)
    instants.times[zone, expression] = race(
        {
            "fill": Contestant(lambda: schedule.fill(cells, start, 2**60), len(cells)),
            "astimezone": Contestant(convert, 200),
        }
    )


@pytest.fixture(scope="module")
def interpreted() -> type:
    schedule: type = _twin.load_interpreted()["tocsin.engine.cron"].CronSchedule
    return schedule


@pytest.fixture(scope="module")
def pure(report: Report) -> Iterator[Corpus]:
    corpus = Corpus()
    yield corpus
    if corpus.complete:
        title = f"next fire time on the interpreted engine: {' and '.join(ZONES)}"
        report.tables.append(corpus.table(title, "tocsin", ("APScheduler",)))
        text = "interpreted: APScheduler / tocsin"
        corpus.report(report, text, "APScheduler", "tocsin", middle=3, worst=1)
        text = "next fire time: interpreted / compiled"
        corpus.report(report, text, "tocsin", "compiled")


@each_expression
def test_interpreted(
    zone: str, expression: str, race: Race, pure: Corpus, interpreted: type
) -> None:
    """Put the interpreted engine under the same trigger, beside the compiled one."""
    tz = ZONES[zone]
    start = START.replace(tzinfo=tz)
    whole, trigger = (CronTrigger.from_crontab(expression, tz) for _ in range(2))
    expected = list(trigger.fire_times(start, limit=STEPS))
    compiled = trigger._schedule
    names = (
        "once seconds minutes hours days from_end nearest day_nth weekdays weekday_nth either"
        " weeks months years"
    )
    fields = [getattr(compiled, name) for name in names.split()]
    trigger._schedule = interpreted(tz, None, None, *fields)
    assert [trigger.next_fire_time(after) for after in (start, *expected[:-1])] == expected
    aps = ApsTrigger.from_crontab(expression, tz)
    pure.times[zone, expression] = race(
        {
            "tocsin": chain(trigger.next_fire_time, start, 1),
            "compiled": chain(whole.next_fire_time, start, AGAIN),
            "APScheduler": chain(lambda after: aps.get_next_fire_time(after, after), start, 1),
        }
    )
