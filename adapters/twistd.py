"""What ``twistd tocsin`` does: the options, and the service that they describe."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any, ClassVar

from twisted.python.usage import Options as BaseOptions
from twisted.python.usage import UsageError

from tocsin import schedulefile
from tocsin.adapters.twisted import SchedulerService, TwistedScheduler
from tocsin.callables import ref_to_obj

__all__ = ["Options", "makeService"]

_LEVELS = ("debug", "info", "warning", "error", "critical")


class Options(BaseOptions):
    """The options of ``twistd tocsin``; what they name is loaded when they are read."""

    synopsis = "[options]"
    longdesc = (
        "Runs a scheduler until the process is told to stop; it then waits for the running jobs."
        " Give --app or --file."
    )
    optParameters: ClassVar[Any] = [  # noqa: N815
        ["app", "a", None, "A TwistedScheduler, as module:name."],
        ["file", "f", None, "A TOML file with the table [tocsin] and jobs as [[job]]."],
        ["log-level", "l", "info", f"What goes to the log: {', '.join(_LEVELS)}."],
        ["stop-timeout", "t", None, "Seconds to wait for running jobs at the end, or inf.  [30]"],
    ]

    scheduler: TwistedScheduler

    def postOptions(self) -> None:  # noqa: N802
        """Make the scheduler; UsageError when that is not possible."""
        if (self["app"] is None) == (self["file"] is None):
            raise UsageError("give either --app module:name or --file schedule.toml")
        if self["log-level"] not in _LEVELS:
            raise UsageError(f"--log-level: {self['log-level']!r} is none of {', '.join(_LEVELS)}")
        if os.getcwd() not in sys.path:  # where an application is looked for first
            sys.path.insert(0, os.getcwd())
        option = "app" if self["file"] is None else "file"
        try:
            self.scheduler = _load(self["app"]) if option == "app" else _read(self["file"])
        except (LookupError, OSError, TypeError, ValueError) as error:
            raise UsageError(f"--{option}: {error}") from error
        if self["stop-timeout"] is not None:
            try:
                self.service = SchedulerService(self.scheduler, float(self["stop-timeout"]))
            except ValueError as error:
                raise UsageError(f"--stop-timeout: {error}") from error
        else:
            self.service = SchedulerService(self.scheduler)


def _load(reference: str) -> TwistedScheduler:
    found = ref_to_obj(reference)
    if not isinstance(found, TwistedScheduler):
        raise TypeError(f"{reference} is {found!r}, and not a TwistedScheduler")
    return found


def _read(path: str) -> TwistedScheduler:
    schedule = schedulefile.load(path)
    scheduler = TwistedScheduler(schedule.settings, prefix=None)
    schedule.add_to(scheduler)
    return scheduler


def makeService(options: Options) -> SchedulerService:  # noqa: N802
    """Make the service of ``twistd``'s plug-in."""
    logging.getLogger("tocsin").setLevel(options["log-level"].upper())
    options.service.setName("tocsin")  # type: ignore[no-untyped-call]
    return options.service
