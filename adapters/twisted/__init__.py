"""The scheduler, the executor and the service of Twisted."""

from __future__ import annotations

try:
    from tocsin.adapters.twisted.executor import TwistedExecutor
    from tocsin.adapters.twisted.scheduler import TwistedScheduler
    from tocsin.adapters.twisted.service import SchedulerService
except ModuleNotFoundError as error:
    # Without Twisted there still is a package of that name: its plug-ins, tocsin's among them.
    if (error.name or "").partition(".")[0] != "twisted":
        raise
    raise ModuleNotFoundError(
        "tocsin.adapters.twisted needs Twisted: pip install tocsin[twisted]", name=error.name
    ) from error

__all__ = ["SchedulerService", "TwistedExecutor", "TwistedScheduler"]
