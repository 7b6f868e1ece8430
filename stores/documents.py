"""What the stores have in common that keep a job, and its runs in it, in a document."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from tocsin.stores.rows import ClaimedRow, Row, RowJobStore

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
