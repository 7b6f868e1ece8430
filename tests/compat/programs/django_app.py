"""django-apscheduler on SQLite, driven through what its documentation has.

Usage: with the path of a database file as the argument.
"""

import logging
import threading
import warnings
from datetime import datetime, timedelta, timezone

import django
from django.conf import settings
from scenarios import PATIENCE, Notes, Scenarios, listen

LATER = datetime(2090, 5, 17, 8, 30, tzinfo=timezone.utc)
scenario = Scenarios()
ran = Notes()

urlpatterns = []


def scenarios(database):
    settings.configure(
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": database,
                # Or SQLite refuses, without waiting, two threads that read and then write.
                "OPTIONS": {"timeout": PATIENCE, "transaction_mode": "IMMEDIATE"},
            }
        },
        INSTALLED_APPS=[
            "django.contrib.admin",
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.messages",
            "django.contrib.sessions",
            "django_apscheduler",
        ],
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
            "django.contrib.messages.middleware.MessageMiddleware",
        ],
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "APP_DIRS": True,
                "OPTIONS": {
                    "context_processors": [
                        "django.template.context_processors.request",
                        "django.contrib.auth.context_processors.auth",
                        "django.contrib.messages.context_processors.messages",
                    ]
                },
            }
        ],
        ROOT_URLCONF="django_app",
        SECRET_KEY="for this test only",  # noqa: S106
        ALLOWED_HOSTS=["testserver"],
        USE_TZ=True,
        TIME_ZONE="UTC",
        APSCHEDULER_RUN_NOW_TIMEOUT=PATIENCE,
    )
    django.setup()
    from django.contrib import admin
    from django.core.management import call_command
    from django.test.utils import setup_test_environment
    from django.urls import path

    setup_test_environment()  # responses keep their contexts
    call_command("migrate", verbosity=0)
    urlpatterns.append(path("admin/", admin.site.urls))
    return scenario


def job(*args, **kwargs):
    ran.add(list(args))
    return "done"


def fail():
    raise ZeroDivisionError("on purpose")


def slow(seconds):
    _release.wait(seconds)


_release = threading.Event()


def make(**options):
    from apscheduler.schedulers.background import BackgroundScheduler
    from django_apscheduler.jobstores import DjangoJobStore

    scheduler = BackgroundScheduler(timezone="UTC", **options)
    scheduler.add_jobstore(DjangoJobStore(), "default")
    return scheduler


@scenario
def job_store():
    from apscheduler.jobstores.base import ConflictingIdError, JobLookupError
    from django_apscheduler.models import DjangoJob

    scheduler = make()
    scheduler.add_job("django_app:job", "date", run_date=LATER, id="early", args=[1])
    scheduler.start(paused=True)
    scheduler.add_job(job, "cron", year=2080, id="cron", name="named", max_instances=2)
    scheduler.add_job(job, "interval", hours=1, start_date=LATER, id="paused", next_run_time=None)
    seen = [[(each.id, str(each.next_run_time)) for each in DjangoJob.objects.all()]]
    seen.append([(each.id, str(each.next_run_time)) for each in scheduler.get_jobs()])
    found = scheduler.get_job("cron")
    seen.append([found.name, str(found.trigger), found.max_instances, found.func is job])
    scheduler.modify_job("cron", name="renamed", args=[3])
    seen.append([scheduler.get_job("cron").name, list(scheduler.get_job("cron").args)])
    scheduler.reschedule_job("cron", trigger="cron", year=2081)
    scheduler.pause_job("early")
    scheduler.resume_job("paused")
    seen.append([(each.id, str(each.next_run_time)) for each in scheduler.get_jobs()])
    for call, kind in (
        (lambda: scheduler.add_job(job, "date", run_date=LATER, id="cron"), ConflictingIdError),
        (lambda: scheduler.remove_job("none"), JobLookupError),
        (lambda: scheduler.add_job(lambda: None, "date", run_date=LATER), ValueError),
    ):
        try:
            call()
        except kind:
            seen.append(kind.__name__)
    scheduler.add_job(job, "date", run_date=LATER, id="cron", replace_existing=True)
    seen.append(str(scheduler.get_job("cron").trigger))
    seen.append(sorted(str(each) for each in DjangoJob.objects.all()))
    seen.append(scheduler.get_job("none"))
    scheduler.shutdown()
    again = make()
    again.start(paused=True)
    seen.append(sorted(each.id for each in again.get_jobs()))
    again.remove_job("cron")
    seen.append(sorted(each.id for each in again.get_jobs()))
    again.remove_all_jobs()
    seen.append(DjangoJob.objects.count())
    again.shutdown()
    return seen


@scenario
def history():
    from apscheduler.events import (
        EVENT_JOB_ERROR,
        EVENT_JOB_EXECUTED,
        EVENT_JOB_MAX_INSTANCES,
        EVENT_JOB_MISSED,
    )
    from django_apscheduler.models import DjangoJob, DjangoJobExecution

    logging.disable(logging.CRITICAL)
    ends = EVENT_JOB_ERROR | EVENT_JOB_EXECUTED | EVENT_JOB_MAX_INSTANCES | EVENT_JOB_MISSED
    often = {"trigger": "interval", "hours": 1, "misfire_grace_time": None}
    past = datetime.now(timezone.utc) - timedelta(seconds=30)
    scheduler = make()
    scheduler.start(paused=True)
    scheduler.add_job(job, id="well", next_run_time=past, **often)
    scheduler.add_job(fail, id="ill", next_run_time=past, **often)
    late = {**often, "misfire_grace_time": 1}
    scheduler.add_job(job, id="late", next_run_time=past, **late)
    # The store's own listeners were there first: when this one hears, they have written.
    heard = listen(scheduler, ends)
    scheduler.resume()
    heard(3)
    scheduler.shutdown()
    rows = DjangoJobExecution.objects.order_by("job_id")
    seen = [[row.job_id, row.status, row.exception] for row in rows]
    seen.append(["fail" in (row.traceback or "") for row in rows])
    seen.append([row.run_time == past for row in rows])
    seen.append([row.duration is not None and row.finished is not None for row in rows])
    DjangoJobExecution.objects.filter(job_id="ill").update(
        run_time=past - timedelta(days=3), finished=None
    )
    DjangoJobExecution.objects.delete_old_job_executions(24 * 60 * 60)
    seen.append(sorted(DjangoJobExecution.objects.values_list("job_id", flat=True)))
    DjangoJob.objects.all().delete()
    seen.append(DjangoJobExecution.objects.count())
    logging.disable(logging.NOTSET)
    ran.clear()
    return seen


@scenario
def too_many_instances():
    from apscheduler.events import EVENT_JOB_MAX_INSTANCES
    from django_apscheduler.models import DjangoJob, DjangoJobExecution

    logging.disable(logging.CRITICAL)
    _release.clear()
    scheduler = make()
    scheduler.start()
    heard = listen(scheduler, EVENT_JOB_MAX_INSTANCES)
    scheduler.add_job(slow, "interval", args=[PATIENCE], seconds=0.3, id="slow")
    heard(1)
    scheduler.pause_job("slow")
    _release.set()
    scheduler.shutdown()
    logging.disable(logging.NOTSET)
    statuses = set(DjangoJobExecution.objects.values_list("status", flat=True))
    DjangoJob.objects.all().delete()
    return sorted(statuses)


@scenario
def registered():
    from django_apscheduler.jobstores import register_events, register_job

    scheduler = make()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        register_events(scheduler)
        returned = register_job(scheduler, "interval", hours=1, start_date=LATER)(job)
        seen = [sorted({each.category.__name__ for each in caught}), returned is job]
    scheduler.start(paused=True)
    seen.append([each.id for each in scheduler.get_jobs()])
    scheduler.remove_all_jobs()
    scheduler.shutdown()
    return seen


@scenario
def old_connections():
    from django.db import connection
    from django_apscheduler.models import DjangoJob
    from django_apscheduler.util import close_old_connections

    def counted():
        job(DjangoJob.objects.count())

    wrapped = close_old_connections(counted)
    scheduler = make()
    scheduler.add_jobstore("memory", "memory")
    scheduler.start()
    scheduler.add_job(wrapped, jobstore="memory")
    seen = [wrapped.__name__, ran.take(1)]
    scheduler.shutdown()
    connection.close()
    return seen


@scenario
def runs_of_stored_jobs():
    """Each due run is claimed, advanced and run once, over the store's own queries."""
    from django_apscheduler.models import DjangoJob

    scheduler = make()
    scheduler.start()
    scheduler.add_job("django_app:job", "interval", seconds=0.2, id="often", args=["often"])
    scheduler.add_job("django_app:job", id="once", args=["once"])
    found = ran.take(4)
    scheduler.remove_job("often")
    scheduler.shutdown()
    ran.clear()
    return [found.count(["once"]), found.count(["often"]) >= 3, DjangoJob.objects.count()]


@scenario
def memory_store():
    from apscheduler.events import EVENT_JOB_EXECUTED
    from apscheduler.schedulers.background import BackgroundScheduler
    from django_apscheduler.jobstores import DjangoMemoryJobStore
    from django_apscheduler.models import DjangoJob, DjangoJobExecution

    DjangoJob.objects.create(id="kept", job_state=b"")
    scheduler = BackgroundScheduler(timezone="UTC")
    scheduler.add_jobstore(DjangoMemoryJobStore(), "default")
    scheduler.start(paused=True)
    heard = listen(scheduler, EVENT_JOB_EXECUTED)
    scheduler.add_job(job, id="kept", args=[1])
    scheduler.resume()
    heard(1)
    scheduler.shutdown()
    seen = [ran.take(1), [[row.job_id, row.status] for row in DjangoJobExecution.objects.all()]]
    DjangoJob.objects.all().delete()
    return seen


@scenario
def admin():
    from django.contrib.auth.models import User
    from django.test import Client
    from django_apscheduler.models import DjangoJob, DjangoJobExecution

    scheduler = make()
    scheduler.start(paused=True)
    for number in (1, 2, 3):
        scheduler.add_job("django_app:job", "date", run_date=LATER, id=f"j{number}", args=[number])
    User.objects.create_superuser("root", password="word")  # noqa: S106
    client = Client()
    client.login(username="root", password="word")  # noqa: S106
    jobs, executions = "/admin/django_apscheduler/djangojob/", "djangojobexecution"
    page = client.get(jobs)
    seen = [page.status_code, b"May 17, 2090" in page.content]
    chosen = {"action": "run_selected_jobs", "_selected_action": ["j1", "j3"]}
    page = client.post(jobs, chosen, follow=True)
    seen += [page.status_code, sorted(str(each) for each in page.context["messages"])]
    seen.append(sorted(ran.take(2)))
    rows = DjangoJobExecution.objects.order_by("job_id")
    seen.append([[row.job_id, row.status] for row in rows])
    page = client.get(f"/admin/django_apscheduler/{executions}/")
    seen += [page.status_code, b"Executed" in page.content]
    page = client.post(jobs, chosen, follow=True)  # its memory store was emptied
    seen += [sorted(str(each) for each in page.context["messages"]), sorted(ran.take(2))]
    seen.append([each.id for each in scheduler.get_jobs()])
    scheduler.remove_all_jobs()
    seen.append(DjangoJob.objects.count())
    scheduler.shutdown()
    return seen
