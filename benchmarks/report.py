"""Make `REPORT.md` and its plots from the results that are kept, and from nothing else.

    python -m benchmarks.report [--check] [--results FOLDER] [--output FOLDER]

Of each suite the newest result counts, and of each adapter the newest soak. Where two suites have a
figure, as when one was split, the newer result has it. ``--check`` writes nothing, and fails
if what is there is not what would be written.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.plotting import PLOTS, Lines, digest, draw
from benchmarks.suites import SUITES

HERE = Path(__file__).parent
#: Plots that are shown after all suites, for their lines come from several.
ACROSS = ("cost-wake-up", "compiled")
HEAD = """\
# Benchmark report

Made by `make bench-report` from the results in [results](results), and not to be edited; what
[README.md](README.md) says of the suites is how each figure is measured. A ratio is that of two
times which were measured in turns, in one run: the median over the rounds, with the quartiles. It
holds for the processor and the versions that are named with it, and far better for others than
the times do. Bands in the plots are quartiles.
"""


@dataclass(frozen=True)
class Result:
    """One run of a suite."""

    suite: str
    data: Mapping[str, Any]

    @property
    def time(self) -> str:
        """When it was run; sorts."""
        return str(self.data["datetime"])

    @property
    def source(self) -> str:
        """Say where, when and of what the figures are."""
        machine, commit = self.data["machine_info"], self.data["commit_info"]
        cpu = machine["cpu"]
        changed = " with changes" if commit["dirty"] else ""
        load = machine.get("load")
        return (
            f"{self.time[:10]}, commit {commit['id'][:10]}{changed}, {cpu['brand_raw']}"
            f" ({cpu['count']} processors{'' if load is None else f', load {load:g}'}),"
            f" {machine['python_implementation']} {machine['python_version']}"
        )

    @property
    def duration(self) -> str:
        """Say how long it took, if that was kept."""
        seconds = self.data.get("seconds")
        return "" if seconds is None else f"; it took {seconds / 60:.0f} min"

    @property
    def versions(self) -> str:
        """Name the versions of all that was measured."""
        versions = self.data["machine_info"]["versions"]
        return ", ".join(f"{name} {version}" for name, version in versions.items())


def newest(folder: Path) -> dict[str, Result]:
    """Read the newest result of each suite, in the order of the suites, then of their names."""
    found: dict[str, Result] = {}
    for file in sorted(folder.glob("*.json")):
        match = re.fullmatch(r"\d{4}-\d\d-\d\d-(.+)", file.stem)
        if match is None:
            raise ValueError(f"{file.name}: a result is called DATE-SUITE.json")
        result = Result(match[1], json.loads(file.read_text()))
        if "figures" not in result.data:
            continue
        if result.suite not in found or found[result.suite].time < result.time:
            found[result.suite] = result
    order = list(SUITES)
    names = sorted(found, key=lambda name: (order.index(name) if name in order else 99, name))
    return {name: found[name] for name in names}


def soaks(folder: Path) -> list[Mapping[str, Any]]:
    """Read the newest soak of each adapter, in the order of their names."""
    found: dict[str, Mapping[str, Any]] = {}
    for file in folder.glob("*.json"):
        data = json.loads(file.read_text())
        if data.get("kind") == "soak":
            other = found.get(data["adapter"])
            if other is None or other["date"] < data["date"]:
                found[data["adapter"]] = data
    return [found[adapter] for adapter in sorted(found)]


def figures(results: Mapping[str, Result]) -> dict[str, list[Mapping[str, Any]]]:
    """Give the figures of each suite, each figure once."""
    owner = {
        figure["name"]: result.suite
        for result in sorted(results.values(), key=lambda each: each.time)
        for figure in result.data["figures"]
    }
    return {
        suite: [figure for figure in result.data["figures"] if owner[figure["name"]] == suite]
        for suite, result in results.items()
    }


def lines_of(name: str, results: Iterable[Result]) -> dict[str, dict[str, Any]]:
    """Give the lines of a plot by panel."""
    found: dict[str, dict[str, Any]] = {}
    for result in results:
        for each in result.data.get("plots", ()):
            if each["plot"] == name:
                found.setdefault(each["panel"], {})[each["line"]] = each["points"]
    return found


def number(value: float) -> str:
    """Write a number with three digits that count."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def table(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Make a table of figures."""
    lines = ["| Figure | Median | Quartiles | Target | |", "|---|--:|--:|--:|---|"]
    for each in rows:
        target = ""
        if each["target"] is not None:
            target = f"{'≤' if each['at_most'] else '≥'} {each['target']:g}"
        name = each["name"].replace("*", r"\*").replace("|", r"\|")
        spread = f"{number(each['low'])} to {number(each['high'])}"
        verdict = {"MISSED": "**missed**"}.get(each["verdict"], each["verdict"])
        lines.append(f"| {name} | {number(each['value'])} | {spread} | {target} | {verdict} |")
    return lines


def bounds(text: str) -> dict[str, str]:
    """Read what is said of each suite in `bounds.md`."""
    _, *parts = re.split(r"^## +(\S+) *\n", text, flags=re.MULTILINE)
    return {name: part.strip() for name, part in zip(parts[::2], parts[1::2], strict=True)}


def soak_table(soaked: Iterable[Mapping[str, Any]]) -> list[str]:
    """Make a table of soaks: what was asked, whether all of it ran, how late, at what cost."""
    columns = (
        "Adapter",
        "Jobs / runs a second / minutes",
        "Runs expected / made",
        "Lost / doubled / other",
        "Late: p50 / p99 / p99.9 / most, ms",
        "Of a processor",
        "Memory at the start / armed / at the end, MB",
        "Version, commit, day",
    )
    lines = [f"| {' | '.join(columns)} |", "|---|---|---|---|---|--:|---|---|"]
    for each in soaked:
        settings, runs, late = each["settings"], each["accounting"], each["lateness_ms"]["all"]
        others = sum(runs[name] for name in ("stray", "not_started", "unannounced", "early"))
        memory = (each["memory_bytes"][name] / 1e6 for name in ("start", "armed", "end"))
        commit = each["commit_info"]["id"][:10]
        cells = (
            each["adapter"],
            f"{settings['jobs']:,} / {settings['rate']:,.0f} / {settings['seconds'] / 60:g}",
            f"{runs['expected']:,} / {runs['started']:,}",
            f"{runs['lost']} / {runs['doubled']} / {others + sum(runs['troubles'].values())}",
            " / ".join(f"{late[name]:.3g}" for name in ("p50", "p99", "p99.9", "max")),
            f"{each['processor_share']:.2f}",
            " / ".join(f"{size:,.0f}" for size in memory),
            f"CPython {each['machine_info']['python_version']}, {commit}, {each['date'][:10]}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


class Report:
    """The text of the report, and the data of its plots."""

    def __init__(
        self,
        results: Mapping[str, Result],
        said: Mapping[str, str],
        soaked: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self.results, self.said, self.soaked = results, said, soaked
        self.figures = figures(results)
        #: By name, the lines and the source of each plot that there is.
        self.plots: dict[str, tuple[Lines, str]] = {}
        self.text = "\n".join(
            [HEAD, *self._targets(), *self._suites(), *self._across(), *self._soaks()]
        )

    def _targets(self) -> list[str]:
        held = [each for found in self.figures.values() for each in found if each["verdict"]]
        missed = [each for each in held if each["verdict"] != "met"]
        lines = ["## Targets", ""]
        lines += [f"{len(held) - len(missed)} of {len(held)} figures with a target reach it."]
        return [*lines, *(["", "Short of theirs are:", "", *table(missed)] if missed else []), ""]

    def _suites(self) -> Iterable[str]:
        for name, result in self.results.items():
            suite = SUITES.get(name)
            yield from (f"## {suite.title if suite else name}", "")
            yield from (f"`{name}`: {result.source}; {result.versions}{result.duration}.", "")
            for plot in suite.plots if suite else ():
                yield from self._plot(plot, [result], f"{result.source}\n{result.versions}")
            found = self.figures[name]
            yield from table(each for each in found if not each["name"].endswith(", ns"))
            yield ""
            if times := [each for each in found if each["name"].endswith(", ns")]:
                yield from ("<details><summary>Times, in nanoseconds</summary>", "")
                yield from (*table(times), "", "</details>", "")
            yield from self._bounds(name)

    def _across(self) -> Iterable[str]:
        for name in ACROSS:
            if results := [each for each in self.results.values() if lines_of(name, [each])]:
                yield from (f"## {PLOTS[name].title}", "")
                source = "\n".join(f"{each.suite}: {each.source}" for each in results)
                yield from self._plot(name, results, source)
                yield from self._bounds(name)

    def _soaks(self) -> Iterable[str]:
        if self.soaked:
            yield from ("## Soaks", "", *soak_table(self.soaked), "")
            yield from self._bounds("soak")

    def _plot(self, name: str, results: Iterable[Result], source: str) -> Iterable[str]:
        if lines := lines_of(name, results):
            self.plots[name] = (lines, source)
            yield from (f"![{PLOTS[name].title}](plots/{name}.svg)", "")

    def _bounds(self, name: str) -> Iterable[str]:
        if said := self.said.get(name):
            yield from ("What bounds it now:", "", said, "")

    def write(self, folder: Path) -> None:
        """Write the text and the plots, and remove plots that are no longer in it."""
        plots = folder / "plots"
        plots.mkdir(parents=True, exist_ok=True)
        for file in plots.glob("*.svg"):
            if file.stem not in self.plots:
                file.unlink()
        for name, (lines, source) in self.plots.items():
            draw(name, lines, source, plots / f"{name}.svg")
        (folder / "REPORT.md").write_text(self.text)

    def stale(self, folder: Path) -> list[str]:
        """Name the files that are not what `write` would write."""
        file = folder / "REPORT.md"
        found = [] if file.exists() and file.read_text() == self.text else [file.name]
        there = {each.stem: each.read_text() for each in (folder / "plots").glob("*.svg")}
        for name in sorted({*there, *self.plots}):
            made_of = self.plots.get(name)
            if made_of is None or digest(name, *made_of) not in there.get(name, ""):
                found.append(f"plots/{name}.svg")
        return found


def main() -> int:
    parser = argparse.ArgumentParser(description="Make the report of the results that are kept.")
    parser.add_argument("--check", action="store_true", help="only tell whether it is up to date")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--output", type=Path, default=HERE)
    options = parser.parse_args()
    results = newest(options.results)
    if not results:
        parser.error(f"there is no result in {options.results}")
    report = Report(results, bounds((HERE / "bounds.md").read_text()), soaks(options.results))
    if not options.check:
        report.write(options.output)
    elif stale := report.stale(options.output):
        print(f"run `make bench-report`: {', '.join(stale)} out of date", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
