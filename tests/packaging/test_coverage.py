"""What `make coverage` measures, and what it holds that to."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from support import thresholds
from support.packages import run
from support.programs import ROOT

pytestmark = pytest.mark.packaging


def summary(lines: tuple[int, int], branches: tuple[int, int]) -> dict[str, Any]:
    return {
        "covered_lines": lines[0],
        "num_statements": lines[1],
        "covered_branches": branches[0],
        "num_branches": branches[1],
    }


@pytest.mark.parametrize(
    ("lines", "branches", "code"),
    [((95, 100), (90, 100), 0), ((94, 100), (100, 100), 1), ((100, 100), (89, 100), 1)],
)
def test_lines_and_branches_have_thresholds_of_their_own(
    lines: tuple[int, int],
    branches: tuple[int, int],
    code: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    files = {
        "good.py": {"summary": summary((1, 1), (0, 0))},
        "bad.py": {"summary": summary((1, 2), (2, 2))},
    }
    report = tmp_path / "coverage.json"
    report.write_text(json.dumps({"files": files, "totals": summary(lines, branches)}))
    assert thresholds.main([str(report), "--lines", "95", "--branches", "90"]) == code
    first, last = capsys.readouterr().out.splitlines()
    assert first == "below     50.0 % 100.0 %  bad.py"
    assert last == f"{('reached', 'below')[code]:8}{lines[0]:6.1f} %{branches[0]:6.1f} %  all"


PROGRAM = """
import os, subprocess, sys
subprocess.run([sys.executable, "-c", "import tocsin.crontab"], check=True)
if os.fork() == 0:
    import tocsin.schedulefile
    os._exit(0)
os.wait()
"""


def test_children_are_measured(tmp_path: Path) -> None:
    """Those that are started, and those that are forked and end at once."""
    (tmp_path / "program.py").write_text(PROGRAM)
    coverage = (sys.executable, "-m", "coverage")
    options = (f"--rcfile={ROOT / 'pyproject.toml'}",)
    run(*coverage, "run", *options, "program.py", cwd=tmp_path, TOCSIN_PURE="1")
    run(*coverage, "combine", *options, cwd=tmp_path)
    run(*coverage, "json", *options, "-q", cwd=tmp_path)
    files = json.loads((tmp_path / "coverage.json").read_text())["files"]
    lines = {Path(name).name: each["summary"]["covered_lines"] for name, each in files.items()}
    assert lines["crontab.py"] > 10
    assert lines["schedulefile.py"] > 10
    assert sum(each["summary"]["num_branches"] for each in files.values()) > 100
