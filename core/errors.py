"""The errors that tocsin raises, all of them a `TocsinError` and a built-in one."""

from __future__ import annotations


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


class NoCommonFireTime(TocsinError, RuntimeError):
    """The triggers of an `AndTrigger` did not agree within the bound of its search."""


class CompiledEngineMissing(TocsinError, ImportError):
    """``TOCSIN_REQUIRE_COMPILED=1`` is set and the compiled engine is not there."""
