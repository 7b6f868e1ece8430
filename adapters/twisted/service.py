"""The scheduler as a service of an application."""

from __future__ import annotations

from typing import Any

from twisted.application.service import IService, Service
from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from tocsin.adapters.twisted.scheduler import TwistedScheduler, checked_timeout
from tocsin.scheduler import STATE_STOPPED


@implementer(IService)
class SchedulerService(Service):
    """A scheduler as a service of `twisted.application`.

    It starts with the service. ``stopService`` gives a Deferred that fires when the running jobs
    have ended; ``timeout``, in seconds, is the scheduler's ``stop_timeout`` unless given.
    """

    def __init__(self, scheduler: TwistedScheduler, timeout: float | None = None) -> None:
        if not isinstance(scheduler, TwistedScheduler):
            raise TypeError(f"scheduler: a TwistedScheduler is needed, not {scheduler!r}")
        self.scheduler: TwistedScheduler | None = scheduler
        if timeout is not None:
            # The reactor's end, which may come first, waits for the jobs as well.
            scheduler.stop_timeout = checked_timeout(timeout)

    def startService(self) -> None:  # noqa: N802
        """Start the scheduler; raises what `TwistedScheduler.start` raises."""
        if self.scheduler is None:
            raise RuntimeError(
                "a scheduler can't be saved with its application; run the .tac file or the plug-in"
                " that made it"
            )
        self.scheduler.start()
        super().startService()  # type: ignore[no-untyped-call]

    def stopService(self) -> Deferred[None]:  # noqa: N802
        """Stop the scheduler; the Deferred fires when the running jobs have ended."""
        super().stopService()  # type: ignore[no-untyped-call]
        scheduler = self.scheduler
        if scheduler is None:
            return succeed(None)
        if scheduler.state == STATE_STOPPED:
            return scheduler.closed()
        return scheduler.shutdown(timeout=scheduler.stop_timeout)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the scheduler out of what ``twistd`` saves of an application at its end."""
        return {**super().__getstate__(), "scheduler": None}  # type: ignore[no-untyped-call]
