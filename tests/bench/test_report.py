"""The report of the benchmarks: tables, plots, and that the one that is kept is up to date."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.programs import ended, printed

ROOT = Path(__file__).parents[2]


def report(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = (sys.executable, "-m", "benchmarks.report", *arguments)
    return ended(*command, cwd=ROOT, env={"MPLCONFIGDIR": str(cwd)}, patience=280)


def figure(name: str, value: float, verdict: str = "", target: float | None = None) -> Any:
    spread = {"low": value * 0.9, "high": value * 1.1}
    return {
        "name": name, "value": value, **spread, "target": target, "at_most": False,
        "verdict": verdict,
    }  # fmt: skip


def line(plot: str, panel: str, name: str, *points: tuple[float, float]) -> Any:
    spread = [[x, value, value * 0.9, value * 1.1] for x, value in points]
    return {"plot": plot, "panel": panel, "line": name, "points": spread}


def write(
    folder: Path, name: str, figures: list[Any], plots: list[Any], *, dirty: bool = False
) -> None:
    machine = {
        "cpu": {"brand_raw": "A Processor", "count": 2},
        "python_implementation": "CPython",
        "python_version": "3.12.1",
        "versions": {"tocsin": "0.1.0", "APScheduler": "3.11.3"},
    }
    result = {
        "machine_info": machine,
        "commit_info": {"id": "0123456789abcdef", "dirty": dirty},
        "datetime": f"{name[:10]}T12:00:00+00:00",
        "figures": figures,
        "plots": plots,
    }
    (folder / f"{name}.json").write_text(json.dumps(result))


def soak(day: int, started: int) -> Any:
    ended = {"expected": 600, "started": started, "lost": 1, "doubled": 2, "troubles": {"x": 3}}
    others = dict.fromkeys(("stray", "not_started", "unannounced", "early"), 1)
    return {
        "kind": "soak",
        "adapter": "asyncio",
        "settings": {"jobs": 1_000_000, "rate": 20_000.0, "seconds": 90},
        "date": f"2026-01-0{day}T12:00:00+00:00",
        "machine_info": {"python_version": "3.12.1"},
        "commit_info": {"id": "0123456789abcdef"},
        "memory_bytes": {"start": 46e6, "armed": 991e6, "end": 1023e6},
        "accounting": {**ended, **others},
        "lateness_ms": {"all": {"p50": 0.695, "p99": 31.49, "p99.9": 39.4, "max": 69.6}},
        "processor_share": 0.448,
    }


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Make results of two suites, of one twice."""
    folder = tmp_path / "results"
    folder.mkdir()
    write(folder, "2026-01-01-sizes", [figure("dispatch: gone", 1)], [])
    points = (1_000, 2_500.0), (10_000, 2_600.0)
    plots = [
        line("cost-dispatch", "time", "tocsin", *points),
        line("cost-dispatch", "time", "APScheduler", (1_000, 20_000.0), (10_000, 40_000.0)),
        line("cost-dispatch", "ratio", "APScheduler", (1_000, 8.0), (10_000, 15.4)),
    ]
    sizes = [
        figure("dispatch, 1,000 jobs: APScheduler / tocsin", 8.0, "met", 5),
        figure("dispatch, 10,000 jobs: APScheduler / tocsin", 15.38, "MISSED", 20),
        figure("dispatch: tocsin, ns", 12_345.6),
    ]
    write(folder, "2026-01-02-sizes", sizes, plots, dirty=True)
    shared = figure("moved from one suite to the other", 2)
    write(folder, "2026-01-01-engine", [figure("* * * * *: cronsim / tocsin", 123.4), shared], [])
    write(folder, "2026-01-03-heap", [{**shared, "value": 3}], [])
    for day, started in ((4, 598), (5, 599)):
        (folder / f"2026-01-0{day}-soak-asyncio.json").write_text(json.dumps(soak(day, started)))
    return folder


def test_tables(results: Path, tmp_path: Path) -> None:
    done = report("--results", str(results), "--output", str(tmp_path / "out"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "out" / "REPORT.md").read_text()
    assert re.findall("^## (.*)", text, re.MULTILINE) == [
        "Targets",
        "The next fire time",
        "The heap of due jobs",
        "A job among 1,000 to 1,000,000",
        "Soaks",
    ]
    missed = (
        "| dispatch, 10,000 jobs: APScheduler / tocsin | 15.4 | 13.8 to 16.9 | ≥ 20 | **missed** |"
    )
    assert text.count(missed) == 2  # among the targets, and in its suite
    assert "1 of 2 figures with a target reach it." in text
    assert "| dispatch, 1,000 jobs: APScheduler / tocsin | 8 | 7.2 to 8.8 | ≥ 5 | met |" in text
    times = text.partition("<summary>Times, in nanoseconds</summary>")[2]
    assert "| dispatch: tocsin, ns | 12,346 | 11,111 to 13,580 |  |  |" in times
    assert r"| \* \* \* \* \*: cronsim / tocsin | 123 | 111 to 136 |  |  |" in text
    assert "gone" not in text  # the newer result of the suite hasn't got it
    assert text.count("moved from one suite to the other") == 1
    assert "| moved from one suite to the other | 3 |" in text
    source = (
        "2026-01-02, commit 0123456789 with changes, A Processor (2 processors), CPython 3.12.1"
    )
    assert f"`sizes`: {source}; tocsin 0.1.0, APScheduler 3.11.3." in text
    assert text.count("| asyncio |") == 1  # the newer soak of it
    assert (
        "| asyncio | 1,000,000 / 20,000 / 1.5 | 600 / 599 | 1 / 2 / 7 | 0.695 / 31.5 / 39.4 / 69.6"
        " | 0.45 | 46 / 991 / 1,023 | CPython 3.12.1, 0123456789, 2026-01-05 |"
    ) in text


def test_plots(results: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    output = tmp_path / "out"
    once = ["--results", str(results), "--output", str(output)]
    assert report(*once, cwd=tmp_path).returncode == 0
    text = (output / "REPORT.md").read_text()
    assert re.findall(r"!\[.*\]\((.*)\)", text) == ["plots/cost-dispatch.svg"]
    plot = output / "plots" / "cost-dispatch.svg"
    svg = plot.read_text()
    assert {"APScheduler", "tocsin", "nanoseconds a job", "10,000"} <= set(
        re.findall("<text[^>]*>([^<]*)</text>", svg)
    )
    assert "commit 0123456789 with changes" in svg
    assert not re.search("fill: *(#fff|#000|white|black)", svg)
    # The same once more, and stale as soon as a result is another.
    (output / "plots" / "old.svg").write_text("<svg/>")
    assert "plots/old.svg" in report("--check", *once, cwd=tmp_path).stderr
    assert report(*once, cwd=tmp_path).returncode == 0
    assert plot.read_text() == svg
    assert [each.name for each in plot.parent.iterdir()] == [plot.name]
    assert report("--check", *once, cwd=tmp_path).returncode == 0
    file = results / "2026-01-02-sizes.json"
    file.write_text(file.read_text().replace("40000.0", "41000.0"))
    done = report("--check", *once, cwd=tmp_path)
    assert done.returncode == 1
    assert "plots/cost-dispatch.svg out of date" in done.stderr
    assert "REPORT.md" not in done.stderr


def test_the_report_that_is_kept_is_made_of_the_results_that_are_kept(tmp_path: Path) -> None:
    done = report("--check", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_result_has_a_date_and_a_suite(results: Path, tmp_path: Path) -> None:
    (results / "mine.json").write_text("{}")
    done = report("--results", str(results), "--output", str(tmp_path), cwd=tmp_path)
    assert done.returncode != 0
    assert "mine.json: a result is called DATE-SUITE.json" in done.stderr


def test_every_module_of_benchmarks_is_in_one_suite() -> None:
    program = (
        "from benchmarks.suites import SUITES; from benchmarks.plotting import PLOTS;"
        "print(*(each for suite in SUITES.values() for each in suite.modules), end=';');"
        "print(*(each for suite in SUITES.values() for each in suite.plots), end=';');"
        "print(*PLOTS)"
    )
    said = printed(sys.executable, "-c", program, cwd=ROOT)
    modules, shown, plots = (part.split() for part in said.split(";"))
    assert sorted(modules) == sorted(file.stem for file in (ROOT / "benchmarks").glob("test_*.py"))
    assert sorted([*shown, "compiled", "cost-wake-up"]) == sorted(plots)
