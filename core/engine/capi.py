"""Stand-ins for the C functions that ``capi.pxd`` declares under the same names.

A compiled module finds the C function at compile time and never comes here; an interpreted one
calls these. Both have the same meaning.
"""

from __future__ import annotations

from array import array
from datetime import datetime, tzinfo


def load_datetime() -> None:
    """Load the C interface of ``datetime``; each module that makes datetimes calls it once."""


def make_datetime(
    year: int,
    month: int,
    day: int,
    hour: int,
    minute: int,
    second: int,
    microsecond: int,
    zone: tzinfo,
    fold: int,
) -> datetime:
    """Make an aware datetime."""
    return datetime(year, month, day, hour, minute, second, microsecond, zone, fold=fold)


def lowest_bit(mask: int) -> int:
    """Give the index of the lowest set bit of a mask that is not zero."""
    return (mask & -mask).bit_length() - 1


def highest_bit(mask: int) -> int:
    """Give the index of the highest set bit of a mask that is not zero."""
    return mask.bit_length() - 1


def exact_int(number: object) -> int:
    """Give an int of 64 bits as it is, and the least of them for anything else."""
    return number if type(number) is int and -(2**63) <= number < 2**63 else -(2**63)


def int64s(numbers: array[int]) -> array[int]:
    """Give the cells of an ``array('q')``; compiled, a pointer that growth makes invalid."""
    return numbers


def int32s(numbers: array[int]) -> array[int]:
    """Give the cells of an ``array('i')``; compiled, a pointer that growth makes invalid."""
    return numbers
