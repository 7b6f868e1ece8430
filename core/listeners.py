"""Who is told of events."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from threading import Lock
from typing import Any

from tocsin.callables import runs_coroutine
from tocsin.events import SchedulerEvent

Listener = Callable[[Any], Any]


class Listeners:
    """The listeners of a scheduler, each with the mask of the events that it wants.

    They are called in the thread where the event happens, in the order in which they were
    added; what one raises is logged and keeps nobody else from being told. ``start_coroutine``
    is given what a coroutine function returns.
    """

    def __init__(self, start_coroutine: Callable[[Coroutine[Any, Any, Any]], None]) -> None:
        self._lock = Lock()
        self._listeners: tuple[tuple[Listener, int, bool], ...] = ()
        self._start_coroutine = start_coroutine
        self.logger = logging.getLogger(__name__)
        #: The events that anybody wants.
        self.mask = 0

    def add(self, callback: Listener, mask: int) -> None:
        """Add a listener; TypeError for what can't be called."""
        if not callable(callback):
            raise TypeError(f"callback: {callback!r} can't be called")
        with self._lock:
            self._set((*self._listeners, (callback, mask, runs_coroutine(callback))))

    def remove(self, callback: Listener) -> None:
        """Take a listener out, if it is there."""
        with self._lock:
            self._set(tuple(each for each in self._listeners if each[0] != callback))

    def _set(self, listeners: tuple[tuple[Listener, int, bool], ...]) -> None:
        self._listeners = listeners
        self.mask = 0
        for _, mask, _ in listeners:
            self.mask |= mask

    def tell(self, event: SchedulerEvent) -> None:
        """Call all that want an event; no lock is held."""
        for callback, mask, is_coroutine in self._listeners:
            if event.code & mask:
                try:
                    called = callback(event)
                    if is_coroutine:
                        self._start_coroutine(self._listen(callback, called))
                except Exception:
                    self.logger.exception("Error notifying listener %r", callback)

    async def _listen(self, callback: Listener, called: Coroutine[Any, Any, Any]) -> None:
        try:
            await called
        except Exception:
            self.logger.exception("Error notifying listener %r", callback)

    def after_fork(self) -> None:
        """Make the lock anew in a forked child, where whoever held it is gone."""
        self._lock = Lock()


_tasks: set[asyncio.Task[Any]] = set()  # an event loop keeps only weak references


def run_coroutine_here(coroutine: Coroutine[Any, Any, Any]) -> None:
    """Run a coroutine as a task of this thread's event loop; without one, to its end."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(coroutine)
    else:
        task = loop.create_task(coroutine)
        _tasks.add(task)
        task.add_done_callback(_tasks.discard)
