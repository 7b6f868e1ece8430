"""A web server with scheduled work, as a Twisted application.

    twistd -n -y examples/twisted_status.tac

http://127.0.0.1:8080/ lists the jobs; PORT in the environment names another port.
"""

from __future__ import annotations

import logging
import os
from time import monotonic

from twisted.application.internet import StreamServerEndpointService
from twisted.application.service import Application, MultiService
from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.task import deferLater
from twisted.web.resource import Resource
from twisted.web.server import Site

from tocsin.adapters import SchedulerService, TwistedScheduler

logging.getLogger("tocsin").setLevel(logging.INFO)  # or Twisted's log gets the warnings only

scheduler = TwistedScheduler()
started = monotonic()


def compact():
    """Stand for work that takes its time: it runs in the reactor's thread pool."""
    return sum(number * number for number in range(100_000))


async def fetch():
    """Stand for a request: a coroutine runs in the reactor's thread, and may wait."""
    await deferLater(reactor, 0.1)
    return "fetched"


def beat():
    """Touch what belongs to the reactor: executor="reactor" has it run there."""
    page.beats += 1


class Status(Resource):
    """The page with the jobs."""

    isLeaf = True  # noqa: N815
    beats = 0

    def render_GET(self, request):  # noqa: N802
        request.setHeader("Content-Type", "text/plain; charset=utf-8")
        lines = [f"{self.beats} beats in {monotonic() - started:.0f} s"]
        lines += [f"{job.id}: {job.trigger}, next at {job.next_run_time}" for job in jobs()]
        return "\n".join([*lines, ""]).encode()


def jobs():
    """List the jobs: the memory store answers at once, a database may not."""
    return scheduler.get_jobs()


page = Status()
scheduler.add_job(compact, "interval", seconds=2, id="compact")
scheduler.add_job(fetch, "interval", seconds=1, id="fetch")
scheduler.add_job(beat, "interval", seconds=0.5, id="beat", executor="reactor")
scheduler.add_job(compact, "cron", hour=3, minute=30, id="nightly")

application = Application("status")
services = MultiService()
services.setServiceParent(application)
SchedulerService(scheduler, timeout=10).setServiceParent(services)
port = int(os.environ.get("PORT", "8080"))
endpoint = TCP4ServerEndpoint(reactor, port, interface="127.0.0.1")
StreamServerEndpointService(endpoint, Site(page)).setServiceParent(services)
