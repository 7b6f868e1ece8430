"""What the stores have in common that keep a job, and its runs in it, in a document."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from tocsin.claims import Claim
from tocsin.stores.rows import ClaimedRow, OrphanedRuns, Row, RowJobStore
from tocsin.stores.shared import elapsed

__all__ = ["DocumentJobStore", "claimed_row"]


def claimed_row(row: Row, document: Mapping[str, Any], member: str) -> ClaimedRow:
    """Make the claimed row of a document that has its runs in it."""
    elsewhere = sum(run["member"] != member for run in document.get("runs", ()))
    due = int(document["due"]) if row.next_run is None else row.next_run
    return ClaimedRow(row.id, due, row.version, row.record, int(document["fence"]), elsewhere)


class DocumentJobStore(RowJobStore):
    """The base of stores whose documents have a list of the runs of their job that have begun.

    A document outlives its job until the last of its runs is settled.
    """

    #: What the driver raises when a call has failed, or its answer was lost.
    failures: ClassVar[tuple[type[Exception], ...]]

    def _reset(self) -> None:
        super()._reset()
        self._stamped = 0

    def _stamp(self) -> int:
        """Give a number that is higher than those before: the microseconds of our clock.

        Fences and versions begin with it, so that those of a job that is removed and added again
        are others.
        """
        self._stamped = max(time.time_ns() // 1000, self._stamped + 1)
        return self._stamped

    @abstractmethod
    def _take_out_runs(self, member: str, runs: Sequence[OrphanedRuns]) -> None:
        """Take out runs of a member, and what is left of their jobs if these have ended."""

    def _take_out_lost(self, member: str, found: Sequence[OrphanedRuns]) -> None:
        """Take out those that nobody will begin anew.

        What is lost is ours until it is told, so that it is told by one, and by one at least.
        """
        lost = [runs for runs in found if runs.record is None]
        try:
            self._take_out_runs(member, lost)
        except self.failures:
            for runs in lost:
                claim = Claim(self, runs.id, runs.fence, 0, elapsed())
                claim.times = runs.times
                claim.settle()
