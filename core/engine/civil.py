# cython: annotation_typing=False
"""Civil-date arithmetic of the proleptic Gregorian calendar, on integers.

Days are counted from 0000-03-01, so that no day of the years 1 to 9999 is negative and the
leap day ends the counted year, as in Howard Hinnant's "chrono-compatible low-level date
algorithms"; the way back multiplies where others divide (Neri and Schneider, "Euclidean affine
functions and their application to calendar algorithms", 2022). All functions take O(1); all but
`checked` check nothing: their callers do.
"""

from __future__ import annotations

from operator import index

from tocsin.engine import capi


def days_from_civil(year: int, month: int, day: int) -> int:
    """Count the days from 0000-03-01 to a date of the years 1 to 9999."""
    if month > 2:
        month -= 3
    else:
        month += 9
        year -= 1
    leaps = year // 4 - year // 100 + year // 400
    return year * 365 + leaps + (153 * month + 2) // 5 + day - 1


def civil_from_days(days: int) -> int:
    """Invert `days_from_civil`: ``year << 9 | month << 5 | day``."""
    quarters = days * 4 + 3
    century = quarters // 146097
    # Quarters of a day into the century, times 2 ** 32 / 1461: the high half is the year.
    scaled = ((quarters - century * 146097) | 3) * 2939745
    year = scaled >> 32
    day = (scaled - (year << 32)) // 11758980
    scaled = day * 2141 + 197913
    month = scaled >> 16
    day = (scaled - (month << 16)) // 2141 + 1
    year += century * 100
    if month > 12:
        month -= 12
        year += 1
    return (year * 16 + month) * 32 + day


def month_length(year: int, month: int) -> int:
    """Count the days of a month."""
    if month != 2:
        return 30 + ((month + month // 8) & 1)
    if year % 4 or (year % 100 == 0 and year % 400):
        return 28
    return 29


def weekday(days: int) -> int:
    """Tell the day of the week, Monday being 0, of a day counted from 0000-03-01."""
    return (days + 2) % 7


def iso_week(days: int) -> int:
    """Tell the ISO 8601 week number, 1 to 53, of a day counted from 0000-03-01."""
    thursday = days - (days + 2) % 7 + 3
    year = civil_from_days(thursday) // 512
    return (thursday - days_from_civil(year, 1, 1)) // 7 + 1


def seconds_from_micros(local: int) -> int:
    """Turn local microseconds since 1970 into whole seconds since 0000-03-01, rounded down.

    Before that day the answer is 0.
    """
    days = 719468
    local += days * 86400 * 1000000
    if local < 0:
        return 0
    micros = local
    return micros // 1000000


def micros_from_seconds(seconds: int) -> int:
    """Invert `seconds_from_micros`."""
    days = 719468
    return (seconds - days * 86400) * 1000000


def forever() -> int:
    """Give the instant after every other one, 2 to the 62nd; its negative is before them all."""
    one = 1
    return one << 62


def checked(number: object) -> int:
    """Refuse what compiled code would truncate: floats, and integers that are no instants.

    Raises TypeError and OverflowError.
    """
    instant = capi.exact_int(number)
    limit = 1
    limit <<= 60
    if -limit <= instant <= limit:
        return instant
    whole = index(number)  # type: ignore[arg-type]
    if not -(2**60) <= whole <= 2**60:
        raise OverflowError(f"{whole} microseconds since 1970 is no instant of years 1 to 9999")
    return whole
