"""The soak of ``benchmarks/soak.py`` in its short form, and that it tells what goes wrong."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.oracle import SECOND, instant_of
from support.programs import ROOT, run

from tocsin.events import (
    EVENT_JOB_MISSED,
    EVENT_JOB_SUBMITTED,
    JobExecutionEvent,
    JobSubmissionEvent,
)

SOAK = ROOT / "benchmarks" / "soak.py"
BEGIN = datetime(2024, 10, 27, tzinfo=timezone.utc)  # an hour before Berlin's clocks go back
HOUR = 3600 * SECOND


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Give modules of the benchmarks, which are no part of the package."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(ROOT)])
    from benchmarks import histogram, soak_jobs, soak_ledger

    return SimpleNamespace(histogram=histogram, jobs=soak_jobs, ledger=soak_ledger)


@pytest.mark.compiled
@pytest.mark.parametrize("adapter", ["asyncio", "gevent", "Tornado", "Twisted"])
def test_every_run_is_made_exactly_once(adapter: str, tmp_path: Path) -> None:
    output = tmp_path / "result.json"
    size = ("--jobs", "10000", "--rate", "2000", "--for", "4s")
    run(SOAK, adapter, *size, "--output", output)
    result = json.loads(output.read_text())
    assert result["adapter"] == adapter
    runs = result["accounting"]["expected"]
    assert 7_000 < runs < 9_000
    assert result["accounting"]["started"] == runs
    assert result["lateness_ms"]["all"]["runs"] == runs
    assert result["lateness_ms"]["cron"]["runs"] > 40


@pytest.mark.compiled
def test_a_run_that_is_not_made_ends_it_with_1(tmp_path: Path) -> None:
    output = tmp_path / "result.json"
    program = f"""if True:
        import sys
        sys.path.insert(0, {str(ROOT)!r})
        from benchmarks import soak
        class Lazy(soak.Ledger):
            def run(self, number):
                if number != 5:
                    super().run(number)
        soak.Ledger = Lazy
        soak.PATIENCE = 0
        try:
            soak.main(["asyncio", "--jobs", "10", "--rate", "20", "--for", "2s",
                       "--output", {str(output)!r}])
        except SystemExit as end:
            print("ends with", int(end.code))
    """
    assert "ends with 1" in run("-c", program)
    account = json.loads(output.read_text())["accounting"]
    assert not account.pop("ok")
    assert account.pop("not_started") == account.pop("submitted") - account.pop("started") > 0
    assert account.pop("expected") > 0
    assert not any(account.values())


class Fake:
    """A scheduler that does as it is told, on a population of three minutes."""

    def __init__(self, benchmarks: SimpleNamespace, begin: datetime = BEGIN) -> None:
        since = instant_of(begin)
        self.population = benchmarks.jobs.Population(100, 20, since, since + 180 * SECOND, 1)
        self.ledger = benchmarks.ledger.Ledger(self.population)
        self._listeners: list[tuple[Any, int]] = []
        self.ledger.listen(self)
        self.due = [self._due(number) for number in range(100)]

    def _due(self, number: int) -> list[int]:
        runs, instant = [], self.population.first[number]
        while instant < self.population.end:
            runs.append(instant)
            instant = self.population.after(number, instant)
        return runs

    def add_listener(self, callback: Any, mask: int) -> None:
        self._listeners.append((callback, mask))

    def tell(self, event: Any) -> None:
        for callback, mask in self._listeners:
            if event.code & mask:
                callback(event)

    def submit(self, number: int, instants: Sequence[int]) -> None:
        moments = [moment(each) for each in instants]
        self.tell(JobSubmissionEvent(EVENT_JOB_SUBMITTED, str(number), "default", moments))

    def make(self, number: int, instants: Sequence[int]) -> None:
        """Submit runs as one instance, and make them."""
        self.submit(number, instants)
        for _ in instants:
            self.ledger.run(number)

    def make_all(self, but: int = -1) -> None:
        for number, instants in enumerate(self.due):
            if number != but:
                for each in instants:
                    self.make(number, [each])

    def amiss(self) -> dict[str, Any]:
        """Give what is not as it has to be."""
        account = self.ledger.account()
        assert account.pop("expected") == sum(map(len, self.due))
        submitted = account.pop("submitted") + account["doubled"] + account["stray"]
        assert submitted - account.pop("started") == account["not_started"]
        assert account.pop("ok") == (not any(account.values()))
        return {name: value for name, value in account.items() if value}


def moment(instant: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(microseconds=instant)


def number_of(fake: Fake, cron: bool) -> int:
    """Give a job of a kind that has to run more than twice."""
    return next(
        number
        for number, instants in enumerate(fake.due)
        if fake.population.is_cron(number) == cron and len(instants) > 2
    )


def test_all_is_well(benchmarks: SimpleNamespace) -> None:
    fake = Fake(benchmarks)
    several = number_of(fake, cron=False)
    fake.make_all(but=several)
    fake.make(several, fake.due[several])
    fake.make(several, [fake.population.end])  # counts no more
    assert fake.amiss() == {}
    total = sum(each.total for each in fake.ledger.take_lateness())
    assert total == sum(map(len, fake.due))
    assert sum(each.total for each in fake.ledger.take_lateness()) == 0


@pytest.mark.parametrize("cron", [False, True])
def test_what_is_amiss(benchmarks: SimpleNamespace, cron: bool) -> None:
    fake = Fake(benchmarks)
    number = number_of(fake, cron)
    fake.make_all(but=number)
    assert fake.amiss() == {"lost": len(fake.due[number])}
    first, _, *others = fake.due[number]
    fake.make(number, [first])
    assert fake.amiss() == {"lost": 1 + len(others)}
    fake.make(number, others)
    assert fake.amiss() == {"lost": 1}
    fake.make(number, [first, others[-1]])
    assert fake.amiss() == {"lost": 1, "doubled": 2}
    fake.make(number, [first + 1])
    assert fake.amiss() == {"lost": 1, "doubled": 2, "stray": 1}
    fake.ledger.run(number)
    assert fake.amiss() == {"lost": 1, "doubled": 2, "stray": 1, "unannounced": 1}


def test_trouble_is_amiss(benchmarks: SimpleNamespace) -> None:
    fake = Fake(benchmarks)
    fake.make_all()
    fake.tell(JobExecutionEvent(EVENT_JOB_MISSED, "1", "default", BEGIN))
    assert fake.amiss() == {"troubles": {"JOB_MISSED": 1}}


def test_runs_that_did_not_begin_or_began_early(benchmarks: SimpleNamespace) -> None:
    fake = Fake(benchmarks)
    number = number_of(fake, cron=False)
    fake.make_all(but=number)
    fake.submit(number, fake.due[number])
    assert fake.amiss() == {"not_started": len(fake.due[number])}

    future = Fake(benchmarks, BEGIN.replace(year=2100))
    future.make_all()
    assert future.amiss() == {"early": sum(map(len, future.due))}


def test_the_expectation_through_a_change_of_the_clocks(benchmarks: SimpleNamespace) -> None:
    begin = instant_of(BEGIN)
    for day in (begin, begin - 210 * 24 * HOUR):  # back, and, on March 31st, forward
        for fields in ((30, 15, None), (0, 30, 2), (59, None, None)):
            rule = benchmarks.jobs.Rule(*fields, "Europe/Berlin")
            trigger = rule.trigger(moment(day))
            found = [
                instant_of(each) for each in trigger.fire_times(moment(day), moment(day + 3 * HOUR))
            ]
            assert rule.occurrences(day, day + 3 * HOUR) == found


def test_quantiles(benchmarks: SimpleNamespace) -> None:
    histogram = benchmarks.histogram.Histogram()
    durations = [round(1.001**each) for each in range(20_000)]
    for each in durations:
        histogram.add(each)
    assert histogram.total == 20_000
    for share in (0.001, 0.5, 0.9, 0.999, 1):
        exact = durations[int(20_000 * share) - 1]
        assert exact <= histogram.quantile(share) <= exact * 65 / 64
    assert benchmarks.histogram.Histogram().quantile(0.5) == 0
