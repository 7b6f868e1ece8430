"""What a scheduler has claimed of a store that it shares with others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from tocsin.job import Job


class Settles(Protocol):
    """A store that is told when the runs of a claim have ended, or can't begin yet."""

    def settle(self, claim: Claim) -> None:
        """Take note that the runs of a claim have ended, or will never begin."""

    def put_off(self, job: Job) -> None:
        """Offer the runs of a job's claim again later, for they can't begin now."""


class Claim:
    """The right to start the runs of one job; the handle of the jobs that a shared store gives.

    ``fence`` is the fencing token: it grows with every claim of the job, and the store refuses
    what is asked with an old one. ``elsewhere`` counts the instances of the job that ran in
    other schedulers when it was claimed. ``times`` are the run times that were recorded when
    the job was advanced; they are the store's until they are settled. ``record`` is what the
    job was read from, where its runs are to be had at least once; None otherwise.
    """

    __slots__ = ("elsewhere", "fence", "job_id", "record", "settled", "store", "taken", "times")

    def __init__(
        self,
        store: Settles,
        job_id: str,
        fence: int,
        elsewhere: int,
        taken: float,
        record: str | None = None,
    ) -> None:
        self.store = store
        self.job_id = job_id
        self.fence = fence
        self.elsewhere = elsewhere
        #: When it was asked for, in seconds that have elapsed: its lease counts from then.
        self.taken = taken
        self.times: Sequence[int] = ()
        self.record = record
        self.settled = False

    def settle(self) -> None:
        """Say that its runs have ended, or will never begin; the second time does nothing."""
        if self.times and not self.settled:
            self.settled = True
            self.store.settle(self)

    def leave(self) -> None:
        """Leave its runs to others: they are not settled when they end, for they are cut short."""
        self.settled = True


class Loss(Claim):
    """Runs that are lost, and this scheduler's to tell of; they are settled when it has done so.

    They were taken over from ``member``, who is gone. ``told`` is set when the telling has begun:
    a loss that was not is left to others when the scheduler stops.
    """

    __slots__ = ("member", "told")

    def __init__(
        self, store: Settles, job_id: str, fence: int, times: Sequence[int], member: str
    ) -> None:
        super().__init__(store, job_id, fence, 0, 0.0)
        self.times = times
        self.member = member
        self.told = False


@dataclass(frozen=True)
class Recovered:
    """Runs that their scheduler has not settled: it is gone, or could not learn that they are its.

    With a ``job`` they are to be started now, by whoever was given this; without one they are
    lost, for ``reason``, and ``loss`` is to be settled when that was told of.
    """

    job_id: str
    times: Sequence[int]
    job: Job | None
    reason: str
    loss: Loss | None = None
