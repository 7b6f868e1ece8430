"""The scheduler that runs in a thread of its own."""

from __future__ import annotations

import atexit
from threading import Thread, current_thread
from typing import Any, ClassVar

from tocsin.adapters.blocking import BlockingScheduler
from tocsin.convert import as_bool
from tocsin.scheduler import STATE_STOPPED, BaseScheduler

__all__ = ["BackgroundScheduler"]


class BackgroundScheduler(BlockingScheduler):
    """Run in a thread of its own, beside whatever the program does.

    With ``daemon=True`` (the default) the thread does not keep the program from ending; the
    end of the program shuts the scheduler down and waits for the jobs that run. With
    ``daemon=False`` the program goes on until `shutdown`.
    """

    extra_options: ClassVar[Any] = {"daemon": as_bool}

    _thread: Thread | None = None

    def _configure(self, options: Any) -> None:
        self._daemon: bool = options.get("daemon", True)
        self.outlives_main_thread = not self._daemon

    def start(self, paused: bool = False) -> None:
        """Start the thread; see `BaseScheduler.start`."""
        BaseScheduler.start(self, paused)
        self._thread = Thread(target=self._main_loop, name="tocsin", daemon=self._daemon)
        self._thread.start()
        if self._daemon:
            # After the executors' own: the last to register is the first to be called.
            atexit.register(self._exit)

    def _exit(self) -> None:
        if self.state != STATE_STOPPED:
            self.shutdown()

    def _stop_timer(self) -> None:
        super()._stop_timer()
        atexit.unregister(self._exit)
        thread, self._thread = self._thread, None
        if thread is not None and thread is not current_thread():
            thread.join()

    def __enter__(self) -> BackgroundScheduler:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.state != STATE_STOPPED:
            self.shutdown()
