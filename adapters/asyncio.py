"""The scheduler and the executor of asyncio."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from inspect import CO_COROUTINE
from types import FunctionType
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from tocsin.adapters.callback import CallbackScheduler
from tocsin.adapters.pools import ThreadPoolExecutor
from tocsin.callables import maybe_ref, runs_coroutine
from tocsin.executors import BaseExecutor, moment_of
from tocsin.scheduler import STATE_STOPPED

if TYPE_CHECKING:
    from tocsin.job import Job
    from tocsin.scheduler import BaseScheduler

__all__ = ["AsyncIOExecutor", "AsyncIOScheduler"]

_Self = TypeVar("_Self", bound="AsyncIOScheduler")


class AsyncIOScheduler(CallbackScheduler):
    """Run on an asyncio event loop: the one that is running at the start, or ``event_loop``.

    Coroutine functions run on the loop, other functions in threads. ``async with`` starts the
    scheduler and waits for its jobs at the end.
    """

    extra_options: ClassVar[Any] = {"event_loop": maybe_ref}

    _eventloop: asyncio.AbstractEventLoop
    _closing: asyncio.Future[None] | None = None
    #: Done when the stores have been shut down, in a thread.
    _closer: asyncio.Future[None] | None = None

    def _configure(self, options: Any) -> None:
        self._given_loop: asyncio.AbstractEventLoop | None = options.get("event_loop")

    def start(self, paused: bool = False) -> None:
        """Start on the running event loop; see `BaseScheduler.start`.

        Raises RuntimeError when there is none, and none was given as ``event_loop``, or when
        it is closed.
        """
        if self.state == STATE_STOPPED:
            loop = self._given_loop or running_loop()
            if loop is None:
                raise RuntimeError(
                    "no event loop is running: call start() from a coroutine, or give the"
                    " scheduler its loop as event_loop=..."
                )
            if loop.is_closed():
                raise RuntimeError(f"the event loop {loop!r} is closed; give another")
            self._eventloop = loop
        super().start(paused)

    def shutdown(self, wait: bool = True) -> asyncio.Future[None]:
        """Stop at once, and give a future that is done when the running jobs have ended.

        It need not be awaited. Without ``wait`` running coroutines are cancelled. Raises
        SchedulerNotRunningError.
        """
        self._closing = self._closer = None
        super().shutdown(wait)
        if self._closing is None:
            self._closing = self._eventloop.create_future()
            self._closing.set_result(None)
        return self._closing

    def _close(self, wait: bool) -> None:
        loop = self._eventloop
        if (
            not wait
            or not loop.is_running()
            or not (self._stepping() or any(each.running for each in self._executors.values()))
        ):
            super()._close(wait)
            self._closing = self._closer
        elif running_loop() is loop:
            self._closing = loop.create_task(self._close_patiently(asyncio.current_task()))
        else:
            done = asyncio.run_coroutine_threadsafe(self._close_patiently(None), loop)
            self._closing = asyncio.wrap_future(done, loop=loop)

    async def _close_patiently(self, caller: asyncio.Task[Any] | None) -> None:
        """Wait for the running jobs without stopping the loop, then close.

        A job that calls `shutdown` may await it: it is not waited for.
        """
        ended = False
        try:
            if self._step is not None:
                await asyncio.wait([asyncio.wrap_future(self._step)])
            for executor in self._executors.values():
                if isinstance(executor, AsyncIOExecutor):
                    await executor.join(caller)
                await asyncio.to_thread(executor.shutdown, True)
            ended = True
        finally:
            super()._close(ended)
            if self._closer is not None:
                await asyncio.wait([self._closer])

    def _aside(self, function: Callable[[], None]) -> bool:
        self._closer = None
        if running_loop() is self._eventloop:
            # What ends the loop waits for this pool, as `asyncio.run` does; later it takes nothing.
            with suppress(RuntimeError):
                self._closer = self._eventloop.run_in_executor(None, function)
        return self._closer is not None

    def _call_later(self, delay: float, function: Callable[[], None]) -> asyncio.TimerHandle:
        return self._eventloop.call_later(delay, function)

    def _cancel(self, timer: asyncio.TimerHandle) -> None:
        timer.cancel()

    def _call_soon(self, function: Callable[[], None]) -> None:
        loop = self._eventloop
        if loop.is_closed():
            raise RuntimeError(
                f"the event loop {loop!r} of the scheduler was closed while it ran; shut the"
                " scheduler down and start it in another loop"
            )
        if running_loop() is loop:
            loop.call_soon(function)
        else:
            loop.call_soon_threadsafe(function)

    def _watch(self, file: int, function: Callable[[], None]) -> Callable[[], object]:
        self._eventloop.add_reader(file, function)
        return partial(self._eventloop.remove_reader, file)

    def _in_loop(self, function: Callable[[], None]) -> None:
        loop = self._eventloop
        if loop.is_running() and running_loop() is not loop:
            loop.call_soon_threadsafe(function)
        else:
            function()

    def _start_coroutine(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        if running_loop() is self._eventloop:
            super()._start_coroutine(coroutine)
        else:
            asyncio.run_coroutine_threadsafe(coroutine, self._eventloop)

    def _create_default_executor(self) -> BaseExecutor:
        return AsyncIOExecutor()

    async def __aenter__(self: _Self) -> _Self:
        self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.state != STATE_STOPPED:
            await self.shutdown()


class AsyncIOExecutor(ThreadPoolExecutor):
    """Run coroutine functions as tasks on the scheduler's event loop, others in threads.

    The arguments are those of `ThreadPoolExecutor`.
    """

    #: A shutdown that does not wait cuts runs short: those at least once are left to others.
    cancels = True

    _eventloop: asyncio.AbstractEventLoop

    def __init__(self, max_workers: int = 10, pool_kwargs: Any = None) -> None:
        super().__init__(max_workers, pool_kwargs)
        self._tasks: set[asyncio.Future[None]] = set()

    def start(self, scheduler: BaseScheduler, alias: str) -> None:
        """Begin, on the loop of the scheduler, or else on the running one; RuntimeError without."""
        loop = getattr(scheduler, "_eventloop", None) or running_loop()
        if loop is None:
            raise RuntimeError(
                f"an AsyncIOExecutor needs an event loop, which a {type(scheduler).__name__} does"
                " not have; use an AsyncIOScheduler, or a ThreadPoolExecutor, which runs"
                " coroutines as well"
            )
        self._eventloop = loop
        super().start(scheduler, alias)

    def submit_jobs(
        self,
        runs: Iterable[tuple[Job, Sequence[int]]],
        refused: Callable[[Job, Sequence[int], Exception], object],
    ) -> None:
        """Submit many jobs; see `BaseExecutor.submit_jobs`."""
        if running_loop() is not self._eventloop:
            super().submit_jobs(runs, refused)
            return
        make_task = self._task_maker()

        def begin(job: Job, times: Sequence[int], watched: bool) -> bool:
            """Begin a run; tell whether it has ended, else it releases itself."""
            func = job._target
            # What most functions are is found out without a call.
            plain = type(func) is FunctionType and func.__code__.co_flags & CO_COROUTINE
            if not plain and not self._is_for_loop(job.func):
                self._do_submit_job(job, [job.moment(each) for each in times])
                return False
            self._beginning = left = iter(times)
            task = make_task(self._run_async(job, left, watched))
            self._beginning = None
            if task.done():
                return True
            self._keep_task(task, job, times, left)
            return False

        self._submit_here(runs, refused, begin)

    def _is_for_loop(self, func: Callable[..., Any]) -> bool:
        """Tell whether a function gives a coroutine."""
        return runs_coroutine(func)

    def _do_submit_job(self, job: Job, run_times: Sequence[datetime]) -> None:
        if self._is_for_loop(job.func):
            self._on_loop(self._spawn, job, run_times)
        else:
            super()._do_submit_job(job, run_times)

    def _on_loop(
        self,
        function: Callable[[Job, Sequence[datetime]], None],
        job: Job,
        run_times: Sequence[datetime],
    ) -> None:
        if running_loop() is self._eventloop:
            function(job, run_times)
        else:
            self._eventloop.call_soon_threadsafe(function, job, run_times)

    def _spawn(self, job: Job, run_times: Sequence[datetime]) -> None:
        left = iter(run_times)
        task = self._task_maker()(self.run_async(job, left))
        if not task.done():
            self._keep_task(task, job, run_times, left)

    def _task_maker(self) -> Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]:
        """Give what makes a task of the loop of a coroutine."""
        loop = self._eventloop
        if sys.version_info >= (3, 12) and loop.get_task_factory() is None:
            # It begins here and now; most coroutines end before they wait for anything, and
            # cost the loop nothing then.
            return partial(asyncio.Task, loop=loop, eager_start=True)
        return loop.create_task

    def _keep_task(
        self,
        task: asyncio.Task[None],
        job: Job,
        run_times: Sequence[datetime | int],
        left: Iterator[datetime | int],
    ) -> None:
        self._tasks.add(task)
        task.add_done_callback(partial(self._ended, job, run_times, left))

    def _ended(
        self,
        job: Job,
        run_times: Sequence[datetime | int],
        left: Iterator[datetime | int],
        task: asyncio.Future[None],
    ) -> None:
        """Report the runs of a task that was cancelled before it came to them."""
        self._tasks.discard(task)
        lost = [moment_of(job, each) for each in left]
        error = asyncio.CancelledError("the task was cancelled")
        if len(lost) == len(run_times):  # it never began, so it did not release either
            self.drop(job, lost, error)
            return
        for run_time in lost:
            self.fail(job, run_time, None, error)

    def wait_for(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run on the loop a coroutine that a function gave in a thread."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._eventloop).result()

    async def join(self, caller: asyncio.Task[Any] | None = None) -> None:
        """Wait for the coroutines that run, but not for the one that asks for it."""
        others = self._in_flight() - {caller}
        if others:
            await asyncio.wait(others)

    def _in_flight(self) -> set[asyncio.Future[None]]:
        return self._tasks

    def shutdown(self, wait: bool = True) -> None:
        """Take no more jobs; without ``wait`` cancel the coroutines that run.

        With ``wait`` it returns when the threads have ended; for coroutines there is `join`.
        """
        if not wait and self._tasks and not self._eventloop.is_closed():
            current = running_loop()
            for task in list(self._tasks):
                if current is not self._eventloop:
                    self._eventloop.call_soon_threadsafe(task.cancel)
                elif task is not asyncio.current_task():
                    task.cancel()
        super().shutdown(wait)


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Give the event loop that runs in this thread, if one does."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
