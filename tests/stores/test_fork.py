"""A forked child of a process whose scheduler shares a store: both go on, each by itself."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from support.programs import run_script

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

PROGRAM = """
    import os, sys, threading, warnings
    from tocsin.adapters import BackgroundScheduler
    from tocsin.events import EVENT_JOB_EXECUTED

    warnings.simplefilter("ignore", DeprecationWarning)  # of fork with threads, from 3.12 on
    ran = []
    heard = threading.Event()

    def listen(event):
        ran.append((event.job_id, event.retval))
        heard.set()

    def run_one(name):
        heard.clear()
        scheduler.add_job(os.getpid, id=name)
        assert heard.wait(30), name
        assert ran[-1] == (name, os.getpid())

    kind, arguments = sys.argv[1], dict(each.split("=", 1) for each in sys.argv[2:])
    scheduler = BackgroundScheduler(timezone="UTC")
    scheduler.add_jobstore(kind, **arguments)
    scheduler.add_listener(listen, EVENT_JOB_EXECUTED)
    scheduler.start()
    scheduler.add_job(print, "interval", hours=1, id="kept")
    run_one("before")
    scheduler.pause()  # or it might have the child's run
    child = os.fork()
    if child == 0:
        try:
            assert not scheduler.running
            scheduler.start()  # with connections and a membership of its own
            assert scheduler.get_job("kept") is not None
            run_one("child")
            scheduler.shutdown()
            os._exit(0)
        except BaseException as error:
            print(repr(error), flush=True)
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    scheduler.resume()
    run_one("after")
    assert [name for name, _ in ran] == ["before", "after"]
    print([job.id for job in scheduler.get_jobs()])
    scheduler.shutdown()
"""


@pytest.mark.parametrize(
    ("kind", "server"),
    [
        ("sqlalchemy", None),
        ("sqlalchemy", "postgresql"),
        ("sqlalchemy", "mariadb"),
        ("redis", "redis_server"),
        ("mongodb", "mongodb"),
    ],
)
def test_a_forked_child_has_connections_of_its_own(
    kind: str, server: str | None, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if server is None:
        url = f"sqlite:///{tmp_path / 'jobs.sqlite'}"
    else:
        found: Any = request.getfixturevalue(server)
        url = found.url
    name = {"sqlalchemy": "tablename", "redis": "jobs_key", "mongodb": "database"}[kind]
    assert run_script(PROGRAM, kind, f"url={url}", f"{name}=forked").strip() == "['kept']"


def test_a_child_of_sqlite_is_forked_between_transactions(tmp_path: Path) -> None:
    """SQLite keeps in the process which locks are held: a child would find them held for ever."""
    output = run_script(
        """
        import os, sys, threading, warnings
        from tocsin.adapters import BackgroundScheduler

        warnings.simplefilter("ignore", DeprecationWarning)  # of fork with threads, from 3.12 on
        scheduler = BackgroundScheduler(timezone="UTC")
        scheduler.add_jobstore("sqlalchemy", url=sys.argv[1])
        scheduler.start(paused=True)
        store = scheduler._jobstores["default"]
        inside, forked = threading.Event(), threading.Event()

        def write(connection):
            with store._database.transaction(connection):
                inside.set()
                forked.wait(0.5)  # in vain, for the fork waits for this

        writer = threading.Thread(target=store._call, args=(write,))
        writer.start()
        inside.wait()
        child = os.fork()
        if child == 0:
            try:
                scheduler.start(paused=True)
                scheduler.add_job(print, "interval", hours=1, id="child")
                scheduler.shutdown()
                os._exit(0)
            except BaseException as error:
                print(repr(error), flush=True)
                os._exit(1)
        forked.set()
        writer.join()
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        scheduler.add_job(print, "interval", hours=1, id="parent")
        print(sorted(job.id for job in scheduler.get_jobs()))
        scheduler.shutdown()
        """,
        f"sqlite:///{tmp_path / 'jobs.sqlite'}",
    )
    assert output.strip() == "['child', 'parent']"
