"""The grammar of one cron field: strict, anchored, no text is ever ignored.

A field is a list of items separated by commas. An item is ``*``, ``*/n``, ``a``, ``a-b``,
``a-b/n`` or ``a/n`` (to the end of the range), where a and b are numbers or names; ``a-b`` may
wrap around (``fri-mon``, ``22-2``). Beyond, by field:

========================  ============  ==========================================
``last``, ``L``           day           the last day of the month
``last-2``, ``L-2``       day           two days before it
``2nd mon``, ``last fri``  day          the n-th or last such weekday of the month
``15W``                   day           the working day nearest to the 15th
``LW``                    day           the last working day of the month
``mon#2``                 day_of_week   the second Monday of the month
``friL``, ``5L``          day_of_week   the last Friday of the month
``?``                     both          ``*``
``H``, ``H/15``, ``H(0-29)``  all but year, week  a value chosen by a hash of the seed
========================  ============  ==========================================
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b

from tocsin.errors import CronError

#: The fields in the order of `CronTrigger`, each with its range.
RANGES = {
    "year": (1, 9999),
    "month": (1, 12),
    "day": (1, 31),
    "week": (1, 53),
    "day_of_week": (0, 6),
    "hour": (0, 23),
    "minute": (0, 59),
    "second": (0, 59),
}
MONTHS = (
    *("january", "february", "march", "april", "may", "june", "july", "august"),
    *("september", "october", "november", "december"),
)
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
#: How weekdays are numbered: Monday is 0, or as in crontab(5), Sunday is 0 and 7.
NUMBERINGS = ("apscheduler", "cron")
_ORDINALS = ("1st", "2nd", "3rd", "4th", "5th", "last")

_VALUE = r"([0-9]+|[a-z]+)"
_STAR = re.compile(r"\*(?:/([0-9]+))?")
_RANGE = re.compile(rf"{_VALUE}(?:-{_VALUE})?(?:/([0-9]+))?")
_HASH = re.compile(r"h(?:\(([0-9]+)-([0-9]+)\))?(?:/([0-9]+))?")
_FROM_END = re.compile(r"(?:last|l)(?:-([0-9]+))?")
_NEAREST = re.compile(r"([0-9]+|l)w")
_NTH_DAY = re.compile(r"([0-9a-z]+) +([a-z]+)")
_NTH_WEEKDAY = re.compile(rf"{_VALUE}#([0-9]+)")
_LAST_WEEKDAY = re.compile(r"([0-9]|[a-z]{3,})l")


@dataclass(frozen=True)
class Field:
    """One field of a cron trigger: its text, and what the text means as bit masks.

    The masks are those of `tocsin.engine.cron.CronSchedule`; fields are equal if they mean the
    same. ``wildcard`` says that the text starts with ``*`` or ``?``: such an hour or minute
    makes a job follow elapsed time, such a day or day_of_week is not restricted.
    """

    name: str
    text: str = field(compare=False)
    mask: int
    from_end: int = 0
    nearest: int = 0
    nth: int = 0
    wildcard: bool = False
    is_default: bool = field(default=False, compare=False)

    def __str__(self) -> str:
        return self.text

    @property
    def plain(self) -> bool:
        """Tell whether the field is a set of values and nothing more."""
        return not (self.from_end or self.nearest or self.nth)

    def values(self) -> list[int]:
        """List the values in the mask."""
        return [value for value in range(self.mask.bit_length()) if self.mask >> value & 1]


def parse_field(
    name: str,
    text: str,
    *,
    numbering: str = "apscheduler",
    seed: str | None = None,
    whole: str | None = None,
    offset: int = 0,
    is_default: bool = False,
) -> Field:
    """Parse a field; one that was parsed not long ago costs a look-up.

    ``whole`` is the text to show in an error, in which this field starts at ``offset``; the
    field's own text by default. ``seed`` feeds the ``H`` items. Raises CronError.
    """
    if "h" not in text.lower():
        seed = None
    parse = _parse if len(text) < 80 else _parse.__wrapped__
    try:
        return parse(name, text, numbering, seed, is_default)
    except CronError as error:
        if whole is None or error.position is None:
            raise
        raise CronError(
            error.reason,
            field=error.field,
            value=error.value,
            text=whole,
            position=offset + error.position,
            allowed=error.allowed,
        ) from None


# The fields of all crontabs are few, and reading one takes many times as long as a fire time.
@lru_cache(maxsize=1024)
def _parse(name: str, text: str, numbering: str, seed: str | None, is_default: bool) -> Field:
    return _Parser(name, text, numbering, seed).parse(is_default)


class _Parser:
    def __init__(self, name: str, text: str, numbering: str, seed: str | None) -> None:
        self.name = name
        self.text = text
        self.cron = numbering == "cron" and name == "day_of_week"
        self.seed = seed
        self.low, self.high = RANGES[name]
        self.mask = self.from_end = self.nearest = self.nth = 0
        self.item = ""
        self.start = 0

    def parse(self, is_default: bool) -> Field:
        for match in re.finditer(r"[^,]*(?:,|$)", self.text):
            raw = match[0].removesuffix(",")
            self.item = raw.strip(" ").lower()
            self.start = match.start() + len(raw) - len(raw.lstrip(" "))
            if (
                not self.item
                and match.start() == len(self.text)
                and self.text[-1:] not in ("", ",")
            ):
                break  # the end, after the last item
            if not self.item.isascii():
                raise self.error(self.item, "is not in the grammar of cron")
            self.parse_item()
        return Field(
            self.name,
            self.text.strip(" "),
            self.mask,
            self.from_end,
            self.nearest,
            self.nth,
            self.text.lstrip(" ")[:1] in ("*", "?"),
            is_default,
        )

    def parse_item(self) -> None:
        if not self.item:
            raise self.error("", "is empty")
        if match := _STAR.fullmatch(self.item):
            self.add(self.low, self.high, self.step(match, 1, self.high - self.low + 1))
        elif self.item == "?" and self.name in ("day", "day_of_week"):
            self.add(self.low, self.high, 1)
        elif match := _HASH.fullmatch(self.item):
            self.add_hashed(match)
        elif not self.parse_day() and not self.parse_weekday():
            self.parse_range()

    def parse_day(self) -> bool:
        if self.name != "day":
            return False
        if match := _FROM_END.fullmatch(self.item):
            self.from_end |= 1 << (self.number(match, 1, 0, 30) if match[1] else 0)
        elif match := _NEAREST.fullmatch(self.item):
            self.nearest |= 1 << (0 if match[1] == "l" else self.number(match, 1, 1, 31))
        elif match := _NTH_DAY.fullmatch(self.item):
            if match[1] not in _ORDINALS:
                allowed = ", ".join(_ORDINALS)
                raise self.error(match[1], "is not an ordinal", allowed, match.start(1))
            weekday = self.named(match, 2, WEEKDAYS)
            self.nth |= 1 << (7 * _ORDINALS.index(match[1]) + weekday)
        else:
            return False
        return True

    def parse_weekday(self) -> bool:
        if self.name != "day_of_week":
            return False
        if match := _NTH_WEEKDAY.fullmatch(self.item):
            row = self.number(match, 2, 1, 5) - 1
        elif match := _LAST_WEEKDAY.fullmatch(self.item):
            row = 5
        else:
            return False
        weekday = self.value(match, 1)
        self.nth |= 1 << (7 * row + ((weekday + 6) % 7 if self.cron else weekday))
        return True

    def parse_range(self) -> None:
        match = _RANGE.fullmatch(self.item)
        if match is None:
            raise self.error(self.item, "is not in the grammar of this field", self.allowed())
        low = high = self.value(match, 1)
        if match[2] is not None:
            high = self.value(match, 2)
        elif match[3] is not None:
            high = self.high
        size = self.high - self.low + 1
        if high < low:
            if self.name == "year":
                raise self.error(self.item, "goes backwards, and years do not come round")
            high += size
        self.add(low, high, self.step(match, 3, high - low + 1))

    def step(self, match: re.Match[str], group: int, size: int) -> int:
        """Read a step through a range of so many values; 1 if there is none."""
        if match[group] is None:
            return 1
        step = self.number(match, group, 1, 10**9)
        if step > size:
            reason = f"as a step is larger than the range of {size} values"
            raise self.error(match[group], reason, at=match.start(group))
        return step

    def add(self, low: int, high: int, step: int) -> None:
        """Add every ``step``-th value from ``low`` to ``high``, which may go around the end."""
        size = self.high - self.low + 1
        count = (high - low) // step + 1
        row = ((1 << step * count) - 1) // ((1 << step) - 1)  # so many bits, a step apart
        row <<= low - self.low + (6 if self.cron else 0)
        # Bring round what went around the end, such as crontab's second Sunday, 7.
        row = (row | row >> size | row >> 2 * size) & ((1 << size) - 1)
        self.mask |= row << self.low

    def add_hashed(self, match: re.Match[str]) -> None:
        if self.name in ("year", "week"):
            raise self.error(self.item, "has no meaning in this field")
        if self.seed is None:
            raise self.error(self.item, "needs a seed, such as the id of the job: pass seed=...")
        digest = blake2b(f"{self.name}:{self.seed}".encode(), digest_size=8).digest()
        chosen = int.from_bytes(digest, "big")
        low, high = self.low, min(self.high, 28) if self.name == "day" else self.high
        if match[1] is not None:
            low = self.number(match, 1, self.low, self.high)
            high = self.number(match, 2, self.low, self.high)
            if high < low:
                raise self.error(self.item, "goes backwards")
        size = high - low + 1
        if match[3] is None:
            self.add(low + chosen % size, low + chosen % size, 1)
        else:
            step = self.step(match, 3, size)
            self.add(low + chosen % step, high, step)

    def value(self, match: re.Match[str], group: int) -> int:
        """Read a number or a name."""
        token = match[group]
        if token.isdigit():
            return self.number(match, group, self.low, 7 if self.cron else self.high)
        if self.name == "month":
            return self.named(match, group, MONTHS) + 1
        if self.name == "day_of_week":
            weekday = self.named(match, group, WEEKDAYS)
            return (weekday + 1) % 7 if self.cron else weekday
        raise self.error(token, "is not a number", self.allowed(), match.start(group))

    def number(self, match: re.Match[str], group: int, low: int, high: int) -> int:
        digits = match[group].lstrip("0") or "0"
        if len(digits) > 10 or not low <= int(digits) <= high:
            allowed = f"{low} to {high}"
            raise self.error(match[group], "is out of range", allowed, match.start(group))
        return int(digits)

    def named(self, match: re.Match[str], group: int, names: tuple[str, ...]) -> int:
        for position, name in enumerate(names):
            if match[group] in (name, name[:3]):
                return position
        short = ", ".join(name[:3] for name in names)
        raise self.error(match[group], "is not a name", f"{short}, or in full", match.start(group))

    def allowed(self) -> str:
        high = 7 if self.cron else self.high
        names = {"month": ", jan to dec", "day_of_week": ", mon to sun"}.get(self.name, "")
        return f"{self.low} to {high}{names}, in lists, ranges a-b and steps /n"

    def error(self, token: str, reason: str, allowed: str | None = None, at: int = 0) -> CronError:
        """Blame a part of the item that starts ``at`` a place in it."""
        place = self.start + at
        shown = self.text[place : place + len(token)]
        return CronError(
            reason,
            field=self.name,
            value=shown if shown.lower() == token else token,
            text=self.text,
            position=place + 1,
            allowed=allowed,
        )
