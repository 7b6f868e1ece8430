"""What a plug-in must provide, declared with zope.interface."""

from __future__ import annotations

from zope.interface import Interface

# Methods of an interface have no self and no body: mypy reads them as faulty functions.
# mypy: disable-error-code="misc, no-untyped-def, empty-body"


class ITrigger(Interface):
    """Tell when a job runs; immutable. Every datetime has a time zone."""

    def next_fire_time(after):  # noqa: N805
        """Give the first fire time after a datetime, or None."""

    def previous_fire_time(before):  # noqa: N805
        """Give the last fire time before a datetime, or None."""

    def fire_times(start, end=None, limit=None):  # noqa: N805
        """Iterate over the fire times from ``start`` on, before ``end``, at most ``limit``."""

    def get_next_fire_time(previous_fire_time, now):  # noqa: N805
        """Give the fire time after the previous one, or the first from ``now`` on without it."""

    def describe():
        """Say in one line when the trigger fires."""
