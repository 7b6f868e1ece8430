"""The scheduler and the executor of gevent."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from tocsin.adapters.callback import CallbackScheduler
from tocsin.callables import get_callable_name, runs_coroutine
from tocsin.events import EVENT_ALL
from tocsin.executors import BaseExecutor, moment_of
from tocsin.scheduler import STATE_STOPPED

try:
    import gevent
    from gevent import GreenletExit, getcurrent, monkey
    from gevent.event import Event
    from gevent.pool import Pool
except ImportError as error:
    raise ImportError(
        f"this needs gevent, which can't be imported ({error}): pip install tocsin[gevent]"
    ) from error

if TYPE_CHECKING:
    from tocsin.job import Job
    from tocsin.scheduler import BaseScheduler
    from tocsin.stores.base import BaseJobStore

__all__ = ["GeventExecutor", "GeventScheduler"]

_Self = TypeVar("_Self", bound="GeventScheduler")

# Of the operating system's threads: monkey patching puts those of greenlets in their places.
_get_ident: Callable[[], int] = monkey.get_original("_thread", "get_ident")
_allocate_lock: Callable[[], Any] = monkey.get_original("_thread", "allocate_lock")


def _is_here(hub: Any) -> bool:
    """Tell whether this is the thread of a hub."""
    return bool(hub.thread_ident == _get_ident())


def _call_soon(hub: Any, function: Callable[[], Any]) -> None:
    """Call a function in a greenlet of a hub; from any thread."""
    if _is_here(hub):
        gevent.spawn(function)
    else:
        hub.loop.run_callback_threadsafe(gevent.spawn, function)


def _call_from_afar(hub: Any, function: Callable[[], None]) -> None:
    """Call a function in a greenlet of another thread's hub, and wait for its end."""
    ended = _allocate_lock()
    ended.acquire()
    problems: list[BaseException] = []

    def call() -> None:
        try:
            function()
        except BaseException as error:
            problems.append(error)
        finally:
            ended.release()

    _call_soon(hub, call)
    ended.acquire()
    if problems:
        raise problems[0]


def _refuse_hub(hub: Any, call: str) -> None:
    if getcurrent() is hub:
        raise RuntimeError(
            f"{call}() may have to wait, which a callback of the hub can't: spawn a greenlet for"
            f" it there, gevent.spawn(scheduler.{call})"
        )


class _Deadline:
    """So many seconds from now on, or no limit."""

    def __init__(self, timeout: float | None) -> None:
        self._end = None if timeout is None else time.monotonic() + timeout

    def left(self) -> float | None:
        """Give the seconds that are left, as gevent takes them."""
        return None if self._end is None else max(self._end - time.monotonic(), 0.0)

    def over(self) -> bool:
        """Tell whether the time is over."""
        return self.left() == 0.0


class GeventScheduler(CallbackScheduler):
    """Run in greenlets of the hub of the thread that calls `start`.

    Nothing need be monkey patched. Jobs run in greenlets, and listeners in those where their
    events happen. The calls of a store that blocks are made in the hub's thread pool, while the
    greenlet that makes them waits.
    """

    _hub: Any = None
    _greenlet: gevent.Greenlet | None = None
    _stepper: Any = None
    _timeout: float | None = None

    def start(self, paused: bool = False) -> gevent.Greenlet[..., Any]:
        """Start, and give a greenlet that ends when the scheduler has been shut down.

        To kill it is to shut the scheduler down without waiting. Raises RuntimeError in a
        callback of the hub, and what `BaseScheduler.start` raises.
        """
        if self.state == STATE_STOPPED and not self._starting:
            hub = gevent.get_hub()
            _refuse_hub(hub, "start")
            self._hub = hub
            self._stopped = Event()
        super().start(paused)
        self._greenlet = gevent.spawn(self._stand)
        self._greenlet.link(self._ended)
        return self._greenlet

    def _stand(self) -> None:
        """Last as long as the scheduler runs."""
        # A loop without timers, like that of a scheduler without jobs, counts as deadlocked.
        anchor = self._hub.loop.async_()
        anchor.start(lambda: None)
        try:
            self._stopped.wait()
        finally:
            anchor.close()

    def _ended(self, greenlet: gevent.Greenlet) -> None:
        if greenlet is self._greenlet and self.state != STATE_STOPPED:
            self.shutdown(wait=False)

    def shutdown(self, wait: bool = True, timeout: float | None = None) -> None:
        """Stop, and with ``wait`` return when the running jobs have ended.

        Those that have not after ``timeout`` seconds are killed, as they are at once without
        ``wait``. A job that calls this is spared, and is not waited for. Raises
        SchedulerNotRunningError, and RuntimeError in a callback of the hub.
        """
        if self.state != STATE_STOPPED:
            if not _is_here(self._hub):
                _call_from_afar(self._hub, partial(self.shutdown, wait, timeout))
                return
            _refuse_hub(self._hub, "shutdown")
            self._timeout = timeout
        super().shutdown(wait)
        if self._greenlet is not None:
            self._greenlet.join()

    def _close(self, wait: bool) -> None:
        try:
            if wait:
                self._wait_for_jobs(self._timeout)
        finally:
            super()._close(False)
            self._stopped.set()

    def _wait_for_jobs(self, timeout: float | None) -> None:
        deadline = _Deadline(timeout)
        if self._stepping() and self._stepper is not getcurrent():
            self._stepper.join(deadline.left())
        for executor in self._executors.values():
            if isinstance(executor, GeventExecutor):
                executor.shutdown(True, deadline.left())
            elif monkey.is_module_patched("threading"):  # its threads are greenlets
                gevent.spawn(executor.shutdown, True).join(deadline.left())
            else:
                self._hub.threadpool.spawn(executor.shutdown, True).wait(deadline.left())

    def _process_jobs(self) -> float | None:
        self._stepper = getcurrent()
        try:
            return super()._process_jobs()
        finally:
            self._stepper = None

    def _stepping(self) -> bool:
        return self._stepper is not None

    def _call_later(self, delay: float, function: Callable[[], None]) -> Any:
        timer = self._hub.loop.timer(delay)
        timer.start(gevent.spawn, function)
        return timer

    def _cancel(self, timer: Any) -> None:
        timer.close()

    def _watch(self, file: int, function: Callable[[], None]) -> Callable[[], object]:
        watcher = self._hub.loop.io(file, 1)
        watcher.start(gevent.spawn, function)
        return watcher.close  # type: ignore[no-any-return]

    def _call_soon(self, function: Callable[[], None]) -> None:
        _call_soon(self._hub, function)

    def _in_loop(self, function: Callable[[], None]) -> None:
        function()  # `shutdown` sees to it that this is the hub's thread

    def add_listener(self, callback: Callable[[Any], Any], mask: int = EVENT_ALL) -> None:
        """Call a function for each event that the mask has; see `BaseScheduler.add_listener`.

        Raises TypeError for a coroutine function.
        """
        if runs_coroutine(callback):
            raise TypeError(
                f"callback: {get_callable_name(callback)} is a coroutine function, which needs an"
                f" event loop of asyncio; a {type(self).__name__} has none: give a plain function"
            )
        super().add_listener(callback, mask)

    def _plugin(self, kind: str, given: Any, options: dict[str, Any]) -> Any:
        made = super()._plugin(kind, given, options)
        if kind != "stores" or not made.blocking:
            return made
        if made.python_sockets and monkey.is_module_patched("socket"):
            return made
        return _OffHub(made, self)

    def report_store_error(self, alias: str, error: Exception, retry_in: float) -> None:
        """Say by event and log that a store failed at one job, on the hub; for stores."""
        report = super().report_store_error
        _call_soon(self._hub, lambda: report(alias, error, retry_in))

    def _create_default_executor(self) -> BaseExecutor:
        return GeventExecutor()

    def _after_fork(self) -> None:
        alarm = self._alarm
        super()._after_fork()
        if _is_here(self._hub):
            if alarm is not None:
                alarm.close()
            self._stopped.set()

    def __enter__(self: _Self) -> _Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.state != STATE_STOPPED:
            self.shutdown()


class _OffHub:
    """A store whose calls are made in the hub's thread pool, while the calling greenlet waits."""

    blocking = False

    def __init__(self, store: BaseJobStore, scheduler: GeventScheduler) -> None:
        self._store = store
        self._scheduler = scheduler

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        return partial(self._call, found) if callable(found) else found

    def _call(self, function: Callable[..., Any], *args: Any) -> Any:
        hub = self._scheduler._hub
        if hub is None or not _is_here(hub) or getcurrent() is hub:
            return function(*args)
        call = hub.threadpool.spawn(_outcome, function, args)
        try:
            result, error = call.get()
        except BaseException:
            # We were interrupted, the call was not: what it changes may be due soon.
            call.rawlink(lambda _: self._scheduler.wakeup())
            raise
        if error is not None:
            raise error
        return result

    def after_fork(self) -> None:
        """Have no thread do this: a forked child has none."""
        self._store.after_fork()

    def __repr__(self) -> str:
        return repr(self._store)


def _outcome(
    function: Callable[..., Any], args: tuple[Any, ...]
) -> tuple[Any, BaseException | None]:
    """Call a function; an error is handed on, for the thread pool would print it."""
    try:
        return function(*args), None
    except BaseException as error:
        return None, error


class GeventExecutor(BaseExecutor):
    """Run jobs in a pool of at most ``size`` greenlets of the hub; None for no limit.

    ``when_full`` says what becomes of a run that comes when all are busy: with ``"queue"`` (the
    default) it waits its turn, with ``"reject"`` it is dropped, with an error event.

    `gevent.GreenletExit` and `gevent.Timeout` in a job are the errors of its runs. Ctrl-C and
    SystemExit go on to the main greenlet, as gevent has it.
    """

    runs_coroutines = False
    #: A shutdown that does not wait cuts runs short: those at least once are left to others.
    cancels = True

    def __init__(self, size: int | str | None = 1000, when_full: str = "queue") -> None:
        super().__init__()
        self.size = None if size is None else int(size)
        if self.size is not None and self.size < 1:
            raise ValueError(f"size: {size!r} is less than 1; give None for no limit")
        if when_full not in ("queue", "reject"):
            raise ValueError(f"when_full: {when_full!r} is neither 'queue' nor 'reject'")
        self.when_full = when_full
        self._open = False
        self._make_pool()

    def _make_pool(self) -> None:
        self._pool = Pool(self.size)
        self._waiting: deque[tuple[Job, Sequence[datetime | int]]] = deque()
        # The greenlet that will take from the queue, but has not begun.
        self._follower: gevent.Greenlet | None = None

    def start(self, scheduler: BaseScheduler, alias: str) -> None:
        """Begin, on the hub of the scheduler, or else of this thread."""
        super().start(scheduler, alias)
        self._hub = getattr(scheduler, "_hub", None) or gevent.get_hub()
        self._open = True

    def submit_jobs(
        self,
        runs: Iterable[tuple[Job, Sequence[int]]],
        refused: Callable[[Job, Sequence[int], Exception], object],
    ) -> None:
        """Submit many jobs; see `BaseExecutor.submit_jobs`."""
        try:
            self._submit_here(runs, refused, self._enqueue)
        finally:
            self._feed_soon()

    def _do_submit_job(self, job: Job, run_times: Sequence[datetime]) -> None:
        self._enqueue(job, run_times, False)
        self._feed_soon()

    def _enqueue(self, job: Job, run_times: Sequence[datetime | int], watched: bool) -> bool:
        """Have a run wait for a greenlet, which releases it."""
        if not self._open:
            raise RuntimeError("the pool of greenlets has been shut down")
        if self.size is not None and self.when_full == "reject":
            busy = len(self._pool) - (self._follower is not None)
            if busy + len(self._waiting) >= self.size:
                raise RuntimeError(f"all {self.size} greenlets of the pool are busy")
        self._waiting.append((job, run_times))
        return False

    def _feed_soon(self) -> None:
        if _is_here(self._hub):
            self._feed()
        else:
            self._hub.loop.run_callback_threadsafe(self._feed)

    def _feed(self) -> None:
        """Start a greenlet for the runs that wait, if there is room; it starts the next one."""
        if self._waiting and self._follower is None and not self._pool.full():
            self._follower = self._pool.spawn(self._work)
            self._follower.rawlink(self._ended)

    def _ended(self, greenlet: gevent.Greenlet) -> None:
        if greenlet is self._follower:  # it was killed before it began
            self._follower = None
        self._feed()

    def _work(self) -> None:
        """Run a job; and, as long as jobs do not wait, those that come after it.

        A greenlet costs more than a short job. One that waited has let its follower begin, so
        that two runs share a greenlet only if the first of them never left it.
        """
        self._follower = None
        enough = time.monotonic() + sys.getswitchinterval()  # then other greenlets have a turn
        while self._waiting:
            job, run_times = self._waiting.popleft()
            self._feed()
            follower: Any = self._follower
            left = iter(run_times)
            try:
                self.run(job, left)
            except BaseException as error:
                for run_time in left:
                    self.fail(job, moment_of(job, run_time), None, error)
                if isinstance(error, GreenletExit):
                    return
                raise
            if follower is None or self._follower is not follower or time.monotonic() > enough:
                return

    def interrupted(self, error: BaseException) -> None:
        """End the greenlet for what is meant for it or for the program, but not for a timeout."""
        if isinstance(error, (GreenletExit, KeyboardInterrupt, SystemExit)):
            raise error

    def wait_for(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Refuse what a job gave: RuntimeError."""
        coroutine.close()
        raise RuntimeError(
            f"{coroutine!r} can't run in a greenlet: asyncio's loop would stop the hub; give the"
            " job a ThreadPoolExecutor"
        )

    def shutdown(self, wait: bool = True, timeout: float | None = None) -> None:
        """Take no more jobs; with ``wait`` return when those that run or wait have ended.

        After ``timeout`` seconds, or at once without ``wait``, those that run are killed, and
        those that wait are dropped, each with an error event. A killed job has as much time
        again to end, then it is left alone. A job that calls this is spared.
        """
        if not self._open and not self._pool and not self._waiting:
            return
        self._open = False
        if not _is_here(self._hub):
            end = partial(self._end, wait, timeout)
            if wait:
                _call_from_afar(self._hub, end)
            else:
                _call_soon(self._hub, end)
        else:
            self._end(wait, timeout)

    def _end(self, wait: bool, timeout: float | None) -> None:
        if getcurrent() in self._pool:  # a job; its place is another one's now
            self._pool.discard(getcurrent())
            self._feed()
        deadline = _Deadline(timeout)
        while wait and (self._pool or self._waiting) and not deadline.over():
            self._pool.join(deadline.left())
        dropped, self._waiting = self._waiting, deque()
        for job, run_times in dropped:
            error = RuntimeError("the pool of greenlets was shut down")
            self.drop(job, [moment_of(job, each) for each in run_times], error)
        self._pool.kill(block=wait, timeout=timeout)

    def after_fork(self) -> None:
        """Forget, in a forked child, the greenlets: those there are copies of the parent's."""
        super().after_fork()
        self._make_pool()
        self._open = False
