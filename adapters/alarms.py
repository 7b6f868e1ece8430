"""What wakes a scheduler that lives in an event loop: a timer of the kernel's, or of the loop's."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
import time
from collections.abc import Callable
from functools import cache
from math import ceil
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from tocsin.adapters.callback import CallbackScheduler

_NANOSECONDS = 1_000_000_000
# From Linux's sys/timerfd.h; Python has a timerfd from 3.13 on only.
_TFD_TIMER_ABSTIME = 1
_TFD_TIMER_CANCEL_ON_SET = 2
#: Has a call of a scheduler made whenever a file can be read; gives what ends that.
Watch = Callable[[int, Callable[[], None]], Callable[[], object]]


class Alarm(Protocol):
    """What has a scheduler look at its jobs after a while; used in the thread of its loop."""

    def set(self, delay: float) -> None:
        """Go off after some seconds, and go on until it is cleared or set anew."""

    def clear(self) -> None:
        """Do not go off."""

    def close(self) -> None:
        """Never go off again; in a forked child as well, whose parent's goes on."""


class LoopAlarm:
    """A timer of the loop, as punctual as the loop is."""

    def __init__(self, scheduler: CallbackScheduler) -> None:
        self._scheduler = scheduler
        self._timer: Any = None

    def set(self, delay: float) -> None:
        """Go off after some seconds."""
        self.clear()
        self._timer = self._scheduler._call_later(delay, self._scheduler._tick)

    def clear(self) -> None:
        """Do not go off."""
        timer, self._timer = self._timer, None
        if timer is not None:
            self._scheduler._cancel(timer)

    close = clear


class KernelAlarm:
    """A timer of Linux's (timerfd), which is a file that the loop watches among its others.

    Most loops count milliseconds, and so go off one late; this one is as punctual as the kernel.
    It goes off as well when the clock of the computer is set, or has jumped while the computer
    slept. ``watch`` has the loop call ``function`` whenever a file can be read.

    Raises OSError where there is no such timer, and what ``watch`` raises.
    """

    _file = -1

    def __init__(self, watch: Watch, function: Callable[[], None]) -> None:
        self._set = False
        self._value = (ctypes.c_long * 4)()  # its interval and its time: seconds, nanoseconds
        self._settime = _library().timerfd_settime
        self._file = _library().timerfd_create(time.CLOCK_REALTIME, os.O_CLOEXEC | os.O_NONBLOCK)
        if self._file < 0:
            _check(ctypes.get_errno())
        self._unwatch = watch(self._file, function)

    def set(self, delay: float) -> None:
        """Go off after some seconds."""
        self._set = True
        instant = time.time_ns() + ceil(delay * _NANOSECONDS)
        self._value[2:] = list(divmod(instant, _NANOSECONDS))
        flags = _TFD_TIMER_ABSTIME | _TFD_TIMER_CANCEL_ON_SET
        if self._settime(self._file, flags, self._value, None):
            # Where it says that the clock was set since the last call, it did what it was told.
            _check(ctypes.get_errno(), errno.ECANCELED)

    def clear(self) -> None:
        """Do not go off."""
        if self._set:
            self._value[2:] = [0, 0]
            self._settime(self._file, 0, self._value, None)
            self._set = False  # not before: Ctrl-C may strike, and it would go off for ever

    def close(self) -> None:
        """Never go off again; the timer itself, which a child shares, is left as it is."""
        self._unwatch()
        self._close_file()

    def __del__(self) -> None:
        self._close_file()

    def _close_file(self, close: Callable[[int], None] = os.close) -> None:  # known to the last
        file, self._file = self._file, -1
        if file >= 0:
            close(file)


def _check(number: int, harmless: int = 0) -> None:
    if number != harmless:
        raise OSError(number, f"the timer of the scheduler: {os.strerror(number)}")


@cache
def _library() -> Any:
    """Give the system's library; OSError if it has no timer of the kind, or one of another form."""
    # Where a long has 32 bits the parts of a time may have 64, or not.
    if sys.platform != "linux" or ctypes.sizeof(ctypes.c_long) != 8:
        raise OSError("there is no timerfd here")
    library = ctypes.CDLL(None, use_errno=True)
    if not hasattr(library, "timerfd_settime"):
        raise OSError("the system's library has no timerfd")
    integer, pointer = ctypes.c_int, ctypes.c_void_p
    library.timerfd_settime.argtypes = (integer, integer, pointer, pointer)
    return library
