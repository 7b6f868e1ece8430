"""A histogram of durations that takes the same memory for any number of them."""

from __future__ import annotations

from collections.abc import Iterable

#: Buckets for each power of two: a quantile is less than 1/64 above the truth.
_FINE = 6


class Histogram:
    """How often each duration occurred, in microseconds, to less than 1.6 percent."""

    def __init__(self) -> None:
        self._counts = [0] * (64 << _FINE)
        self.longest = 0

    def add(self, duration: int) -> None:
        """Count a duration, which is not negative; O(1)."""
        shift = duration.bit_length() - _FINE - 1
        if shift > 0:
            self._counts[(shift << _FINE) + (duration >> shift)] += 1
        else:
            self._counts[duration] += 1
        if duration > self.longest:
            self.longest = duration

    def merge(self, others: Iterable[Histogram]) -> Histogram:
        """Add what others have counted, and give this one."""
        for other in others:
            self._counts = [a + b for a, b in zip(self._counts, other._counts, strict=True)]
            self.longest = max(self.longest, other.longest)
        return self

    @property
    def total(self) -> int:
        """How many durations were counted."""
        return sum(self._counts)

    def quantile(self, share: float) -> int:
        """Give a duration that this share of all do not exceed; 0 if there are none."""
        left = share * self.total
        for index, count in enumerate(self._counts):
            left -= count
            if left <= 0 and count:
                shift = max((index >> _FINE) - 1, 0)
                return min(((index - (shift << _FINE) + 1) << shift) - 1, self.longest)
        return self.longest
