"""The errors that tocsin raises, all of them a `TocsinError` and a built-in one."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tocsin.job import Job


class TocsinError(Exception):
    """The base of every error that is tocsin's own."""


class CronError(TocsinError, ValueError):
    """A cron field or expression that is wrong or can never fire.

    ``field`` names the field, ``value`` is the offending text, ``position`` its place in
    ``text`` counted from 1, ``allowed`` says what would have been right. The last three are
    None where they do not apply.
    """

    def __init__(
        self,
        reason: str,
        *,
        field: str | None = None,
        value: str | None = None,
        text: str | None = None,
        position: int | None = None,
        allowed: str | None = None,
    ) -> None:
        parts = []
        if field is not None:
            parts.append(f"{field}: ")
        if value is not None:
            parts.append(f"{value!r}")
            if position is not None and text != value:
                parts.append(f" at position {position} of {text!r}")
            parts.append(" ")
        parts.append(reason)
        if allowed is not None:
            parts.append(f"; allowed: {allowed}")
        super().__init__("".join(parts))
        self.reason = reason
        self.field = field
        self.value = value
        self.text = text
        self.position = position
        self.allowed = allowed


class ConfigError(TocsinError, ValueError):
    """A key or a value of a configuration that is wrong; ``key`` is its full name."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"{key}: {reason}")
        self.key = key
        self.reason = reason

    def __reduce__(self) -> tuple[type[ConfigError], tuple[str, str]]:
        return ConfigError, (self.key, self.reason)


class NoCommonFireTime(TocsinError, RuntimeError):
    """The triggers of an `AndTrigger` did not agree within the bound of its search."""


class CompiledEngineMissing(TocsinError, ImportError):
    """``TOCSIN_REQUIRE_COMPILED=1`` is set and the compiled engine is not there."""


class SchedulerAlreadyRunningError(TocsinError):
    """The scheduler runs, and the call needs one that does not."""

    def __init__(self, reason: str = "Scheduler is already running") -> None:
        super().__init__(reason)


class SchedulerNotRunningError(TocsinError):
    """The scheduler does not run, and the call needs one that does."""

    def __init__(self, reason: str = "Scheduler is not running") -> None:
        super().__init__(reason)


class JobLookupError(TocsinError, KeyError):
    """No job has this id."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"No job by the id of {job_id} was found")

    def __str__(self) -> str:
        return str(self.args[0])  # KeyError would quote it


class ConflictingIdError(TocsinError, KeyError):
    """Another job has this id."""

    def __init__(self, job_id: str) -> None:
        super().__init__(
            f"Job identifier ({job_id}) conflicts with an existing job;"
            " pass replace_existing=True to replace it"
        )

    def __str__(self) -> str:
        return str(self.args[0])


class TransientJobError(TocsinError, ValueError):
    """A job that can't be written down was added to a store that writes jobs down."""

    def __init__(self, job_id: str, reason: str = "its callable has no reference") -> None:
        super().__init__(f"Job ({job_id}) cannot be added to this job store: {reason}")


class MaxInstancesReachedError(TocsinError):
    """As many instances of the job run as ``max_instances`` allows."""

    def __init__(self, job: Job) -> None:
        super().__init__(
            f'Job "{job}" has already reached its maximum number of instances ({job.max_instances})'
        )


def suggestion(given: str, known: Iterable[str]) -> str:
    """Give `` (did you mean "..."?)`` for a name that resembles a known one, else nothing."""
    close = get_close_matches(given, known, n=1)
    return f' (did you mean "{close[0]}"?)' if close else ""
