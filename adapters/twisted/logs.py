"""What tocsin logs, in Twisted's log."""

from __future__ import annotations

import logging
from types import TracebackType
from typing import Any, ClassVar

from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure


class Forwarding(logging.Handler):
    """Pass what tocsin logs on to Twisted's log, under the same names, while schedulers run."""

    _levels: ClassVar[Any] = {
        logging.DEBUG: LogLevel.debug,
        logging.INFO: LogLevel.info,
        logging.WARNING: LogLevel.warn,
        logging.ERROR: LogLevel.error,
        logging.CRITICAL: LogLevel.critical,
    }

    def __init__(self) -> None:
        super().__init__()
        self._users: dict[str, int] = {}

    def attach(self, name: str) -> None:
        """Begin, for one more scheduler whose loggers' names begin with ``name``."""
        self._users[name] = self._users.get(name, 0) + 1
        logging.getLogger(name).addHandler(self)

    def detach(self, name: str) -> None:
        """End, for one scheduler."""
        self._users[name] -= 1
        if not self._users[name]:
            logging.getLogger(name).removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Pass a record on; with the failure of a job, or what else was raised."""
        message = record.getMessage()
        details: dict[str, Any] = {}
        error = getattr(record, "error", None)
        if isinstance(error, BaseException) and error.__traceback__ is not None:
            message = message.partition("\n")[0]
            details["log_failure"] = _failure(error, error.__traceback__)
        elif record.exc_info and record.exc_info[1] is not None:
            details["log_failure"] = _failure(record.exc_info[1], record.exc_info[2])
        level = max((each for each in self._levels if each <= record.levelno), default=10)
        Logger(namespace=record.name).emit(
            self._levels[level], "{message}", message=message, log_time=record.created, **details
        )


def _failure(error: BaseException, traceback: TracebackType | None) -> Failure:
    return Failure(error, type(error), traceback)


#: The one for all schedulers.
forward = Forwarding()
