"""The triggers of tocsin, and one of a third party, under the suite that tocsin ships."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from tocsin import (
    AndTrigger,
    CalendarIntervalTrigger,
    CronTrigger,
    DateTrigger,
    IntervalTrigger,
    OrTrigger,
)
from tocsin.testing import TriggerCompliance
from tocsin.triggers import SkippingCalendarTrigger
from tocsin.triggers.base import BaseTrigger


class DoublingTrigger(BaseTrigger):
    """What a third party writes: the one method that is needed, nothing else."""

    def __init__(self, start: datetime) -> None:
        self.start = start

    def get_next_fire_time(self, previous: datetime | None, now: datetime) -> datetime | None:
        after = now - timedelta(microseconds=1) if previous is None else previous
        step = timedelta(seconds=1)
        while self.start + step <= after:
            step *= 2
        return self.start + step


class TestDateTrigger(TriggerCompliance):
    def make_trigger(self) -> BaseTrigger:
        return DateTrigger("2026-03-29 02:30:00", timezone="Europe/Berlin")


class TestIntervalTrigger(TriggerCompliance):
    def make_trigger(self) -> BaseTrigger:
        return IntervalTrigger(
            hours=7, seconds=0.5, start_date="2025-12-31 12:00:00", timezone="Europe/Berlin"
        )


class TestIntervalTriggerThatEnds(TriggerCompliance):
    def make_trigger(self) -> BaseTrigger:
        return IntervalTrigger(
            days=1, start_date="2026-01-01", end_date="2026-01-08", timezone="UTC"
        )

    def test_it_has_an_end(self) -> None:
        assert len(self.times) == 8
        assert self.trigger.get_next_fire_time(self.times[-1], self.times[-1]) is None


class TestCalendarIntervalTrigger(TriggerCompliance):
    def make_trigger(self) -> BaseTrigger:
        return CalendarIntervalTrigger(
            months=1, hour=2, minute=30, start_date="2025-10-29", timezone="Europe/Berlin"
        )


class TestSkippingCalendarTrigger(TriggerCompliance):
    def make_trigger(self) -> BaseTrigger:
        return SkippingCalendarTrigger(
            months=1, hour=2, minute=30, start_date="2025-08-29", timezone="Europe/Berlin"
        )

    def test_it_skips_what_there_is_not(self) -> None:
        local = [each.astimezone(ZoneInfo("Europe/Berlin")) for each in self.times]
        assert {(each.day, each.hour, each.minute) for each in local} == {(29, 2, 30)}
        # No 29 February, and no half past two on 29 March.
        assert [each.month for each in local[:4]] == [1, 4, 5, 6]


class TestSkippingCalendarTriggerOfTwoUnits(TriggerCompliance):
    def make_trigger(self) -> BaseTrigger:
        return SkippingCalendarTrigger(months=1, days=1, start_date="2025-12-30", timezone="UTC")

    def test_it_counts_from_the_last_date(self) -> None:
        # From 31 January past the month that has none to 31 March.
        assert [each.date().isoformat() for each in self.times[:3]] == [
            "2026-01-31",
            "2026-04-01",
            "2026-05-02",
        ]


class TestAndTrigger(TriggerCompliance):
    def make_trigger(self) -> BaseTrigger:
        return AndTrigger(
            [
                CronTrigger(hour="*/6", timezone="Europe/Berlin"),
                CronTrigger(day_of_week="sat,sun", hour="0-12", timezone="Europe/Berlin"),
            ]
        )


class TestOrTrigger(TriggerCompliance):
    def make_trigger(self) -> BaseTrigger:
        return OrTrigger(
            [
                CronTrigger(hour=12, timezone="America/New_York"),
                IntervalTrigger(hours=36, start_date="2026-01-01", timezone="UTC"),
            ]
        )


class TestThirdPartyTrigger(TriggerCompliance):
    start = datetime(2026, 1, 1, tzinfo=timezone.utc)

    def make_trigger(self) -> BaseTrigger:
        return DoublingTrigger(self.start)


@pytest.mark.parametrize("dst", ["exactly-once", "wall-clock"])
class TestCronTriggerInBothModes:
    """The clock changes in the middle of what the suite looks at."""

    @pytest.mark.parametrize("start", ["2026-03-28T20:00Z", "2026-10-24T20:00Z"])
    @pytest.mark.parametrize("expression", ["*/15 * * * *", "30 2 * * *", "H(0-9)/3 1-3 * * *"])
    def test_all(self, expression: str, start: str, dst: str) -> None:
        class Suite(TriggerCompliance):
            def make_trigger(self) -> BaseTrigger:
                return CronTrigger.from_crontab(
                    expression, timezone="Europe/Berlin", dst=dst, seed="job"
                )

        Suite.start = datetime.fromisoformat(start.replace("Z", "+00:00"))
        tests = [name for name in dir(Suite) if name.startswith("test_")]
        assert len(tests) >= 12
        for name in tests:
            suite = Suite()
            suite.setup_method()
            getattr(suite, name)()
