"""Writing the jobs of one store into another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from tocsin.errors import ConflictingIdError
from tocsin.job import Job
from tocsin.migration.apscheduler import read_job
from tocsin.stores.base import BaseJobStore
from tocsin.stores.shared import SharedJobStore

__all__ = ["Moved", "check", "move", "read_jobs"]

#: So many jobs are written in one step.
_BATCH = 500


@dataclass
class Moved:
    """What became of the jobs: how many were written, or were there already, and what was not."""

    written: int = 0
    there: int = 0
    #: Pairs of the id of a job and the reason.
    left: list[tuple[str, str]] = field(default_factory=list)


def read_jobs(rows: Iterable[tuple[str, bytes]]) -> Iterator[tuple[str, Job | str]]:
    """Give the job of each of APScheduler's pickles by its id, or the reason why there is none."""
    for job_id, state in rows:
        try:
            yield job_id, read_job(state, job_id)
        except ValueError as error:
            yield job_id, str(error)


def move(
    found: Iterable[tuple[str, Job | str]],
    store: BaseJobStore,
    *,
    replace: bool = False,
    told: Callable[[int], None] = lambda count: None,
) -> Moved:
    """Add jobs to a store in batches, each in one step; ``told`` hears how many have been done.

    What is in the store already stays as it is, for it may have run since: it counts as there
    when it is the same but for its next run time, and as left when it differs. With ``replace``
    it is written anew. So a move that was interrupted can be repeated.

    Raises what the store raises when it can't be reached.
    """
    moved = Moved()
    for batch in _batches(found):
        _write(store, _fitting(store, batch, moved), replace, moved)
        told(len(batch))
    return moved


def check(
    found: Iterable[tuple[str, Job | str]],
    store: BaseJobStore,
    *,
    told: Callable[[int], None] = lambda count: None,
) -> Moved:
    """Tell what `move` would do with an empty store, and write nothing; it need not be open."""
    moved = Moved()
    for batch in _batches(found):
        moved.written += len(_fitting(store, batch, moved))
        told(len(batch))
    return moved


_Batch = list[tuple[str, "Job | str"]]


def _batches(found: Iterable[tuple[str, Job | str]]) -> Iterator[_Batch]:
    rest = iter(found)
    while batch := list(islice(rest, _BATCH)):
        yield batch


def _fitting(store: BaseJobStore, batch: _Batch, moved: Moved) -> list[Job]:
    """Give the jobs of a batch that a store can hold, and note why the others have to be left."""
    jobs = []
    for job_id, job in batch:
        try:
            jobs.append(_fit(store, job))
        except ValueError as error:
            moved.left.append((job_id, str(error)))
    return jobs


def _fit(store: BaseJobStore, job: Job | str) -> Job:
    """Give a job that a store can hold; ValueError with the reason why it can't."""
    if isinstance(job, str):
        raise ValueError(job)
    if isinstance(store, SharedJobStore):
        store.codec.dumps(job)
    return job


def _write(store: BaseJobStore, jobs: list[Job], replace: bool, moved: Moved) -> None:
    while jobs:
        try:
            store.add_jobs(jobs, replace)
        except ConflictingIdError:
            jobs = [job for job in jobs if not _is_there(store, job, moved)]
        else:
            moved.written += len(jobs)
            return


def _is_there(store: BaseJobStore, job: Job, moved: Moved) -> bool:
    try:
        known = store.lookup_job(job.id)
    except ValueError as error:
        moved.left.append((job.id, f"the new store has one of this id that can't be read: {error}"))
        return True
    if known is None:
        return False
    if isinstance(store, SharedJobStore) and store.codec.dumps(known) != store.codec.dumps(job):
        moved.left.append(
            (job.id, "the new store has another one of this id; it is overwritten with --replace")
        )
    else:
        moved.there += 1
    return True
