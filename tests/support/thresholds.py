"""Hold the report of coverage.py to thresholds of their own for lines and for branches.

    python tests/support/thresholds.py coverage.json --lines 95 --branches 90

coverage.py itself knows one threshold only, for lines and branches together. The modules that are
below are listed; the exit code is 1 if the whole is.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any


def rates(summary: dict[str, Any]) -> tuple[float, float]:
    """Give the percentages of the lines and of the branches that ran; 100 where there are none."""
    ran, lines = summary["covered_lines"], summary["num_statements"]
    taken, branches = summary["covered_branches"], summary["num_branches"]
    return (100 * ran / lines if lines else 100.0, 100 * taken / branches if branches else 100.0)


def main(arguments: list[str]) -> int:
    """Print the table; give the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("report", type=Path)
    parser.add_argument("--lines", type=float, required=True)
    parser.add_argument("--branches", type=float, required=True)
    options = parser.parse_args(arguments)
    report = json.loads(options.report.read_text(encoding="utf-8"))
    wanted = (options.lines, options.branches)
    measured = {name: rates(each["summary"]) for name, each in report["files"].items()}
    total = rates(report["totals"])
    for name, rate in [*sorted(measured.items()), ("all", total)]:
        below = rate[0] < wanted[0] or rate[1] < wanted[1]
        if below or name == "all":
            print(f"{'below' if below else 'reached':8}{rate[0]:6.1f} %{rate[1]:6.1f} %  {name}")
    return int(total[0] < wanted[0] or total[1] < wanted[1])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
