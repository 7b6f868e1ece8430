"""What a race is between, and what is reported of it."""

from __future__ import annotations

import os
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

#: How many jobs are tried, where it makes sense; ``BENCH_JOBS`` sets others, for a trial.
SIZES = tuple(
    int(each) for each in os.environ.get("BENCH_JOBS", "1000,10000,100000,1000000").split(",")
)
#: No more rounds than so many: for a trial.
MOST_ROUNDS = int(os.environ.get("BENCH_ROUNDS", "1000000"))

#: Time contestants in turns, in so many rounds; pytest-benchmark times the first.
Race = Callable[..., Times]


def ratios(times: Times, slow: str, fast: str) -> list[float]:
    """Divide the times of two contestants round by round."""
    return divide(times[slow], times[fast])


def divide(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Divide what was measured round by round."""
    return [a / b for a, b in zip(above, below, strict=True)]


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


class Point(NamedTuple):
    """What was measured at one place of a plot: a median with its quartiles."""

    x: float
    value: float
    low: float
    high: float


class Report:
    """Collect figures, tables of times and what is plotted, for the summary and the result."""

    def __init__(self) -> None:
        self.figures: list[Figure] = []
        self.tables: list[str] = []
        #: By plot, panel and line.
        self.lines_of_plots: dict[tuple[str, str, str], list[Point]] = {}

    def figure(
        self,
        name: str,
        samples: Sequence[float],
        *,
        at_least: float | None = None,
        at_most: float | None = None,
    ) -> None:
        """Add the median of the samples of all rounds, with the bound that holds for it."""
        target = at_least if at_most is None else at_most
        figure = Figure(name, *_spread(samples), target, at_most is not None)
        self.figures.append(figure)

    def point(self, plot: str, panel: str, line: str, x: float, samples: Sequence[float]) -> None:
        """Add the median of the samples of all rounds to a line in a panel of a plot."""
        points = self.lines_of_plots.setdefault((plot, panel, line), [])
        points.append(Point(x, *_spread(samples)))

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


def _spread(samples: Sequence[float]) -> tuple[float, float, float]:
    """Give the median and the quartiles, or what is least and most of too few for quartiles."""
    if len(samples) < 3:
        return median(samples), min(samples), max(samples)
    low, _, high = quantiles(samples, n=4)
    return median(samples), low, high
