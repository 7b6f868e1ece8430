"""The site is built, strictly: no link, anchor or docstring of the public names is amiss."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from support.programs import ROOT, ended

import tocsin
from tocsin import adapters, errors, interfaces, stores, testing

REFERENCE = ROOT / "docs" / "reference"


@pytest.mark.packaging
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    site = tmp_path / "site"
    done = ended(
        *(sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", site),
        cwd=ROOT,
        env={"NO_MKDOCS_2_WARNING": "1"},
        patience=280,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    pages = (path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md"))
    assert [page for page in pages if not (site / page.with_suffix(".html")).exists()] == []
    assert (site / "examples" / "schedule.toml.html").exists()
    reference = (site / "reference" / "triggers.html").read_text(encoding="utf-8")
    assert 'id="tocsin.CronTrigger.from_crontab"' in reference
    assert "Whether the compiled engine is in use." in reference  # a comment, no docstring


def test_the_reference_has_all_public_names() -> None:
    pages = "\n".join(page.read_text(encoding="utf-8") for page in REFERENCE.glob("*.md"))
    shown = set(re.findall(r"^::: ([\w.]+)$", pages, re.MULTILINE))
    public = {
        f"{package.__name__}.{name}"
        for package in (tocsin, adapters, stores, testing)
        for name in package.__all__
    } | {f"tocsin.interfaces.{name}" for name in vars(interfaces) if re.match(r"I[A-Z]\w+r", name)}
    # The errors and events are shown as a whole.
    public -= {f"tocsin.{name}" for name in vars(errors)}
    assert public - shown == set()
    assert {"tocsin.errors", "tocsin.events"} <= shown
