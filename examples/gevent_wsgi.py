"""A WSGI server of gevent with scheduled work: a job takes readings, a page shows them.

    python examples/gevent_wsgi.py 8000 &
    curl localhost:8000            # the latest readings of the load of the machine, as JSON
    curl -X POST localhost:8000    # one more, now
    kill %1                        # ends when requests and jobs have ended

Port 0 is any free one.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()  # before all other imports

import json
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from typing import Any

import gevent
from gevent.pywsgi import WSGIServer

from tocsin.adapters import GeventScheduler

scheduler = GeventScheduler()
readings: deque[dict[str, Any]] = deque(maxlen=60)


@scheduler.scheduled_job("interval", seconds=1, id="read", max_instances=2)
def read() -> None:
    """Take a reading."""
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    readings.append({"at": now, "load": os.getloadavg()[0]})


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Show the readings; a POST takes one first."""
    if environ["REQUEST_METHOD"] == "POST":
        scheduler.run_job_now("read")
        gevent.sleep(0)  # the job's turn
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(list(readings)).encode() + b"\n"]


def main(port: int) -> None:
    """Serve until Ctrl-C or SIGTERM, then end what is under way."""
    server = WSGIServer(("127.0.0.1", port), application, log=None)
    server.start()
    running = scheduler.start()
    print(f"http://127.0.0.1:{server.server_port}", flush=True)

    def stop() -> None:
        server.stop(timeout=5)
        scheduler.shutdown(timeout=5)

    for number in (signal.SIGINT, signal.SIGTERM):
        gevent.signal_handler(number, stop)
    running.join()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 8000)
