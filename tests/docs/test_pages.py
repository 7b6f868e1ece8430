"""The Python blocks of each page in docs/ are run, one after the other, as one program.

Those of the stores name servers where they usually are, and get the address of one of ours. The
blocks of a page on plug-ins are the files that their first lines name, and pytest runs the tests
among them. Sessions (pycon) are typed.
"""

from __future__ import annotations

import ast
import doctest
import re
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from support.programs import python

from tocsin import CronTrigger, events

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
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
#: The languages of blocks, and where those are tested that are not run here.
TESTED = {
    "python": None,
    "pycon": None,
    "toml": {"command-line.md", "twisted.md"},
    "console": {"command-line.md", "migration.md", "twisted.md"},
    "json": {"records.md"},
    "text": {"architecture.md", "records.md"},
}


def name(page: Path) -> str:
    return page.relative_to(DOCS).as_posix()


PLUGINS = [page for page in PAGES if page.parent.name == "plugins" and page.name != "index.md"]
PROGRAMS = [page for page in PAGES if page.name not in ELSEWHERE and page not in PLUGINS]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PROGRAMS, ids=name)
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
    done = python(program, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.packaging  # once is enough: the suites are run on both engines elsewhere
@pytest.mark.parametrize("page", PLUGINS, ids=name)
def test_a_plugin_passes_its_suite(page: Path, tmp_path: Path) -> None:
    for block in blocks(page, "python"):
        file = re.match(r"# (\w+\.py)\n", block)
        assert file, block
        (tmp_path / file[1]).write_text(block)
    suite = ("-m", "pytest", "-q", "-p", "no:cacheprovider")
    done = python(*suite, cwd=tmp_path, patience=250)
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) >= 10


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "pycon")], ids=name)
def test_the_sessions_of_a_page(page: Path) -> None:
    session = "\n".join(blocks(page, "pycon"))
    test = doctest.DocTestParser().get_doctest(session, {}, page.name, page.name, 0)
    printed: list[str] = []
    assert doctest.DocTestRunner().run(test, out=printed.append).failed == 0, "".join(printed)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_no_block_is_left_out(page: Path) -> None:
    fences = re.findall(r"^ *```(.*)$", page.read_text(), re.MULTILINE)
    assert len(fences) % 2 == 0
    assert fences[1::2] == [""] * (len(fences) // 2)
    for language in fences[::2]:
        where = TESTED[language]
        assert where is None or page.name in where


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())
    home = page.parent
    assert [link for link in links if "://" not in link and not (home / link).exists()] == []


# What pages say of the code


def column(page: Path, heading: str, place: int) -> list[str]:
    """Give a column of the table under a heading, but for its title."""
    section = page.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    return [re.split(r"(?<!\\)\|", row)[place].strip() for row in rows[2:]]


def test_every_event_is_described() -> None:
    described = re.findall(
        r"`(EVENT_\w+)`", " ".join(column(DOCS / "events.md", "What is told", 1))
    )
    assert sorted(described) == sorted(f"EVENT_{each}" for each in events.NAMES.values())


def logged() -> set[str]:
    """Give the texts that the code logs, with three dots for each value."""
    found = set()
    for folder in ("core", "adapters", "stores"):
        for module in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
                if (
                    isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Attribute)
                    and node.func.attr in ("info", "warning", "error", "exception")
                    and node.args
                    and isinstance(node.args[0], ast.Constant)
                ):
                    text = str(node.args[0].value).partition("\n")[0]
                    found.add(re.sub(r"%[srdg]", "...", text))
    return found


def test_every_line_of_the_log_that_is_quoted_is_in_the_code() -> None:
    quoted = [cell.split("`")[1] for cell in column(DOCS / "operations.md", "What is logged", 2)]
    assert len(quoted) >= 20
    known = logged()
    assert [line for line in quoted if line not in known] == []


@pytest.mark.parametrize(
    ("heading", "day", "form"),
    [
        ("The clock is set forward", "2024-03-31", "%H:%M"),
        ("The clock is set back", "2024-10-27", "%H:%M%z"),
    ],
)
def test_the_tables_of_changing_clocks_are_right(heading: str, day: str, form: str) -> None:
    zone = ZoneInfo("Europe/Berlin")
    first, last = (
        datetime.fromisoformat(f"{day} 0{hour}:00").replace(tzinfo=zone) for hour in (1, 4)
    )
    page = DOCS / "daylight-saving.md"
    crontabs, once, literally = (column(page, heading, place) for place in (1, 2, 3))
    assert len(crontabs) >= 3
    for crontab, *answers in zip(crontabs, once, literally, strict=True):
        if "April" in answers[0]:
            continue
        if answers[1] == "the same":
            answers[1] = answers[0]
        for dst, answer in zip(("exactly-once", "wall-clock"), answers, strict=True):
            trigger = CronTrigger.from_crontab(crontab.strip("`"), timezone=zone, dst=dst)
            fires = [moment.strftime(form) for moment in trigger.fire_times(first, last)]
            told = re.findall(r"\d\d:\d\d(?:\+\d\d:\d\d)?", answer)
            assert [
                each.replace("+02:00", "+0200").replace("+01:00", "+0100") for each in told
            ] == fires
