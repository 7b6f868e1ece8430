"""Run a server until it or its owner ends: ``keeper.py OWNER DATA COMMAND...``

A program of its own, because nothing inside the owner can act once the owner has been killed. It
goes into the background, into a session of its own, out of reach of Ctrl-C, and prints the server's
process id. The data of a server that has outlived its owner are deleted.
"""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import sys

import psutil


def main(owner: int, data: str, command: list[str]) -> None:
    poll = select.poll()
    handle = os.pidfd_open(owner)
    if os.fork():
        return
    os.setsid()
    poll.register(handle, select.POLLIN)
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sys.stderr) as server:
        poll.register(os.pidfd_open(server.pid), select.POLLIN)
        print(server.pid, flush=True)
        os.close(sys.stdout.fileno())
        outlived = handle in dict(poll.poll())
        if outlived:
            kill_all(server.pid)
    if outlived:
        shutil.rmtree(data, ignore_errors=True)


def kill_all(pid: int) -> None:
    """Kill a process and its children, which may be stopped."""
    server = psutil.Process(pid)
    server.suspend()  # so that it makes no more
    for process in (server, *server.children(recursive=True)):
        process.kill()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3:])
