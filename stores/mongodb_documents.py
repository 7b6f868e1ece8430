"""The documents of the store of MongoDB, and the filters and changes that it sends of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tocsin.stores.rows import Advance, Row

#: The server's clock, as an instant; it counts milliseconds.
NOW = {"$multiply": [{"$toLong": "$$NOW"}, 1000]}
#: What can be claimed; what others have spoilt in such a way that it can't be is left alone.
SOUND = {"fence": {"$gte": 0}}
#: A job; without it, what is left of one whose schedule has ended while runs of it go on.
LIVE = {"ended": None}
NO_RUNS = {"runs": {"$size": 0}}
CLAIMED = {"claim": {"$exists": True}}
#: What a document has of a job, and not of runs that have outlived it.
OF_JOBS = {"record": 1, "version": 1, "next": 1, "due": 1, "claim": 1}
#: What is left of a job when its runs have been settled.
ENDED = {"ended": True, **NO_RUNS}


def with_run(**values: Any) -> dict[str, Any]:
    """Give the filter of the documents with a run that has these values."""
    return {"runs": {"$elemMatch": values}}


def instant_of(now: int | None) -> Any:
    """Give the expression of an instant, of the server's clock when there is none."""
    return NOW if now is None else {"$literal": now}


def document_of(row: Row, stamp: int) -> dict[str, Any]:
    """Make the document of a row that is added."""
    document = {
        "_id": row.id,
        "record": row.record,
        "version": stamp,
        "fence": stamp,
        "next": row.next_run,
        "runs": [],
    }
    return document if row.next_run is None else {**document, "due": row.next_run}


def renewal(document: Mapping[str, Any]) -> dict[str, Any]:
    """Make the change that puts a job in the place of another, whose runs stay."""
    change: dict[str, dict[str, Any]] = {
        "$set": {name: document[name] for name in ("record", "version", "next")},
        "$inc": {"fence": 1},
        "$unset": {"claim": 1, "ended": 1},
    }
    if "due" in document:
        change["$set"]["due"] = document["due"]
    else:
        change["$unset"]["due"] = 1
    return change


def step_of(entry: Advance, member: str, call: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Make the filter and the change that advance a job and record its runs."""
    times = list(entry.times)
    run: dict[str, Any] = {"times": times, "fence": entry.fence, "member": member, "call": call}
    if entry.record is not None:
        run["record"] = entry.record
    claimed = {
        "_id": entry.id,
        "fence": entry.fence,
        **CLAIMED,
        "runs.times": {"$nin": times},
    }
    # There is none like it, so that this only appends it: some servers spoil what is pushed.
    change: dict[str, Any] = {"$addToSet": {"runs": run}}
    if entry.next_run is None:
        change["$set"] = {"ended": True}
        change["$unset"] = OF_JOBS
    else:
        change["$set"] = {"next": entry.next_run, "due": entry.next_run}
        change["$unset"] = {"claim": 1}
    return claimed, change


def row_of(found: Mapping[str, Any]) -> Row:
    """Make a row of a document; where others have spoilt it, of what is left of it."""
    due, version, record = found.get("next"), found.get("version"), found.get("record")
    return Row(
        found["_id"],
        int(due) if isinstance(due, int) else None,
        int(version) if isinstance(version, int) else 0,
        record if isinstance(record, str) else "",
    )
