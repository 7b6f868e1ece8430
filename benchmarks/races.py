"""What a race is between, and what is reported of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from typing import NamedTuple


class Contestant(NamedTuple):
    """Something to time: a batch of so many steps, and what puts things back after it."""

    batch: Callable[[], object]
    steps: int
    restore: Callable[[], object] | None = None


#: By contestant, the nanoseconds a step took in each round.
Times = dict[str, list[float]]

#: Time contestants in turns, in so many rounds; pytest-benchmark times the first.
Race = Callable[..., Times]


def ratios(times: Times, slow: str, fast: str) -> list[float]:
    """Divide the times of two contestants round by round."""
    return [a / b for a, b in zip(times[slow], times[fast], strict=True)]


@dataclass(frozen=True)
class Figure:
    """A median with its quartiles, and the bound that it is held to."""

    name: str
    value: float
    low: float
    high: float
    target: float | None
    at_most: bool

    @property
    def verdict(self) -> str:
        """Say whether the figure reaches its target."""
        if self.target is None:
            return ""
        good = self.value <= self.target if self.at_most else self.value >= self.target
        return "met" if good else "MISSED"


class Report:
    """Collect figures, and tables of times, for the summary and the machine-readable result."""

    def __init__(self) -> None:
        self.figures: list[Figure] = []
        self.tables: list[str] = []

    def figure(
        self,
        name: str,
        samples: Sequence[float],
        *,
        at_least: float | None = None,
        at_most: float | None = None,
    ) -> None:
        """Add the median of the samples of all rounds, with the bound that holds for it."""
        low, _, high = quantiles(samples, n=4) if len(samples) > 1 else [*samples] * 3
        target = at_least if at_most is None else at_most
        figure = Figure(name, median(samples), low, high, target, at_most is not None)
        self.figures.append(figure)

    def lines(self) -> list[str]:
        """Make the table of the figures."""
        rows = []
        for figure in self.figures:
            bound = ""
            if figure.target is not None:
                bound = f"{'<=' if figure.at_most else '>='} {figure.target:g}"
            spread = f"{figure.low:.4g} to {figure.high:.4g}"
            row = f"{figure.name:<76}{figure.value:>9.4g}  {spread:<20} {bound:<7} {figure.verdict}"
            rows.append(row.rstrip())
        return rows
