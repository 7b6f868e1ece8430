"""tocsin schedules Python callables to run later, once or periodically.

``COMPILED`` tells whether the engine is the compiled one. ``TOCSIN_PURE=1`` in the environment
forces the interpreted one, ``TOCSIN_REQUIRE_COMPILED=1`` makes a missing extension an error.
"""

from __future__ import annotations

from tocsin import _twin

#: Whether the compiled engine is in use.
COMPILED: bool = _twin.select()

from tocsin.errors import CompiledEngineMissing, CronError, NoCommonFireTime, TocsinError
from tocsin.triggers import (
    AndTrigger,
    BaseTrigger,
    CalendarIntervalTrigger,
    CronTrigger,
    DateTrigger,
    IntervalTrigger,
    OrTrigger,
    Trigger,
)

__version__ = "0.1.0"

__all__ = [
    "COMPILED",
    "AndTrigger",
    "BaseTrigger",
    "CalendarIntervalTrigger",
    "CompiledEngineMissing",
    "CronError",
    "CronTrigger",
    "DateTrigger",
    "IntervalTrigger",
    "NoCommonFireTime",
    "OrTrigger",
    "TocsinError",
    "Trigger",
]
