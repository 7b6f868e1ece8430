"""What people use on top of APScheduler, driven by its documented features, on tocsin.

Flask-APScheduler and django-apscheduler are those of PyPI. That no module of APScheduler's is
loaded for them is checked by `compat.run`.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from support import compat

FLASK = (
    "jobs_of_the_configuration",
    "settings",
    "decorators_and_app_context",
    "rest_of_jobs",
    "rest_of_the_scheduler",
    "authentication",
    "hosts",
    "changes",
)
DJANGO = (
    "job_store",
    "history",
    "too_many_instances",
    "registered",
    "old_connections",
    "runs_of_stored_jobs",
    "memory_store",
    "admin",
)


@pytest.fixture(scope="module")
def databases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("django")
    return {side: str(folder / f"{side}.sqlite") for side in compat.SIDES}


@pytest.mark.parametrize("name", FLASK)
def test_flask_apscheduler(name: str) -> None:
    expected, found = (compat.given(side, "flask_app", name) for side in compat.SIDES)
    assert found == expected


@pytest.mark.parametrize("name", DJANGO)
def test_django_apscheduler(name: str, databases: dict[str, str]) -> None:
    expected, found = (
        compat.given(side, "django_app", name, databases[side]) for side in compat.SIDES
    )
    assert found == expected


def test_all_scenarios_are_asked_for(databases: dict[str, str]) -> None:
    assert set(compat.run("tocsin", "flask_app")) == set(FLASK)
    assert set(compat.run("tocsin", "django_app", databases["tocsin"])) == set(DJANGO)


def test_jobs_that_apscheduler_stored_in_django_are_kept_and_run(tmp_path: Path) -> None:
    database = str(tmp_path / "db.sqlite")
    left = compat.given("apscheduler", "django_switch", "jobs", database, "leave")
    found = compat.given("tocsin", "django_switch", "jobs", database, "find")
    # One of them has lost its function: APScheduler's stores would delete it.
    assert len(left["jobs"]) == 6
    assert found["jobs"] == left["jobs"]
    assert found["ran"] == [["due"]]
