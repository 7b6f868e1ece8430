"""Triggers: when a job runs."""

from __future__ import annotations

from tocsin.triggers.base import BaseTrigger, Trigger
from tocsin.triggers.calendarinterval import CalendarIntervalTrigger
from tocsin.triggers.combining import AndTrigger, OrTrigger
from tocsin.triggers.cron import CronTrigger
from tocsin.triggers.date import DateTrigger
from tocsin.triggers.interval import IntervalTrigger
from tocsin.triggers.skipping import SkippingCalendarTrigger

__all__ = [
    "AndTrigger",
    "BaseTrigger",
    "CalendarIntervalTrigger",
    "CronTrigger",
    "DateTrigger",
    "IntervalTrigger",
    "OrTrigger",
    "SkippingCalendarTrigger",
    "Trigger",
]
