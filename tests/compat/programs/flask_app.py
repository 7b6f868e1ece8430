"""Flask-APScheduler, driven through what its documentation has."""

import base64
import logging
from datetime import datetime, timezone

from apscheduler.events import EVENT_JOB_EXECUTED
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.schedulers.background import BackgroundScheduler
from flask import Flask, current_app
from flask_apscheduler import STATE_PAUSED, STATE_RUNNING, STATE_STOPPED, APScheduler
from flask_apscheduler.auth import HTTPBasicAuth
from scenarios import Notes, Scenarios

LATER = "2090-05-17T08:30:00+00:00"
scenario = Scenarios()
ran = Notes()


def scenarios():
    return scenario


def job(*args, **kwargs):
    ran.add([*args, *kwargs.values()])


def fail():
    raise ZeroDivisionError("on purpose")


class Site:
    """An application with a scheduler, and a client of it."""

    def __init__(self, scheduler=None, **config):
        self.app = Flask("site")
        self.app.config.update({f"SCHEDULER_{key}": value for key, value in config.items()})
        self.scheduler = APScheduler(scheduler=scheduler)
        self.scheduler.init_app(self.app)
        self.client = self.app.test_client()

    def __enter__(self):
        self.scheduler.start()
        return self

    def __exit__(self, *_):
        if self.scheduler.running:
            self.scheduler.shutdown()

    def ask(self, method, path, json=None, **headers):
        response = self.client.open(path, method=method, json=json, headers=headers)
        return [response.status_code, response.get_json(silent=True)]


@scenario
def jobs_of_the_configuration():
    jobs = [
        {
            "id": "interval",
            "func": "flask_app:job",
            "args": (1, 2),
            "trigger": "interval",
            "hours": 7,
            "start_date": LATER,
        },
        {
            "id": "nested",
            "func": "flask_app:job",
            "kwargs": {"name": "value"},
            "trigger": {"type": "cron", "day_of_week": "mon-fri", "hour": "9", "year": 2090},
        },
        {"id": "date", "func": job, "trigger": "date", "run_date": LATER, "max_instances": 4},
    ]
    with Site(JOBS=jobs, API_ENABLED=True, TIMEZONE="UTC") as site:
        seen = [[each.id for each in site.scheduler.get_jobs()]]
        seen.append([str(each.trigger) for each in site.scheduler.get_jobs()])
        seen.append(site.ask("GET", "/scheduler/jobs"))
        seen.append(site.scheduler.get_job("date").max_instances)
    return seen


@scenario
def settings():
    config = {
        "JOBSTORES": {"default": MemoryJobStore(), "spare": {"type": "memory"}},
        "EXECUTORS": {"default": {"type": "threadpool", "max_workers": 20}},
        "JOB_DEFAULTS": {"coalesce": False, "max_instances": 3, "misfire_grace_time": 9},
        "TIMEZONE": "Europe/Berlin",
    }
    with Site(**config) as site:
        made = site.scheduler.add_job("a", job, trigger="cron", hour=5, year=2090)
        inner = site.scheduler.scheduler
        seen = [made.coalesce, made.max_instances, made.misfire_grace_time]
        seen += [str(made.next_run_time), sorted(inner._jobstores), made.name]
        seen += [isinstance(inner._executors["default"], ThreadPoolExecutor)]
        seen += [site.scheduler.state == STATE_RUNNING]
    return [*seen, site.scheduler.state == STATE_STOPPED]


@scenario
def decorators_and_app_context():
    site = Site(scheduler=BackgroundScheduler(timezone="UTC"))

    @site.scheduler.task("interval", id="decorated", seconds=0.05, misfire_grace_time=900)
    def decorated():
        with site.scheduler.app.app_context():
            job(current_app.name)

    heard = []
    site.scheduler.add_listener(heard.append, EVENT_JOB_EXECUTED)
    with site:
        seen = [ran.take(2)[:2], site.scheduler.get_job("decorated").misfire_grace_time]
        site.scheduler.remove_job("decorated")
        site.scheduler.remove_listener(heard.append)
        site.scheduler.remove_all_jobs()
        seen.append(len(site.scheduler.get_jobs()))
    seen += [{event.job_id for event in heard} == {"decorated"}, decorated.__name__]
    ran.clear()
    return seen


@scenario
def rest_of_jobs():
    logging.disable(logging.CRITICAL)
    body = {"id": "a", "func": "flask_app:job", "trigger": "date", "run_date": LATER, "args": [1]}
    with Site(API_ENABLED=True, TIMEZONE="UTC") as site:
        ask = site.ask
        seen = [
            ask("POST", "/scheduler/jobs", body),
            ask("POST", "/scheduler/jobs", body)[0],
            ask("POST", "/scheduler/jobs", {"id": "x", "func": "flask_app:nothing"})[0],
            ask("GET", "/scheduler/jobs/a"),
            ask("GET", "/scheduler/jobs/none"),
            ask("PATCH", "/scheduler/jobs/a", {"args": [5], "name": "renamed"}),
            ask("PATCH", "/scheduler/jobs/a", {"trigger": "cron", "year": "2091", "hour": "*/3"}),
            ask("PATCH", "/scheduler/jobs/a", {"colour": "red"})[0],
            ask("PATCH", "/scheduler/jobs/none", {"name": "x"})[0],
            ask("POST", "/scheduler/jobs/a/pause"),
            ask("POST", "/scheduler/jobs/a/resume"),
            ask("POST", "/scheduler/jobs/a/run"),
            ran.take(1),
            ask("POST", "/scheduler/jobs/none/run")[0],
            ask("POST", "/scheduler/jobs/none/pause")[0],
            ask("POST", "/scheduler/jobs/none/resume")[0],
            ask("GET", "/scheduler/jobs"),
            ask("DELETE", "/scheduler/jobs/a"),
            ask("DELETE", "/scheduler/jobs/a")[0],
        ]
        ask("POST", "/scheduler/jobs", {"id": "now", "func": "flask_app:job", "args": ["now"]})
        seen.append(ran.take(1))
        every = {"id": "i", "func": "flask_app:job", "trigger": "interval", "minutes": 61}
        status, made = ask("POST", "/scheduler/jobs", {**every, "start_date": LATER})
        seen.append([status, made])
    logging.disable(logging.NOTSET)
    return seen


@scenario
def rest_of_the_scheduler():
    with Site(
        API_ENABLED=True, API_PREFIX="/service", ENDPOINT_PREFIX="s.", TIMEZONE="UTC"
    ) as site:
        ask = site.ask
        information = ask("GET", "/service")
        information[1].pop("current_host")
        seen = [information, site.ask("GET", "/scheduler")[0]]
        seen += [ask("POST", "/service/pause"), site.scheduler.state == STATE_PAUSED]
        seen += [ask("POST", "/service/resume"), site.scheduler.state == STATE_RUNNING]
        seen.append(ask("POST", "/service/start"))
        seen.append(ask("POST", "/service/shutdown", {"wait": False}))
        seen.append(ask("POST", "/service/shutdown")[0])
        seen.append(ask("GET", "/service")[1]["running"])
        seen.append(ask("POST", "/service/start"))
        seen.append(sorted(rule.endpoint for rule in site.app.url_map.iter_rules()))
    return seen


@scenario
def authentication():
    site = Site(API_ENABLED=True, AUTH=HTTPBasicAuth(), TIMEZONE="UTC")
    refused = site.client.get("/scheduler")
    seen = [refused.status_code, refused.headers["WWW-Authenticate"]]

    @site.scheduler.authenticate
    def authenticate(auth):
        return (auth["username"], auth["password"]) == ("guest", "secret")

    for credentials in ("guest:secret", "guest:guess", "nobody"):
        text = base64.b64encode(credentials.encode()).decode()
        seen.append(site.ask("GET", "/scheduler/jobs", Authorization=f"Basic {text}"))
    seen.append(site.ask("GET", "/scheduler/jobs", Authorization="Bearer x")[0])
    return seen


@scenario
def hosts():
    elsewhere = Site(ALLOWED_HOSTS=["no-such-host.example"])
    elsewhere.scheduler.start()
    here = Site(ALLOWED_HOSTS=[elsewhere.scheduler.host_name])
    with here:
        seen = [elsewhere.scheduler.running, here.scheduler.running]
    paused = Site()
    paused.scheduler.start(paused=True)
    seen.append(paused.scheduler.state == STATE_PAUSED)
    paused.scheduler.pause()
    paused.scheduler.resume()
    seen.append(paused.scheduler.state == STATE_RUNNING)
    paused.scheduler.shutdown()
    return seen


@scenario
def changes():
    with Site(TIMEZONE="UTC") as site:
        scheduler = site.scheduler
        scheduler.add_job("a", job, trigger="interval", hours=1, start_date=LATER)
        changed = scheduler.modify_job("a", trigger="interval", hours=2, start_date=LATER, args=[3])
        seen = [str(changed.trigger), list(changed.args), str(changed.next_run_time)]
        scheduler.pause_job("a")
        seen.append(str(scheduler.get_job("a").next_run_time))
        scheduler.resume_job("a")
        scheduler.run_job("a")
        seen += [ran.take(1), scheduler.get_job("none")]
        past = datetime(2020, 1, 1, tzinfo=timezone.utc)
        scheduler.add_job("late", job, trigger="date", run_date=past, misfire_grace_time=None)
        seen.append(ran.take(1))
    return seen
