"""What a trigger must do, as tests."""

from __future__ import annotations

import pickle
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

from tocsin import plugins
from tocsin.convert import edge_of
from tocsin.events import EVENT_JOB_COALESCED, EVENT_JOB_EXECUTED
from tocsin.testing.clock import FakeClock
from tocsin.testing.scheduler import FakeScheduler
from tocsin.triggers.base import BaseTrigger, Trigger

_UTC = edge_of(timezone.utc)
_MICROSECOND = timedelta(microseconds=1)


class TriggerCompliance:
    """The contract of triggers. A subclass says how one is made, and pytest does the rest:

        from tocsin.testing import TriggerCompliance

        class TestMyTrigger(TriggerCompliance):
            def make_trigger(self):
                return MyTrigger(every="full moon")

    The trigger must fire at least once from ``start`` on; the tests look at the ``count`` next
    fire times. It has to give the same answers every time, so leave out its jitter.
    """

    start: datetime = datetime(2026, 1, 1, tzinfo=timezone.utc)
    count: int = 20

    def make_trigger(self) -> BaseTrigger:
        """Make a trigger."""
        raise NotImplementedError("a compliance suite needs make_trigger()")

    def setup_method(self) -> None:
        """Make a trigger, and find its next fire times in the way that every trigger has."""
        self.trigger = self.make_trigger()
        # In UTC, for datetimes of one zone compare by the clock on the wall.
        self.times: list[datetime] = []
        found = self.first(self.start)
        while found is not None and len(self.times) < self.count:
            self.times.append(found)
            found = self.following(found, found)
        assert self.times, f"{self.trigger!r} never fires from {self.start} on"

    def first(self, now: datetime) -> datetime | None:
        """Give the first fire time from a time on, in UTC."""
        return _utc(self.trigger.get_next_fire_time(None, now))

    def following(self, previous: datetime, now: datetime) -> datetime | None:
        """Give the fire time that follows another one, in UTC."""
        return _utc(self.trigger.get_next_fire_time(previous, now))

    def test_it_is_a_plugin(self) -> None:
        assert isinstance(self.trigger, BaseTrigger)
        plugins.verify("triggers", type(self.trigger))

    def test_fire_times_have_a_zone_and_go_forwards(self) -> None:
        found = self.trigger.get_next_fire_time(None, self.start)
        assert found is not None
        assert found.utcoffset() is not None
        assert found >= self.start
        assert all(one < following for one, following in pairwise(self.times))

    def test_it_gives_the_same_answers_again(self) -> None:
        for trigger in (self.trigger, self.make_trigger()):
            self.trigger = trigger
            assert self.first(self.start) == self.times[0]
            for one, following in pairwise(self.times):
                assert self.following(one, one) == following

    def test_the_first_fire_time_is_at_or_after_now(self) -> None:
        for one, following in pairwise(self.times):
            assert self.first(one) == one
            assert self.first(one + _MICROSECOND) == following

    def test_the_time_zone_of_its_arguments_does_not_matter(self) -> None:
        for zone in (timezone(timedelta(hours=-11)), timezone(timedelta(hours=5.5))):
            assert self.first(self.start.astimezone(zone)) == self.times[0]
            for one, following in pairwise(each.astimezone(zone) for each in self.times):
                assert self.following(one, one) == following

    def test_no_clock_makes_it_go_backwards(self) -> None:
        """What follows comes after the previous fire time, wherever the clock is."""
        for one, following in pairwise(self.times):
            for now in (one - timedelta(days=1), following, self.times[-1]):
                found = self.following(one, now)
                assert found is not None
                assert found > one

    def test_next_fire_time_is_after(self) -> None:
        assert _utc(self.trigger.next_fire_time(self.times[0] - _MICROSECOND)) == self.times[0]
        for one, following in pairwise(self.times):
            assert _utc(self.trigger.next_fire_time(one)) == following
            assert self.trigger.next_instant(_UTC.instant(one)) == _UTC.instant(following)

    def test_fire_times_from_a_start_to_an_end(self) -> None:
        first, last = self.times[0], self.times[-1]
        assert self.listed(first, limit=len(self.times)) == self.times
        assert self.listed(first, last) == self.times[:-1]
        assert self.listed(first, last + _MICROSECOND) == self.times
        assert self.listed(first, limit=1) == [first]
        assert self.listed(first, limit=0) == []

    def listed(self, *args: Any, trigger: BaseTrigger | None = None, **options: Any) -> list[Any]:
        """List fire times in UTC."""
        return [_utc(each) for each in (trigger or self.trigger).fire_times(*args, **options)]

    def test_previous_fire_time_is_the_way_back_if_there_is_one(self) -> None:
        try:
            self.trigger.previous_fire_time(self.times[-1])
        except NotImplementedError:
            return  # a trigger need not know it
        for one, following in pairwise(self.times):
            assert _utc(self.trigger.previous_fire_time(following)) == one
            assert self.trigger.previous_instant(_UTC.instant(following)) == _UTC.instant(one)

    def test_it_can_be_pickled(self) -> None:
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
            copy = pickle.loads(pickle.dumps(self.trigger, protocol))  # noqa: S301
            assert type(copy) is type(self.trigger)
            assert self.listed(self.times[0], limit=len(self.times), trigger=copy) == self.times

    def test_its_record_leads_back_to_it_if_it_has_one(self) -> None:
        if isinstance(self.trigger, Trigger):
            copy = Trigger.from_dict(self.trigger.to_dict())
            assert copy == self.trigger
            assert hash(copy) == hash(self.trigger)
            assert self.listed(self.times[0], limit=len(self.times), trigger=copy) == self.times

    def test_it_says_what_it_does_in_one_line(self) -> None:
        for text in (self.trigger.describe(), str(self.trigger), repr(self.trigger)):
            assert text.strip()
            assert "\n" not in text

    def test_a_scheduler_runs_its_jobs_at_its_fire_times(self) -> None:
        started: list[datetime] = []
        clock = FakeClock(self.start)
        scheduler = self._schedule(clock, lambda: started.append(clock.time), coalesce=False)
        clock.advance_to(self.times[-1])
        assert started == self.times
        scheduler.shutdown()

    def test_a_scheduler_that_slept_runs_it_once(self) -> None:
        events: list[Any] = []
        clock = FakeClock(self.start)
        scheduler = self._schedule(clock, lambda: None, coalesce=True)
        scheduler.add_listener(events.append, EVENT_JOB_EXECUTED | EVENT_JOB_COALESCED)
        clock.set_time(self.times[-1])
        clock.advance(0)
        runs = [each for each in events if each.code == EVENT_JOB_EXECUTED]
        assert [_utc(each.scheduled_run_time) for each in runs] == [self.times[-1]]
        if len(self.times) > 1:
            (merged,) = [each for each in events if each.code == EVENT_JOB_COALESCED]
            assert _utc(merged.first_run_time) == self.times[0]
            assert _utc(merged.last_run_time) == self.times[-1]
        scheduler.shutdown()

    def _schedule(self, clock: FakeClock, func: Any, coalesce: bool) -> FakeScheduler:
        """Start a scheduler with one job."""
        scheduler = FakeScheduler(clock=clock, timezone=timezone.utc)
        scheduler.start()
        scheduler.add_job(func, self.trigger, coalesce=coalesce)
        return scheduler


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.astimezone(timezone.utc)
