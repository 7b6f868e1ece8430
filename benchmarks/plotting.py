"""The plots of the report, as SVG that reads on a light and on a dark page."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import Any

#: By panel and line, the points: where, median, lower and upper quartile.
Lines = Mapping[str, Mapping[str, Sequence[Sequence[float]]]]


@dataclass(frozen=True)
class Plot:
    """What a plot shows: panels beside each other, of which "ratio" is the last."""

    title: str
    x: str
    y: str
    ratio: str
    x_ticks: Sequence[float] = ()


JOBS = "jobs in the scheduler"
PLOTS: dict[str, Plot] = {
    "cost-dispatch": Plot("Dispatch 100 due jobs", JOBS, "nanoseconds a job", "side / tocsin"),
    "cost-add": Plot("add_job", JOBS, "nanoseconds a job", "side / tocsin"),
    "cost-add-in-bulk": Plot("add_jobs", JOBS, "nanoseconds a job", "side / tocsin"),
    "cost-remove": Plot("remove_job", JOBS, "nanoseconds a job", "side / tocsin"),
    "memory": Plot("Memory of a job", JOBS, "bytes a job", "side / tocsin"),
    "cost-wake-up": Plot(
        "A wake-up of a store, 10 jobs due",
        "jobs in the store",
        "nanoseconds",
        "APScheduler / tocsin",
    ),
    "cost-heap": Plot("The heap", "entries", "nanoseconds an entry", "heapreplace / re-arm"),
    "compiled": Plot("Interpreted / compiled engine", "jobs or entries", "", "times as long"),
    "lateness": Plot(
        "How late jobs start at 2,000 a second",
        "share of jobs that start as soon or sooner",
        "nanoseconds",
        "tocsin / timer",
        x_ticks=(0.5, 0.9, 0.99, 0.999),
    ),
    "claims": Plot(
        "Claims of schedulers that share a store",
        "schedulers",
        "claims a second",
        "times those of one scheduler",
        x_ticks=(1, 2, 4, 8),
    ),
}

#: In the middle between black and white.
INK = "#7d8590"
COLOURS = {
    "tocsin": "#2f81f7",
    "tocsin, interpreted": "#a371f7",
    "APScheduler": "#db6d28",
    "schedule": "#2da44e",
    "timer": INK,
}
OTHERS = ("#2f81f7", "#db6d28", "#2da44e", "#a371f7", "#bf8700", "#e5534b", "#1b9aaa", INK)


def digest(name: str, lines: Lines, source: str) -> str:
    """Name all that a plot is made of, so that one can tell whether it is up to date."""
    made_of = [repr(PLOTS[name]), lines, source]
    return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:16]


def draw(name: str, lines: Lines, source: str, file: Path) -> None:
    """Draw a plot with its source below; the same bytes for the same data and matplotlib."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    plot = PLOTS[name]
    panels = sorted(lines, key=lambda panel: panel == "ratio")
    columns = min(len(panels), 4)
    rows = -(-len(panels) // columns)
    style: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": "tocsin",
        "font.family": "sans-serif",
        "font.size": 9,
        **{f"{each}.color": INK for each in ("text", "xtick", "ytick", "grid")},
        **{f"axes.{each}color": INK for each in ("edge", "label", "title")},
    }
    with mpl.rc_context(style):
        width = max(4.2 * columns, 6.5)
        figure = Figure(figsize=(width, 3.4 * rows + 0.6), layout="constrained")
        figure.suptitle(plot.title)
        below = [fill(line, int(19 * width)) for line in source.splitlines()]
        figure.supxlabel("\n".join(below), fontsize=7)
        axes = figure.subplots(rows, columns, squeeze=False).flat
        for panel, ax in zip(panels, axes, strict=False):
            _panel(ax, plot, panel, lines[panel])
        for ax in list(axes)[len(panels) :]:
            ax.set_axis_off()
        metadata = {"Date": None, "Creator": None, "Description": digest(name, lines, source)}
        figure.savefig(file, format="svg", transparent=True, metadata=metadata)


def _panel(ax: Any, plot: Plot, panel: str, lines: Mapping[str, Sequence[Sequence[float]]]) -> None:
    """Draw the medians as lines, and the quartiles as bands around them."""
    others = iter(OTHERS * (1 + len(lines) // len(OTHERS)))
    for line, points in lines.items():
        xs, medians, lows, highs = zip(*sorted(points, key=lambda point: point[0]), strict=True)
        if plot.x_ticks:
            xs = tuple(plot.x_ticks.index(x) for x in xs)
        colour = COLOURS.get(line) or next(others)
        ax.plot(xs, medians, marker="o", markersize=3, color=colour, label=line)
        ax.fill_between(xs, lows, highs, color=colour, alpha=0.25, linewidth=0)
    if plot.x_ticks:
        ax.set_xticks(range(len(plot.x_ticks)), [f"{tick:g}" for tick in plot.x_ticks])
    else:
        ax.set_xscale("log")
        _label(ax.xaxis, 20)  # labels beside each other need more room
    ax.set_yscale("log")
    _label(ax.yaxis, 200)
    ax.set_xlabel(plot.x)
    ratio = panel == "ratio"
    ax.set_ylabel(plot.ratio if ratio else plot.y)
    if ratio:
        ax.axhline(1, color=INK, linewidth=0.8, linestyle=":")
    elif panel not in ("time", "bytes", "rate"):
        ax.set_title(panel, fontsize=9)
    ax.grid(visible=True, alpha=0.3, linewidth=0.5)
    beside = {"bbox_to_anchor": (1, 1), "loc": "upper left"} if len(lines) > 5 else {}
    ax.legend(frameon=False, fontsize=7, labelcolor=INK, **beside)


def _label(axis: Any, span: float) -> None:
    """Write plain numbers, and more of them where the highest is less than ``span`` lowest."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < span * low else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.12g}"))
    axis.set_minor_formatter(NullFormatter())
