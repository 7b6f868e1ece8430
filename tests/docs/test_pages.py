"""The Python blocks of each page in docs/ are run, one after the other, as one program.

Those of the stores name servers where they usually are, and get the address of one of ours.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
#: The pages of the frameworks are run by the tests of their adapters.
ELSEWHERE = {"gevent.md", "tornado.md", "twisted.md", "qt.md"}
PAGES = sorted(DOCS.rglob("*.md"))
#: What the pages of stores call their servers, and the fixture that has the address.
SERVERS = {
    "redis.md": ("localhost:6379", "redis_server"),
    "mongodb.md": ("localhost:27017", "mongodb"),
    "zookeeper.md": ("localhost:2181", "zookeeper"),
    "etcd.md": ("localhost:2379", "etcd"),
}
#: There is no server of RethinkDB to be had: the page's blocks are only compiled.
WITHOUT_SERVER = "rethinkdb.md"


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name not in ELSEWHERE], ids=lambda page: page.name
)
def test_the_blocks_of_a_page_run(
    page: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    text = "\n".join(blocks(page, "python"))
    if page.name == WITHOUT_SERVER:
        assert compile(text, page.name, "exec").co_names
        return
    if page.name in SERVERS:
        usual, fixture = SERVERS[page.name]
        assert usual in text
        text = text.replace(usual, request.getfixturevalue(fixture).address)
    program = tmp_path / "page.py"
    program.write_text(text)
    done = subprocess.run(
        [sys.executable, "-W", "error", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())
    home = page.parent
    assert [link for link in links if "://" not in link and not (home / link).exists()] == []
