"""A service of asyncio with scheduled work: who connects hears each reading as it is taken.

    python examples/asyncio_service.py 8000 &
    nc localhost 8000    # a reading of the load of the machine each second, as JSON
    kill %1              # ends when jobs and connections have ended

Port 0 is any free one.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio import StreamReader, StreamWriter
from datetime import datetime, timezone

from tocsin.adapters import AsyncIOScheduler

listeners: set[StreamWriter] = set()


async def read() -> None:
    """Take a reading, and tell everybody: on the loop, as all coroutine functions."""
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    line = json.dumps({"at": now, "load": os.getloadavg()[0]}).encode() + b"\n"
    for writer in listeners:
        writer.write(line)


async def listen(reader: StreamReader, writer: StreamWriter) -> None:
    """Keep a connection among the listeners until the other side hangs up."""
    listeners.add(writer)
    try:
        await reader.read()
    finally:
        listeners.discard(writer)
        writer.close()


async def main(port: int) -> None:
    """Serve until Ctrl-C or SIGTERM, then end what is under way."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    server = await asyncio.start_server(listen, "127.0.0.1", port)
    async with AsyncIOScheduler() as scheduler:
        scheduler.add_job(read, "interval", seconds=1, id="read")
        print("127.0.0.1:{1}".format(*server.sockets[0].getsockname()), flush=True)
        await stop.wait()
        server.close()
    # The scheduler has ended: no job writes any more.
    closing = list(listeners)
    for writer in closing:
        writer.close()
    await asyncio.gather(*(writer.wait_closed() for writer in closing), return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 8000))
