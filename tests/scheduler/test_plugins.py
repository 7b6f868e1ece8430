"""Plug-ins are found by name, and fit, whoever wrote them and however they are installed."""

from __future__ import annotations

import sys
import textwrap
import zipfile
from collections.abc import Callable, Iterable
from importlib.metadata import entry_points
from importlib.util import find_spec
from modulefinder import ModuleFinder
from pathlib import Path
from typing import Any

import pytest
from support.programs import ended, printed

import tocsin
from tocsin import plugins
from tocsin.executors import BaseExecutor
from tocsin.stores.base import BaseJobStore
from tocsin.testing import FakeScheduler
from tocsin.triggers import IntervalTrigger
from tocsin.triggers.base import BaseTrigger

FRAMEWORKS = ("gevent", "tornado", "twisted", "PySide6", "PyQt6", "apscheduler")
DRIVERS = ("etcd3gw", "kazoo", "pymongo", "redis", "rethinkdb", "sqlalchemy")
DEPENDENCIES = ("tzlocal", "zope.interface") + (("tomli",) if sys.version_info < (3, 11) else ())
BUILTINS = [(kind, name) for kind, each in plugins.KINDS.items() for name in each.builtins]

Install = Callable[[str, str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Give a function that installs a distribution: its entry points and its only module."""

    def install(points: str, source: str = "") -> None:
        name = f"almanac_{tmp_path.name}"
        info = tmp_path / f"{name}-1.5.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: almanac\nVersion: 1.5\n")
        (info / "entry_points.txt").write_text(textwrap.dedent(points).replace("MODULE", name))
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(source))
        monkeypatch.syspath_prepend(str(tmp_path))

    return install


SUNRISE = """
    from tocsin.triggers.base import BaseTrigger

    class Sunrise(BaseTrigger):
        def get_next_fire_time(self, previous_fire_time, now):
            return None
"""


@pytest.mark.parametrize(("kind", "name"), BUILTINS)
def test_every_builtin_is_there(kind: str, name: str) -> None:
    found = plugins.load(kind, name)
    module, _, attribute = plugins.KINDS[kind].builtins[name].partition(":")
    assert (found.__module__.startswith(module), found.__name__) == (True, attribute)
    assert issubclass(found, plugins.KINDS[kind].base)


def test_nothing_is_imported_before_it_is_asked_for() -> None:
    program = f"""
        import sys
        from tocsin import plugins
        from tocsin.adapters import BackgroundScheduler
        BackgroundScheduler(executors={{"default": {{"type": "threadpool"}}}})
        for kind in plugins.KINDS:
            plugins.names(kind)
        print(*sorted(set({FRAMEWORKS!r}) & set(sys.modules)))
        plugins.load("executors", "tornado")
        print(*sorted(set({FRAMEWORKS!r}) & set(sys.modules)))
    """
    assert printed(sys.executable, "-c", textwrap.dedent(program)) == "\ntornado\n"


def add_package(archive: zipfile.ZipFile, name: str, suffixes: Iterable[str]) -> None:
    spec = find_spec(name)
    assert spec is not None
    assert spec.submodule_search_locations
    root = Path(spec.submodule_search_locations[0])
    for path in sorted(root.rglob("*")):
        if path.suffix in suffixes:
            archive.write(path, Path(*name.split(".")) / path.relative_to(root))


def test_frozen_application(tmp_path: Path) -> None:
    """In a zip file without metadata or site-packages all that is built in is found."""
    application = tmp_path / "application.pyz"
    with zipfile.ZipFile(application, "w") as archive:
        for name in ("tocsin", *DEPENDENCIES):
            add_package(archive, name, {".py"})
        archive.writestr("zope/__init__.py", "")
        archive.writestr(
            "__main__.py",
            textwrap.dedent(
                """
                import threading
                from tocsin.adapters.background import BackgroundScheduler

                ran = threading.Event()
                scheduler = BackgroundScheduler(
                    {
                        "apscheduler.executors.default.type": "threadpool",
                        "apscheduler.jobstores.default.type": "memory",
                        "apscheduler.timezone": "UTC",
                    }
                )
                scheduler.add_job(ran.set, "date")
                scheduler.add_job(ran.set, "interval", days=1)
                scheduler.start()
                print(ran.wait(20))
                scheduler.shutdown()
                try:
                    scheduler.add_job(ran.set, "sunrise")
                except LookupError as error:
                    print(error)
                """
            ),
        )
    env = {"TOCSIN_PURE": "1", "TOCSIN_REQUIRE_COMPILED": "0"}
    done = ended(sys.executable, "-I", "-S", application, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    ran, refused = done.stdout.splitlines()
    assert ran == "True"
    assert refused.startswith('No trigger by the name "sunrise" was found; known: and, cal')


def test_bundlers_see_the_builtins(tmp_path: Path) -> None:
    """What follows imports without running them finds all that needs no framework."""
    script = tmp_path / "application.py"
    script.write_text("import tocsin.plugins\n")
    finder = ModuleFinder([str(Path(tocsin.__file__).parents[1])], excludes=[*FRAMEWORKS, *DRIVERS])
    finder.run_script(str(script))
    expected = {
        reference.partition(":")[0]
        for each in plugins.KINDS.values()
        for name, reference in each.builtins.items()
        if name not in FRAMEWORKS and name != "qt"
    }
    assert len(expected) >= 5
    assert expected <= set(finder.modules)


def test_entry_points(install: Install) -> None:
    install(
        """
        [tocsin.triggers]
        sunrise = MODULE:Sunrise
        interval = MODULE:Sunrise
        [apscheduler.triggers]
        sunrise = MODULE:Missing
        sunset = MODULE:Sunset
        """,
        SUNRISE + "\n    class Sunset(Sunrise): pass\n",
    )
    before = set(sys.modules)
    assert {"sunrise", "sunset", "cron"} <= set(plugins.names("triggers"))
    assert set(sys.modules) == before
    assert plugins.load("triggers", "sunrise").__name__ == "Sunrise"
    assert plugins.load("triggers", "sunset").__name__ == "Sunset"
    assert plugins.load("triggers", "interval") is IntervalTrigger
    assert "sunrise" not in plugins.names("executors")


@pytest.mark.parametrize(
    ("group", "kind"),
    [
        ("tocsin.executors", "executors"),
        ("apscheduler.executors", "executors"),
        ("tocsin.stores", "stores"),
        ("apscheduler.jobstores", "stores"),
        ("apscheduler.triggers", "triggers"),
    ],
)
def test_groups(install: Install, group: str, kind: str) -> None:
    base = plugins.KINDS[kind].base
    abstract = "".join(f"\n        def {name}(self): ..." for name in base.__abstractmethods__)
    source = f"""
    from {base.__module__} import {base.__name__}
    class Mine({base.__name__}):{abstract}
    """
    name = f"{group}-mine"
    install(f"[{group}]\n{name} = MODULE:Mine\n", source)
    assert issubclass(plugins.load(kind, name), base)


def test_broken_entry_point(install: Install) -> None:
    install(
        """
        [tocsin.triggers]
        tide = MODULE:Tide
        moon = MODULE:Moon
        [tocsin.executors]
        ship = no_such_module_at_all:Ship
        """,
        SUNRISE + "\n    class Moon: pass\n",
    )
    assert plugins.load("triggers", "cron").__name__ == "CronTrigger"
    with pytest.raises(LookupError) as broken:
        plugins.load("triggers", "tide")
    assert 'The trigger "tide", entry point' in str(broken.value)
    assert "of the distribution almanac 1.5" in str(broken.value)
    assert "AttributeError" in str(broken.value)
    with pytest.raises(LookupError, match=r"almanac 1\.5.*No module named 'no_such_module"):
        plugins.load("executors", "ship")
    with pytest.raises(TypeError, match=r"almanac 1\.5.* unfit: .*get_next_fire_time"):
        plugins.load("triggers", "moon")


def test_the_own_plugins_of_apscheduler_are_left_alone() -> None:
    points = entry_points(group="apscheduler.jobstores")
    assert {"memory", "mongodb"} <= points.names
    for kind, each in plugins.KINDS.items():
        theirs = {
            point.name
            for point in entry_points(group=each.groups[1])
            if point.module.startswith("apscheduler.")
        }
        assert theirs & set(plugins.names(kind)) <= set(each.builtins)


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("triggers", "x", 'No trigger by the name "x" was found; known: and, calendarinterval, '),
        ("triggers", "corn", 'No trigger by the name "corn" was found (did you mean "cron"?);'),
        ("executors", "threads", 'No executor by the name "threads" was found (did you mean "thr'),
        ("stores", "memoir", 'No jobstore by the name "memoir" was found (did you mean "memory"?'),
    ],
)
def test_unknown_name(kind: str, name: str, message: str) -> None:
    with pytest.raises(LookupError) as caught:
        plugins.load(kind, name)
    assert str(caught.value).startswith(message)
    assert ", ".join(plugins.KINDS[kind].builtins) in str(caught.value)


class OneJobStore(BaseJobStore):
    """A store as people wrote it for APScheduler 3."""

    def lookup_job(self, job_id: str) -> Any: ...
    def get_due_jobs(self, now: Any) -> Any: ...
    def get_next_run_time(self) -> Any: ...
    def get_all_jobs(self) -> Any: ...
    def add_job(self, job: Any) -> None: ...
    def update_job(self, job: Any) -> None: ...
    def remove_job(self, job_id: str) -> None: ...
    def remove_all_jobs(self) -> None: ...


class Unfinished(OneJobStore):
    lookup_job = BaseJobStore.lookup_job
    update_job = BaseJobStore.update_job


class Independent:
    """An executor that owes tocsin nothing but the methods."""

    def start(self, scheduler: Any, alias: str) -> None: ...
    def shutdown(self, wait: bool = True) -> None: ...
    def submit_job(self, job: Any, run_times: Any) -> None: ...
    def is_full(self, job: Any) -> bool: ...  # type: ignore[empty-body]
    def after_fork(self) -> None: ...


class Halfway(Independent):
    submit_job = "not a method"  # type: ignore[assignment]


def test_fit_classes() -> None:
    plugins.verify("stores", OneJobStore)
    plugins.verify("executors", Independent)


@pytest.mark.parametrize(
    ("kind", "cls", "message"),
    [
        ("stores", Unfinished, "Unfinished does not implement lookup_job, update_job"),
        ("executors", BaseExecutor, "BaseExecutor does not implement _do_submit_job"),
        ("triggers", BaseTrigger, "BaseTrigger does not implement get_next_fire_time"),
        ("executors", Halfway, "BaseExecutor, and lacks methods of IExecutor: submit_job"),
        ("executors", OneJobStore, "lacks methods of IExecutor: is_full, submit_job"),
        ("stores", dict, "lacks methods of IJobStore: add_jobs, advance, after_fork, claim,"),
        ("stores", OneJobStore(), "OneJobStore> is not a class"),
        ("stores", print, "<built-in function print> is not a class"),
    ],
)
def test_unfit_classes(kind: str, cls: Any, message: str) -> None:
    with pytest.raises(TypeError) as caught:
        plugins.verify(kind, cls)
    assert message in str(caught.value)


class Wanting:
    def __init__(self, url: str, *, retries: int = 3) -> None:
        self.given = (url, retries)


class Liberal:
    def __init__(self, url: str, **options: Any) -> None:
        self.given = (url, options)


def test_make() -> None:
    assert plugins.make(Wanting, {"url": "a", "retries": 1}).given == ("a", 1)
    assert plugins.make(Liberal, {"url": "a", "any": 1}).given == ("a", {"any": 1})
    assert plugins.make(dict, {"any": 1}) == {"any": 1}  # which has no signature


@pytest.mark.parametrize(
    ("cls", "arguments", "message"),
    [
        (
            Wanting,
            {"url": "a", "retires": 1},
            'retires: unknown (did you mean "retries"?); Wanting takes url, retries',
        ),
        (Wanting, {"self": 1}, "self: unknown; Wanting takes url, retries"),
        (Wanting, {}, "missing a required argument: 'url'; Wanting takes url, retries"),
        (Liberal, {"any": 1}, "missing a required argument: 'url'; Liberal takes url"),
        (OneJobStore, {"url": 1}, "url: unknown; OneJobStore takes no arguments"),
    ],
)
def test_arguments_that_do_not_fit(cls: type, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError) as caught:
        plugins.make(cls, arguments)
    assert str(caught.value) == message


def test_options_of_a_plugin_that_is_added_by_name() -> None:
    scheduler = FakeScheduler()
    scheduler.add_executor("threadpool", "pool", max_workers=3)
    with pytest.raises(TypeError, match=r"^max_worker: unknown \(did you mean \"max_workers\"\?"):
        scheduler.add_executor("threadpool", "other", max_worker=3)
    with pytest.raises(TypeError, match=r"^url: unknown; MemoryJobStore takes no arguments"):
        scheduler.add_jobstore("memory", url="x")
