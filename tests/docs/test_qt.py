"""The page on Qt: each block is a program, run without a screen."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.programs import python

PAGE = (Path(__file__).parents[2] / "docs" / "qt.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
#: Quit after a while what would run until its window is closed.
QUIT = "from PySide6.QtCore import QTimer\nQTimer.singleShot(3000, app.quit)\napp.exec()"


def test_every_part_has_its_block() -> None:
    assert len(BLOCKS) == 4


@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_runs(block: str, tmp_path: Path) -> None:
    (tmp_path / "page.py").write_text(block.replace("app.exec()", QUIT))
    done = python("page.py", cwd=tmp_path, env={"QT_QPA_PLATFORM": "offscreen"})
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
