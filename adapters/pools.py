"""Executors on pools: threads, processes, and whatever is a ``concurrent.futures.Executor``."""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import itertools
import multiprocessing
import pickle
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from inspect import iscoroutine
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from tocsin.executors import BaseExecutor

if TYPE_CHECKING:
    from tocsin.job import Job
    from tocsin.scheduler import BaseScheduler

__all__ = ["FuturesExecutor", "ProcessPoolExecutor", "ThreadPoolExecutor"]


def _checked_workers(value: Any) -> int:
    """Turn a number of workers, which a configuration gives as text, into one."""
    try:
        workers = int(value)
    except (TypeError, ValueError):
        raise ValueError(f"max_workers: {value!r} is not a whole number") from None
    if workers < 1:
        raise ValueError(f"max_workers: {value!r} is less than 1")
    return workers


class ThreadPoolExecutor(BaseExecutor):
    """Run jobs in a pool of threads; what comes when all are busy waits its turn.

    A coroutine function runs on an event loop of its own, in a thread of the pool. Threads are
    started as they are needed, up to ``max_workers``. ``pool_kwargs`` may have
    ``thread_name_prefix``, ``initializer`` and ``initargs``.

    The threads do not keep the interpreter from ending, but its end waits for the jobs that
    run or wait. Unlike the pool of `concurrent.futures`, this one takes jobs until then, so
    that a scheduler in a thread that is no daemon goes on after the main thread.
    """

    def __init__(self, max_workers: int = 10, pool_kwargs: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.max_workers = _checked_workers(max_workers)
        options = dict(pool_kwargs or {})
        self._prefix: str = options.pop("thread_name_prefix", "tocsin-worker")
        self._initializer: Callable[..., Any] | None = options.pop("initializer", None)
        self._initargs: tuple[Any, ...] = tuple(options.pop("initargs", ()))
        if options:
            raise TypeError(
                f"pool_kwargs: {', '.join(options)}: unknown; accepted: thread_name_prefix,"
                " initializer, initargs"
            )
        self._queue: SimpleQueue[tuple[Job, Sequence[datetime]] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._idle = threading.Semaphore(0)
        self._names = itertools.count(1)
        self._open = False

    def start(self, scheduler: BaseScheduler, alias: str) -> None:
        """Begin to take jobs."""
        super().start(scheduler, alias)
        self._open = True
        atexit.register(self.shutdown)
        if scheduler.outlives_main_thread:
            # From Python 3.12 on, no thread can be started once the main thread has ended.
            with self._mutex:
                for _ in range(self.max_workers):
                    self._start_thread(self._queue, self._idle)
                    self._idle.release()

    def _do_submit_job(self, job: Job, run_times: Sequence[datetime]) -> None:
        with self._mutex:
            if not self._open:
                raise RuntimeError("the thread pool has been shut down")
            queue, idle = self._queue, self._idle
            if not idle.acquire(blocking=False) and len(self._threads) < self.max_workers:
                self._start_thread(queue, idle)
                if queue is not self._queue:  # shut down meanwhile, by the handler of a signal
                    queue.put(None)
                    self._threads.clear()
                    raise RuntimeError("the thread pool has been shut down")
            queue.put((job, run_times))

    def _start_thread(self, queue: SimpleQueue[Any], idle: threading.Semaphore) -> None:
        thread = threading.Thread(
            target=self._work,
            args=(queue, idle),
            name=f"{self._prefix}-{next(self._names)}",
            daemon=True,
        )
        thread.start()
        self._threads.append(thread)

    def _work(self, queue: SimpleQueue[Any], idle: threading.Semaphore) -> None:
        if self._initializer is not None:
            try:
                self._initializer(*self._initargs)
            except Exception:
                self._logger.exception("The initializer of the thread pool failed")
        while True:
            task = queue.get()
            if task is None:
                return
            self.run(*task)
            del task  # or the last job would be kept until the next
            idle.release()

    def shutdown(self, wait: bool = True) -> None:
        """Take no more jobs; with ``wait`` return when those that run or wait have ended.

        A job that calls this is not waited for.
        """
        atexit.unregister(self.shutdown)
        with self._mutex:
            threads, self._threads = self._threads, []
            self._open = False
            queue, self._queue = self._queue, SimpleQueue()
            self._idle = threading.Semaphore(0)
        for _ in threads:
            queue.put(None)
        if wait:
            for thread in threads:
                if thread is not threading.current_thread():
                    thread.join()

    def after_fork(self) -> None:
        """Forget, in a forked child, the threads that only its parent has."""
        super().after_fork()
        self._threads = []
        self._queue = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._open = False


class FuturesExecutor(BaseExecutor):
    """Run jobs in any `concurrent.futures.Executor` that has threads, which stays its owner's.

    The pool is not shut down with the scheduler: who made it ends it. ``shutdown(wait=True)``
    waits for the jobs.
    """

    def __init__(self, pool: concurrent.futures.Executor) -> None:
        super().__init__()
        if not isinstance(pool, concurrent.futures.Executor):
            raise TypeError(f"pool: a concurrent.futures.Executor is needed, not {pool!r}")
        if isinstance(pool, concurrent.futures.ProcessPoolExecutor):
            raise TypeError(
                "pool: a pool of processes can't report on runs; use tocsin's ProcessPoolExecutor"
            )
        self.pool = pool
        self._pending = 0
        self._settled = threading.Condition(self._mutex)
        # How many jobs this thread is in the middle of: one within the pool.
        self._inside = threading.local()

    def _do_submit_job(self, job: Job, run_times: Sequence[datetime]) -> None:
        with self._mutex:
            self._pending += 1
        try:
            future = self.pool.submit(self._work, job, run_times)
        except BaseException:
            self._ended()
            raise
        future.add_done_callback(partial(self._done, job, run_times))

    def _work(self, job: Job, run_times: Sequence[datetime]) -> None:
        self._inside.jobs = 1
        try:
            self.run(job, run_times)
        finally:
            self._inside.jobs = 0

    def _done(
        self, job: Job, run_times: Sequence[datetime], future: concurrent.futures.Future[None]
    ) -> None:
        if future.cancelled():  # by the pool's owner, before it began
            reason = "the owner of the pool cancelled the run"
            self.drop(job, run_times, concurrent.futures.CancelledError(reason))
        self._ended()

    def _ended(self) -> None:
        with self._mutex:
            self._pending -= 1
            self._settled.notify_all()

    def shutdown(self, wait: bool = True) -> None:
        """Leave the pool alone; with ``wait`` return when the jobs in it have ended.

        A job that calls this is not waited for.
        """
        if wait:
            mine = getattr(self._inside, "jobs", 0)
            with self._mutex:
                self._settled.wait_for(lambda: self._pending <= mine)

    def after_fork(self) -> None:
        """Forget, in a forked child, the runs that only its parent has."""
        super().after_fork()
        self._pending = 0
        self._settled = threading.Condition(self._mutex)


class ProcessPoolExecutor(BaseExecutor):
    """Run jobs in processes; callable, arguments and result are pickled on their way.

    Each of the ``max_workers`` processes is a pool of its own: one that is killed takes only
    the job with it that it ran, which reports the error, and is replaced. What comes when all
    are busy waits its turn. ``pool_kwargs`` are those of `concurrent.futures`'
    ``ProcessPoolExecutor``; ``mp_context`` is by default "spawn", for a forked child of a
    program with threads may hang.
    """

    def __init__(self, max_workers: int = 10, pool_kwargs: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.max_workers = _checked_workers(max_workers)
        self._options = dict(pool_kwargs or {})
        self._options.setdefault("mp_context", multiprocessing.get_context("spawn"))
        self._waiting: deque[tuple[Job, Sequence[datetime]]] = deque()
        self._free: list[concurrent.futures.ProcessPoolExecutor] = []
        self._dead: list[concurrent.futures.ProcessPoolExecutor] = []
        self._busy = 0
        self._open = False
        self._settled = threading.Condition(self._mutex)
        # Whether a shutdown waits, which will end the processes.
        self._awaited = False
        # How many runs this thread is telling the listeners of; these may call `shutdown`.
        self._telling = threading.local()

    def start(self, scheduler: BaseScheduler, alias: str) -> None:
        """Begin to take jobs; a process is started when it is first needed."""
        super().start(scheduler, alias)
        self._open = True

    def _do_submit_job(self, job: Job, run_times: Sequence[datetime]) -> None:
        with self._mutex:
            if not self._open:
                raise RuntimeError("the process pool has been shut down")
            self._waiting.append((job, run_times))
        self._feed()

    def _feed(self) -> None:
        """Give waiting jobs to free processes."""
        while True:
            with self._mutex:
                if not self._waiting or self._busy >= self.max_workers:
                    return
                job, run_times = self._waiting.popleft()
                pool = self._free.pop() if self._free else self._new_pool()
                self._busy += 1
            self._run_next(pool, job, deque(run_times))

    def _new_pool(self) -> concurrent.futures.ProcessPoolExecutor:
        return concurrent.futures.ProcessPoolExecutor(1, **self._options)

    def _run_next(
        self, pool: concurrent.futures.ProcessPoolExecutor, job: Job, times: deque[datetime]
    ) -> None:
        """Begin the first of the run times that is not too late; `_ended` goes on from there."""
        while times:
            run_time = times.popleft()
            with self._reporting():
                start = self.begin(job, run_time)
            if start is None:
                continue
            try:
                pool, call = self._submit(pool, job)
            except Exception as error:
                with self._reporting():
                    self.fail(job, run_time, start, error)
                continue
            call.add_done_callback(partial(self._ended, pool, job, run_time, start, times))
            return
        idle = []
        with self._mutex:
            self._busy -= 1
            self._free.append(pool)
            if not (self._open or self._waiting or self._awaited):
                idle, self._free = self._free, []
            self._settled.notify_all()
        for each in idle:
            each.shutdown(wait=False)
        self.release(job)
        self._feed()

    def _submit(
        self, pool: concurrent.futures.ProcessPoolExecutor, job: Job
    ) -> tuple[concurrent.futures.ProcessPoolExecutor, concurrent.futures.Future[Any]]:
        func, args, kwargs = job.call()
        call: tuple[Any, ...] = (
            _call,
            func,
            args,
            dict(kwargs),
        )  # a read-only mapping can't be pickled
        try:
            return pool, pool.submit(*call)
        except BrokenProcessPool:  # its process died while it had nothing to do
            pool = self._replacement(pool)
            return pool, pool.submit(*call)

    def _replacement(
        self, dead: concurrent.futures.ProcessPoolExecutor
    ) -> concurrent.futures.ProcessPoolExecutor:
        """Make a pool in the place of one whose process has died.

        Python calls us while it holds the lock of the dead one, which must neither be shut down
        here nor be dropped before that is over: both would hang.
        """
        self._logger.warning("A process of the pool has died; starting another")
        try:
            threading.Thread(target=dead.shutdown, name="tocsin-dead-pool", daemon=True).start()
        except RuntimeError:  # the interpreter ends
            self._dead.append(dead)
        return self._new_pool()

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        self._telling.runs = getattr(self._telling, "runs", 0) + 1
        try:
            yield
        finally:
            self._telling.runs -= 1

    def _ended(
        self,
        pool: concurrent.futures.ProcessPoolExecutor,
        job: Job,
        run_time: datetime,
        start: int,
        times: deque[datetime],
        call: concurrent.futures.Future[tuple[BaseException | None, str | None, Any]],
    ) -> None:
        """Report how a run ended; called in a thread of its pool."""
        error = call.exception()
        with self._reporting():
            if error is not None:
                self.fail(job, run_time, start, error)
            else:
                problem, trace, retval = call.result()
                if problem is None:
                    self.succeed(job, run_time, start, retval)
                else:
                    self.fail(job, run_time, start, problem, trace)
        if isinstance(error, BrokenProcessPool):
            pool = self._replacement(pool)
        self._run_next(pool, job, times)

    def shutdown(self, wait: bool = True) -> None:
        """Take no more jobs; with ``wait`` return when those that run or wait have ended.

        Without, those that wait are dropped, each with an error event. A run whose event's
        listener calls this is not waited for.
        """
        mine = getattr(self._telling, "runs", 0)
        with self._mutex:
            self._open = False
            dropped: Sequence[tuple[Job, Sequence[datetime]]] = ()
            if wait:
                self._awaited = True
                self._settled.wait_for(
                    lambda: self._busy <= mine and (not self._waiting or mine >= self.max_workers)
                )
                self._awaited = False
            else:
                dropped, self._waiting = self._waiting, deque()
            pools, self._free = self._free, []
        for job, run_times in dropped:
            self.drop(job, run_times, RuntimeError("the process pool was shut down"))
        for pool in pools:
            pool.shutdown(wait)

    def after_fork(self) -> None:
        """Forget, in a forked child, the processes that only its parent has."""
        super().after_fork()
        self._settled = threading.Condition(self._mutex)
        self._waiting.clear()
        self._free = []
        self._busy = 0
        self._open = False


def _call(
    func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[BaseException | None, str | None, Any]:
    """Call a job in the child process; give what it raised, with its traceback, or returned."""
    try:
        retval = func(*args, **kwargs)
        if iscoroutine(retval):
            retval = asyncio.run(retval)
    except BaseException as error:
        return _portable(error), "".join(traceback.format_exception(error)), None
    return None, None, retval


def _portable(error: BaseException) -> BaseException:
    """Give an exception that survives pickling: itself, or its text."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
