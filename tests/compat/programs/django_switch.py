"""Leave jobs in a Django database, or find there what another process has left.

Usage: with the path of the database and ``leave`` or ``find``.
"""

import pickle
from datetime import datetime, timedelta, timezone

import django_app

LATER = datetime(2090, 5, 17, 8, 30, tzinfo=timezone.utc)


def scenarios(database, action):
    django_app.scenarios(database)
    return {"jobs": leave if action == "leave" else find}


def _listed(scheduler):
    return [
        [job.id, type(job.trigger).__name__, *_times(job), list(job.args), dict(job.kwargs)]
        for job in scheduler.get_jobs()
        if job.id != "due"
    ]


def _times(job):
    following = job.next_run_time and job.trigger.get_next_fire_time(
        job.next_run_time, job.next_run_time
    )
    return [str(job.next_run_time), str(following)]


def leave():
    scheduler = django_app.make()
    scheduler.start(paused=True)
    add = scheduler.add_job
    job = "django_app:job"
    add(job, "cron", id="cron", day="2nd fri,last", hour="9-17/4", month="jan-mar", year=2080)
    add(job, "interval", id="interval", hours=7, start_date=LATER, kwargs={"a": 1})
    add(job, "date", id="date", run_date=LATER, args=["x", {"y": 2}])
    add(job, "calendarinterval", id="calendar", months=1, start_date=LATER.date(), hour=5)
    add(job, "cron", id="paused", hour=3, next_run_time=None)
    past = datetime.now(timezone.utc) - timedelta(hours=1)
    add(job, "date", id="due", run_date=past, args=["due"], misfire_grace_time=None)
    add(job, "cron", id="gone", year=2080)
    listed = _listed(scheduler)
    scheduler.shutdown()
    _forget_function("gone")
    return {"jobs": listed}


def _forget_function(job_id):
    """Have a stored job refer to a function that is not there any more."""
    from django_apscheduler.models import DjangoJob

    row = DjangoJob.objects.get(id=job_id)
    state = pickle.loads(row.job_state)
    row.job_state = pickle.dumps({**state, "func": "django_app:moved_elsewhere"})
    row.save()


def find():
    scheduler = django_app.make()
    scheduler.start()
    ran = django_app.ran.take(1)
    listed = _listed(scheduler)
    scheduler.shutdown()
    return {"jobs": listed, "ran": ran}
