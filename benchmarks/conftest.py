"""Races between contestants in one run, and the table of what came out.

A figure is the ratio of two times that were measured in turns, A B A B, so that whatever else
the machine does hits both. Nothing here fails when a figure misses its target: the table says so.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from statistics import median, quantiles
from time import perf_counter_ns
from typing import Any, NamedTuple

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import tocsin

#: The libraries whose versions the result names.
PEERS = ("APScheduler", "cronsim", "croniter", "Cython", "pytest-benchmark")


class Contestant(NamedTuple):
    """Something to time: a batch of so many steps, and what puts things back after it."""

    batch: Callable[[], object]
    steps: int
    restore: Callable[[], object] | None = None


#: By contestant, the nanoseconds a step took in each round.
Times = dict[str, list[float]]


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
        low, _, high = quantiles(samples, n=4) if len(samples) > 1 else samples * 3
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
            row = f"{figure.name:<66}{figure.value:>9.4g}  {spread:<18} {bound:<7} {figure.verdict}"
            rows.append(row.rstrip())
        return rows


_REPORT = pytest.StashKey[Report]()


@pytest.fixture(scope="session")
def report(request: pytest.FixtureRequest) -> Report:
    """Give the report of this run."""
    return request.config.stash[_REPORT]


@pytest.fixture
def race(benchmark: BenchmarkFixture) -> Callable[..., Times]:
    """Give a function that times contestants in turns; pytest-benchmark times the first."""

    def run(contestants: Mapping[str, Contestant], rounds: int = 11) -> Times:
        (name, first), *others = contestants.items()
        times: Times = {name: [] for name in contestants}

        def before() -> None:
            for other, (batch, steps, restore) in others:
                start = perf_counter_ns()
                batch()
                times[other].append((perf_counter_ns() - start) / steps)
                if restore is not None:
                    restore()

        gc.collect()
        gc.disable()  # the peers' garbage must not be charged to whoever comes next
        try:
            benchmark.pedantic(
                first.batch,
                setup=before,
                teardown=first.restore,
                rounds=rounds,
                warmup_rounds=1,
            )
        finally:
            gc.enable()
        times[name] = [seconds * 1e9 / first.steps for seconds in benchmark.stats.stats.data]
        times = {name: measured[-rounds:] for name, measured in times.items()}
        benchmark.extra_info["ns"] = {name: round(median(each), 1) for name, each in times.items()}
        return times

    return run


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    config.stash[_REPORT] = Report()
    config.option.benchmark_quiet = True  # its table knows no ratios; -v shows it all the same


def pytest_report_header() -> str:
    return f"tocsin engine: {'compiled' if tocsin.COMPILED else 'interpreted'}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    report = terminalreporter.config.stash[_REPORT]
    for table in report.tables:
        terminalreporter.write_line(f"\n{table}")
    if report.figures:
        terminalreporter.section("ratios: median, quartiles, target")
        for line in report.lines():
            terminalreporter.write_line(line)


def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    machine_info.pop("node", None)  # the name of a machine says nothing
    machine_info["compiled"] = tocsin.COMPILED
    machine_info["versions"] = {name: version(name) for name in ("tocsin", *PEERS)}


def pytest_benchmark_update_json(config: pytest.Config, output_json: dict[str, Any]) -> None:
    """Keep what can be read: the figures, and the median times of all contestants."""
    report = config.stash[_REPORT]
    output_json["figures"] = [
        {**asdict(figure), "verdict": figure.verdict} for figure in report.figures
    ]
    output_json["benchmarks"] = [
        {"name": each["name"], **each["extra_info"]} for each in output_json["benchmarks"]
    ]
