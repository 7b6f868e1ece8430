"""A web application of Tornado whose handlers add, list, pause and remove jobs.

    python examples/tornado_app.py 8000 &
    curl -X POST localhost:8000/jobs -d '{"cron": "*/5 * * * *", "text": "tea"}'
    curl localhost:8000/jobs                  # all jobs, with their next run times
    curl -X PATCH localhost:8000/jobs/ID -d '{"paused": true}'
    curl -X DELETE localhost:8000/jobs/ID
    curl localhost:8000/said                  # what the jobs have said
    kill %1                                   # ends when the jobs have ended

A job is given a crontab expression, "cron", or "seconds" between its runs. Port 0 is any free
one.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections import deque
from datetime import datetime, timezone
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, HTTPError, RequestHandler

from tocsin import CronTrigger, IntervalTrigger, Trigger
from tocsin.adapters import TornadoScheduler
from tocsin.job import Job

said: deque[str] = deque(maxlen=100)


async def say(text: str) -> None:
    """Run on the loop, as all coroutine functions do."""
    said.append(f"{datetime.now(timezone.utc):%H:%M:%S} {text}")


def shown(job: Job) -> dict[str, Any]:
    """Describe a job."""
    due = job.next_run_time
    return {
        "id": job.id,
        "text": job.args[0],
        "trigger": str(job.trigger),
        "next_run_time": None if due is None else due.isoformat(),
    }


class JobHandler(RequestHandler):
    """What the handlers of jobs share."""

    def initialize(self, scheduler: TornadoScheduler) -> None:
        """Be given the scheduler."""
        self.scheduler = scheduler

    def body(self) -> dict[str, Any]:
        """Give the JSON object of the request; 400 for anything else."""
        try:
            body = json.loads(self.request.body)
        except ValueError as error:
            raise HTTPError(400, reason="the body is no JSON") from error
        if not isinstance(body, dict):
            raise HTTPError(400, reason="the body is no JSON object")
        return body

    def job(self, job_id: str) -> Job:
        """Give the job of an id; 404 without one."""
        job = self.scheduler.get_job(job_id)
        if job is None:
            raise HTTPError(404, reason="no such job")
        return job


class Jobs(JobHandler):
    """All jobs: ``/jobs``."""

    def get(self) -> None:
        """List them."""
        self.write({"jobs": [shown(job) for job in self.scheduler.get_jobs()]})

    def post(self) -> None:
        """Add one."""
        body = self.body()
        try:
            trigger: Trigger
            if "cron" in body:
                trigger = CronTrigger.from_crontab(body["cron"])
            else:
                trigger = IntervalTrigger(seconds=body["seconds"])
            job = self.scheduler.add_job(say, trigger, args=[str(body["text"])])
        except KeyError as error:
            raise HTTPError(400, reason=f"{error} is missing") from error
        except (TypeError, ValueError) as error:
            self.set_status(400)
            self.write({"error": str(error)})
            return
        self.set_status(201)
        self.write(shown(job))


class OneJob(JobHandler):
    """One job: ``/jobs/ID``."""

    def get(self, job_id: str) -> None:
        """Show it."""
        self.write(shown(self.job(job_id)))

    def patch(self, job_id: str) -> None:
        """Pause or resume it."""
        job = self.job(job_id)
        if self.body().get("paused"):
            job.pause()
        else:
            job.resume()
        self.write(shown(self.job(job_id)))

    def delete(self, job_id: str) -> None:
        """Remove it."""
        self.job(job_id).remove()
        self.set_status(204)


class Said(RequestHandler):
    """What the jobs have said: ``/said``."""

    def get(self) -> None:
        """List it."""
        self.write({"said": list(said)})


def make_app(scheduler: TornadoScheduler) -> Application:
    """Make the application."""
    own = {"scheduler": scheduler}
    return Application([("/jobs", Jobs, own), ("/jobs/([^/]+)", OneJob, own), ("/said", Said)])


async def main(port: int) -> None:
    """Serve until Ctrl-C or SIGTERM, then end what is under way."""
    async with TornadoScheduler() as scheduler:
        sockets = bind_sockets(port, "127.0.0.1")
        server = HTTPServer(make_app(scheduler))
        server.add_sockets(sockets)
        print(f"http://127.0.0.1:{sockets[0].getsockname()[1]}", flush=True)
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await stop.wait()
        server.stop()
        await server.close_all_connections()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 8000))
