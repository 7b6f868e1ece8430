"""The scheduler and the executor of Tornado."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from tocsin.adapters.asyncio import AsyncIOExecutor, AsyncIOScheduler, running_loop
from tocsin.callables import maybe_ref, runs_coroutine
from tocsin.executors import BaseExecutor
from tocsin.scheduler import STATE_STOPPED

try:
    from tornado.gen import is_coroutine_function
    from tornado.ioloop import IOLoop
except ImportError as error:
    raise ImportError(
        f"this needs Tornado, which can't be imported ({error}): pip install tocsin[tornado]"
    ) from error

if TYPE_CHECKING:
    from tocsin.job import Job

__all__ = ["TornadoExecutor", "TornadoScheduler"]


class TornadoScheduler(AsyncIOScheduler):
    """Run on an IOLoop: the one that is running at the start, or ``io_loop``.

    With ``io_loop`` it may be started before its loop. A loop that is stopped and started again
    takes the scheduler with it: what became due meanwhile runs then. Coroutines run on the
    loop, other functions in the loop's executor.
    """

    extra_options: ClassVar[Any] = {"io_loop": maybe_ref}

    _io_loop: IOLoop

    def _configure(self, options: Any) -> None:
        given = options.get("io_loop")
        if given is not None and not isinstance(given, IOLoop):
            raise TypeError(f"io_loop: a tornado.ioloop.IOLoop is needed, not {given!r}")
        self._given_io_loop: IOLoop | None = given
        # Every IOLoop of Tornado 5 and later is one of asyncio.
        super()._configure({"event_loop": getattr(given, "asyncio_loop", None)})

    def start(self, paused: bool = False) -> None:
        """Start on the running IOLoop or on ``io_loop``; see `BaseScheduler.start`.

        Raises RuntimeError when none is running and none was given, or when it is closed.
        """
        if self.state == STATE_STOPPED:
            if self._given_io_loop is None and running_loop() is None:
                raise RuntimeError(
                    "no IOLoop is running: call start() from a coroutine or callback of the loop,"
                    " or give the scheduler its loop as io_loop=..."
                )
            self._io_loop = self._given_io_loop or IOLoop.current()
        super().start(paused)

    def _call_later(self, delay: float, function: Callable[[], None]) -> Any:
        return self._io_loop.call_at(self._io_loop.time() + delay, function)

    def _cancel(self, timer: Any) -> None:
        self._io_loop.remove_timeout(timer)

    def _create_default_executor(self) -> BaseExecutor:
        return TornadoExecutor()


class TornadoExecutor(AsyncIOExecutor):
    """Run coroutines on the scheduler's IOLoop, other functions in the loop's executor.

    Coroutines are those of ``async def`` and of `tornado.gen.coroutine`. The loop's executor is
    the one that ``IOLoop.set_default_executor`` sets; with ``max_workers`` a pool of as many
    threads is used instead, as in `ThreadPoolExecutor`.
    """

    def __init__(self, max_workers: int | None = None, pool_kwargs: Any = None) -> None:
        super().__init__(10 if max_workers is None else max_workers, pool_kwargs)
        self._own_pool = max_workers is not None or pool_kwargs is not None
        # What the loop's executor runs or has waiting; it can't be cancelled.
        self._calls: set[asyncio.Future[None]] = set()

    # Though this class decides what follows, it is in `_do_submit_job` and `_is_for_loop`.
    submit_jobs = AsyncIOExecutor.submit_jobs

    def _is_for_loop(self, func: Callable[..., Any]) -> bool:
        while isinstance(func, partial):
            func = func.func
        return is_coroutine_function(func) or runs_coroutine(func)

    def _do_submit_job(self, job: Job, run_times: Sequence[datetime]) -> None:
        if self._own_pool or self._is_for_loop(job.func):
            super()._do_submit_job(job, run_times)
        elif self._open:
            self._on_loop(self._hand_over, job, run_times)
        else:
            raise RuntimeError("the executor has been shut down")

    def _hand_over(self, job: Job, run_times: Sequence[datetime]) -> None:
        """Give a run to the loop's executor; on the loop."""
        try:
            call = self._eventloop.run_in_executor(None, self.run, job, run_times)
        except RuntimeError as error:  # the loop's executor was shut down
            self.drop(job, run_times, error)
            return
        self._calls.add(call)
        call.add_done_callback(partial(self._called, job, run_times))

    def _called(self, job: Job, run_times: Sequence[datetime], call: asyncio.Future[None]) -> None:
        self._calls.discard(call)
        if call.cancelled():
            error = asyncio.CancelledError("the loop's executor dropped the run")
            self.drop(job, run_times, error)

    def _in_flight(self) -> set[asyncio.Future[None]]:
        return self._tasks | self._calls
