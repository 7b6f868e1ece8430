"""Races between contestants in one run, and the table of what came out.

A figure is the ratio of two times that were measured in turns, A B A B, so that whatever else
the machine does hits both. Nothing here fails when a figure misses its target: the table says so.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from statistics import median
from time import monotonic, perf_counter_ns
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import tocsin
from benchmarks.races import MOST_ROUNDS, Contestant, Race, Report, Times

#: The libraries whose versions the result names.
PEERS = (
    *("APScheduler", "schedule", "cronsim", "croniter", "gevent", "tornado", "Twisted"),
    *("PySide6_Essentials", "SQLAlchemy", "redis", "pymongo", "kazoo", "etcd3gw"),
    *("Cython", "pytest-benchmark"),
)

#: How many processes were running when the suite began: figures of a busy machine are not kept.
_LOAD = os.getloadavg()[0]
_BEGAN = monotonic()
_REPORT = pytest.StashKey[Report]()


@pytest.fixture(scope="session")
def report(request: pytest.FixtureRequest) -> Report:
    """Give the report of this run."""
    return request.config.stash[_REPORT]


@pytest.fixture
def race(benchmark: BenchmarkFixture) -> Race:
    """Give the function that runs a race."""

    def run(contestants: Mapping[str, Contestant], rounds: int = 11) -> Times:
        rounds = min(rounds, MOST_ROUNDS)
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
    config.option.benchmark_quiet = True  # its table knows no ratios; --benchmark-verbose shows it


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
    machine_info["cpu"].pop("flags", None)
    machine_info["compiled"] = tocsin.COMPILED
    machine_info["load"] = round(_LOAD, 2)
    machine_info["versions"] = {name: version(name) for name in ("tocsin", *PEERS)}


def pytest_benchmark_update_json(config: pytest.Config, output_json: dict[str, Any]) -> None:
    """Keep what can be read: the figures, and the median times of all contestants."""
    report = config.stash[_REPORT]
    output_json["figures"] = [
        {**asdict(figure), "verdict": figure.verdict} for figure in report.figures
    ]
    output_json["seconds"] = round(monotonic() - _BEGAN)
    output_json["plots"] = [
        {"plot": plot, "panel": panel, "line": line, "points": points}
        for (plot, panel, line), points in report.lines_of_plots.items()
    ]
    output_json["benchmarks"] = [
        {"name": each["name"], **each["extra_info"]} for each in output_json["benchmarks"]
    ]
