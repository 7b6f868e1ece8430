"""The job store of MongoDB; ``docs/stores/mongodb.md`` describes it."""

from __future__ import annotations

import re
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from secrets import token_hex
from typing import Any, TypeVar

from tocsin.callables import maybe_ref
from tocsin.claims import Claim
from tocsin.convert import as_bool
from tocsin.errors import ConflictingIdError, suggestion
from tocsin.stores.documents import DocumentJobStore, claimed_row
from tocsin.stores.mongodb_documents import (
    CLAIMED,
    ENDED,
    LIVE,
    NO_RUNS,
    NOW,
    OF_JOBS,
    SOUND,
    document_of,
    instant_of,
    renewal,
    row_of,
    step_of,
    with_run,
)
from tocsin.stores.options import SHARED_OPTIONS, take_shared
from tocsin.stores.rows import (
    PAUSES,
    Advance,
    ClaimedRow,
    OrphanedRuns,
    Row,
    by_next_run,
)
from tocsin.stores.shared import elapsed, which_replaced

try:
    from bson import ObjectId
    from bson.codec_options import CodecOptions
    from pymongo import (
        ASCENDING,
        DeleteOne,
        MongoClient,
        ReadPreference,
        ReturnDocument,
        UpdateOne,
        WriteConcern,
    )
    from pymongo.errors import (
        BulkWriteError,
        ConfigurationError,
        ConnectionFailure,
        DuplicateKeyError,
        OperationFailure,
        PyMongoError,
        ServerSelectionTimeoutError,
    )
    from pymongo.read_concern import ReadConcern
except ImportError as error:
    raise ImportError(
        f"this needs pymongo, which can't be imported ({error}): pip install tocsin[mongodb]"
    ) from error

__all__ = ["MongoDBJobStore"]

#: The version of what is stored.
_VERSION = 1
#: What servers from 4.2 on say of themselves.
_OLDEST_WIRE = 8
_SECOND = 1_000_000
#: So often jobs are added anew that others have added or removed meanwhile.
_MOST_TRIES = 20
#: How long the server keeps a change stream waiting, in milliseconds.
_AWAIT = 1000
#: The pause, in seconds, after an answer without a change that came too early.
_EARLY = 0.05
_DUPLICATE, _FORBIDDEN = 11000, 13
_OWN = ["database", "collection", "client", "url", "host", "port", *SHARED_OPTIONS]
_Result = TypeVar("_Result")


class MongoDBJobStore(DocumentJobStore):
    """Keep jobs in MongoDB 4.2 or later, shared by any number of schedulers.

    ``database`` is the name of the database, by default that of the URL, or else "tocsin".
    ``collection`` is the name of the collection of the jobs; the names of the two others that the
    store has begin with it. ``url`` is the address (``mongodb://``, ``mongodb+srv://``), which may
    also be given as ``host``; ``client`` a ``MongoClient`` to use instead, or a reference to one;
    it is not closed. ``pickle_protocol`` is accepted since APScheduler has it, and has no effect.

    Further arguments are those of `SharedJobStore`, and the options of ``MongoClient``:
    ``port``, ``username``, ``tls``, ``w`` and so on. Without ``w`` each write has to reach the
    majority of the replica set. Raises TypeError for an option that neither knows, ValueError for
    a value that is wrong.

    With n jobs in the store, finding, adding or changing one and finding the next that is due
    takes O(log n), claiming and advancing k of them O(k log n), listing them O(n log n).
    """

    python_sockets = True

    def __init__(
        self,
        database: str | None = None,
        collection: str = "tocsin_jobs",
        client: Any = None,
        pickle_protocol: int | str | None = None,
        *,
        url: str | None = None,
        **connect_args: Any,
    ) -> None:
        super().__init__(**take_shared(connect_args))
        for name, value in (("database", database), ("collection", collection)):
            if value is not None and (not isinstance(value, str) or not value):
                raise ValueError(f"{name}: {value!r} is not a name")
        self._arguments: dict[str, Any] | None = None
        if client is None:
            self._arguments = _arguments(url, connect_args)
            self._client: Any = _connected(self._arguments)
        elif url is not None or connect_args:
            others = [*(["url"] if url is not None else []), *connect_args]
            raise ValueError(
                f"client: it has connections of its own; give it without {', '.join(others)}"
            )
        else:
            self._client = maybe_ref(client)
            if not isinstance(self._client, MongoClient):
                raise TypeError(
                    f"client: a pymongo.MongoClient is needed, not {type(self._client).__name__}"
                )
        try:
            self._database = self._client.get_default_database(database or "tocsin").name
            if database is not None:
                self._database = self._client[database].name
            self._client[self._database][collection]
        except PyMongoError as error:
            raise ValueError(f"database {database!r}, collection {collection!r}: {error}") from None
        self._name = collection
        self._closed = False

    def _reset(self) -> None:
        super()._reset()
        self._sender = token_hex(8)
        self._replicated = False
        # The server's clock, and when it was read by `elapsed`.
        self._clock_read = (0, 0.0)
        # The runs of which it is not known whether they were settled, and those of which the next
        # call has to find out whether they were taken over.
        self._maybe_settled: set[tuple[str, int]] = set()
        self._maybe_taken: list[OrphanedRuns] = []

    @property
    def client(self) -> Any:
        """The ``MongoClient``."""
        return self._client

    @property
    def connection(self) -> Any:
        """The ``MongoClient``, under the name that APScheduler has given up."""
        warnings.warn(
            'the attribute "connection" is deprecated, use "client"',
            DeprecationWarning,
            stacklevel=2,
        )
        return self._client

    # Life

    def _open(self) -> None:
        if self._closed and self._arguments is not None:
            self._client = _connected(self._arguments)
        self._closed = False
        try:
            self._set_up()
        except BaseException:
            self._close()
            raise
        self._listen()

    def _set_up(self) -> None:
        self._bind()
        hello = self._again(lambda: self._client.admin.command("hello"))
        if hello.get("maxWireVersion", 0) < _OLDEST_WIRE:
            raise RuntimeError(f"{self!r}: the server is too old, MongoDB 4.2 or later is needed")
        self._replicated = "setName" in hello or hello.get("msg") == "isdbgrid"
        self._again(self._open_collections)

    def _bind(self) -> None:
        """Make the collections, whose settings are not those of a client that was handed in."""
        concern = self._client.write_concern
        options: dict[str, Any] = {
            "codec_options": CodecOptions(),
            "read_preference": ReadPreference.PRIMARY,
            "write_concern": concern if concern.document else WriteConcern("majority"),
        }
        database = self._client[self._database]
        self._jobs = database.get_collection(self._name, **options)
        self._members = database.get_collection(f"{self._name}_members", **options)
        self._meta = database.get_collection(f"{self._name}_meta", **options)

    def _open_collections(self) -> None:
        found = self._meta.find_one({"_id": "schema"})
        if found is None:
            if self._jobs.find_one({}, {"_id": 1}) is not None:
                raise RuntimeError(
                    f"{self!r}: the collection {self._name!r} holds documents that are not"
                    " tocsin's; give another one. If they are APScheduler's, `tocsin store"
                    " migrate` copies its jobs"
                )
            if not self.create:
                raise self._no_store()
            self._jobs.create_index("due", sparse=True)
            self._jobs.create_index("runs.member", sparse=True)
            with suppress(DuplicateKeyError):  # others are making it, too
                self._meta.update_one(
                    {"_id": "schema"}, {"$setOnInsert": {"version": _VERSION}}, upsert=True
                )
            found = self._meta.find_one({"_id": "schema"}) or {}
        version = found.get("version")
        if version != _VERSION:
            raise self._other_version(version, _VERSION)

    def _close(self) -> None:
        self._end_listener(self._wake_listener)
        if self._arguments is not None:
            self._client.close()
            self._closed = True

    def after_fork(self) -> None:
        """Forget, in a forked child, the connections and the member of its parent."""
        super().after_fork()
        if self._arguments is not None and not self._closed:
            self._client = _connected(self._arguments)
            self._bind()

    def __repr__(self) -> str:
        servers = self._client.topology_description.server_descriptions()
        where = ",".join(host if port is None else f"{host}:{port}" for host, port in servers)
        return f"<{type(self).__name__} {where or '?'} {self._database}.{self._name}>"

    def _again(self, work: Callable[[], _Result]) -> _Result:
        """Do what may be done twice, a few times if the connection breaks."""
        for pause in PAUSES:
            try:
                return work()
            except ServerSelectionTimeoutError:  # which was tried for long enough
                raise
            except ConnectionFailure:
                time.sleep(pause)
        return work()

    # Announcements

    def _announce(self) -> None:
        with suppress(PyMongoError):
            self._signal()

    def _signal(self, to: str | None = None) -> None:
        """Write the document that the others watch; ``to`` wakes the listener of one of them."""
        self._meta.with_options(write_concern=WriteConcern(1)).replace_one(
            {"_id": "signal"}, {"sender": self._sender, "to": to, "id": ObjectId()}, upsert=True
        )

    def _listen(self) -> None:
        if self._listener is None and self._replicated:
            self._start_listener(self._hear)

    def _wake_listener(self) -> None:
        with suppress(PyMongoError):  # else it ends when it is next asked
            self._signal(to=self._sender)

    def _hear(self) -> None:
        """Wake the scheduler by what others announce; in a thread of its own, until the end."""
        me = threading.current_thread()
        pause = 0.1
        others = {"fullDocument.sender": {"$ne": self._sender}, "fullDocument.to": None}
        watched = [
            {"$match": {"$or": [others, {"fullDocument.to": self._sender}]}},
        ]
        while self._listener is me:
            try:
                with self._meta.watch(watched, max_await_time_ms=_AWAIT) as stream:
                    self._woken()  # for what was announced before is not heard
                    while self._listener is me and stream.alive:
                        asked = elapsed()
                        change = stream.try_next()
                        if change is not None and self._listener is me:
                            self._woken()
                        elif elapsed() - asked < _AWAIT / 2000:
                            time.sleep(_EARLY)  # for a server that answers at any write
                        pause = 0.1
            except Exception as error:
                if self._listener is not me:
                    return
                if isinstance(error, OperationFailure) and error.code == _FORBIDDEN:
                    self._logger.warning(
                        "%r: changes can't be watched (%s); those by others are seen every %g s"
                        " only",
                        self,
                        error,
                        self.poll_interval,
                    )
                    return
                time.sleep(pause)
                pause = min(2 * pause, self.lease / 3)

    # Members

    def _renew(self, member: str, now: int | None) -> tuple[int, bool]:
        self._listen()
        change = self._lasting("until", now, "renewals")
        began = elapsed()
        found = self._again(
            lambda: self._members.find_one_and_update(
                {"_id": member}, change, upsert=True, return_document=ReturnDocument.AFTER
            )
        )
        present = int(found["until"]) - self._microseconds
        self._clock_read = (present, (began + elapsed()) / 2)
        return present, found["renewals"] > 1

    def _lasting(self, name: str, now: int | None, counter: str, **others: str) -> Any:
        """Make the change that sets a time to a lease from now, counts, and sets ``others``.

        Only a pipeline can reckon with the server's clock. Where that is not asked for, plain
        operators do, which servers know as well that have no pipelines.
        """
        if now is not None:
            return {"$set": {name: now + self._microseconds, **others}, "$inc": {counter: 1}}
        until = {"$add": [NOW, self._microseconds]}
        counted = {"$add": [{"$ifNull": [f"${counter}", 0]}, 1]}
        return [{"$set": {name: until, counter: counted, **others}}]

    def _present(self, now: int | None) -> int:
        """Give the instant by the clock that decides, as far as it is known here."""
        if now is not None:
            return now
        present, when = self._clock_read
        # A millisecond more, for the server's clock counts those that have passed.
        return present + 1000 + int((elapsed() - when) * _SECOND)

    def _leave(self, member: str) -> None:
        ids = [each["_id"] for each in self._jobs.find(with_run(member=member), {"_id": 1})]
        if ids:
            at_most_once = {"member": member, "record": None}
            self._again(
                lambda: self._jobs.update_many(
                    {"_id": {"$in": ids}}, {"$pull": {"runs": at_most_once}}
                )
            )
            self._again(lambda: self._jobs.delete_many({"_id": {"$in": ids}, **ENDED}))
        self._again(lambda: self._members.delete_one({"_id": member}))

    # Rows

    def _row(self, job_id: str) -> Row | None:
        found = self._again(lambda: self._jobs.find_one({"_id": job_id, **LIVE}, {"runs": 0}))
        return None if found is None else row_of(found)

    def _rows(self) -> list[Row]:
        found = self._again(lambda: list(self._jobs.find(LIVE, {"runs": 0})))
        return sorted(map(row_of, found), key=by_next_run)

    def _insert(self, rows: Sequence[Row], replace: bool) -> list[bool]:
        latest = {row.id: row for row in rows}
        if len(latest) < len(rows) and not replace:
            counted = Counter(row.id for row in rows)
            raise ConflictingIdError(counted.most_common(1)[0][0])
        documents = [document_of(row, self._stamp()) for row in latest.values()]
        if len(documents) == 1:
            replaced = set(latest) if self._put(documents[0], replace) else set()
        else:
            replaced = self._put_all(documents, replace)
        return which_replaced(rows, replaced)

    def _put(self, document: Mapping[str, Any], replace: bool) -> bool:
        """Add one job in one step; tell whether it was there."""
        taken = {"_id": document["_id"]} if replace else {"_id": document["_id"], "ended": True}
        for _ in range(_MOST_TRIES):
            if not replace:
                try:
                    self._jobs.insert_one(document)
                    return False
                except DuplicateKeyError:
                    pass
            before = self._jobs.find_one_and_update(
                taken, renewal(document), {"ended": 1}, return_document=ReturnDocument.BEFORE
            )
            if before is not None:
                return not before.get("ended")
            if not replace:
                if self._jobs.find_one({"_id": document["_id"], **LIVE}, {"_id": 1}) is not None:
                    break
                continue
            try:
                self._jobs.insert_one(document)
                return False
            except DuplicateKeyError:
                continue
        raise ConflictingIdError(document["_id"])

    def _put_all(self, documents: Sequence[Mapping[str, Any]], replace: bool) -> set[str]:
        """Add jobs, all or none; give the ids of those that were there.

        A server without replicas has no transactions: what was added is taken out again when
        there is a conflict after all, for somebody was quicker.
        """
        for pause in [0.01] * _MOST_TRIES:
            if not self._replicated:
                try:
                    return self._put_each(documents, replace, None)
                except BulkWriteError as error:
                    if not _only_duplicates(error):
                        raise
                    mine = [{"_id": each["_id"], "fence": each["fence"]} for each in documents]
                    for first in range(0, len(mine), 1000):
                        self._jobs.delete_many({"$or": mine[first : first + 1000]})
            else:
                with self._client.start_session() as session:
                    try:
                        with session.start_transaction(
                            write_concern=self._jobs.write_concern,
                            read_preference=ReadPreference.PRIMARY,
                        ):
                            return self._put_each(documents, replace, session)
                    except PyMongoError as error:
                        if not error.has_error_label("TransientTransactionError") and not (
                            isinstance(error, BulkWriteError) and _only_duplicates(error)
                        ):
                            raise
            time.sleep(pause)
        raise RuntimeError(
            f"{len(documents)} jobs could not be added, for others added and removed them"
            f" {_MOST_TRIES} times meanwhile"
        )

    def _put_each(
        self, documents: Sequence[Mapping[str, Any]], replace: bool, session: Any
    ) -> set[str]:
        ids = [each["_id"] for each in documents]
        found = {
            each["_id"]: not each.get("ended")
            for each in self._jobs.find({"_id": {"$in": ids}}, {"ended": 1}, session=session)
        }
        live = {job_id for job_id, lives in found.items() if lives}
        if live and not replace:
            raise ConflictingIdError(next(job_id for job_id in ids if job_id in live))
        fresh = [each for each in documents if each["_id"] not in found]
        if fresh:
            self._jobs.insert_many(fresh, ordered=False, session=session)
        old = [
            UpdateOne({"_id": each["_id"]}, renewal(each))
            for each in documents
            if each["_id"] in found
        ]
        if old and self._jobs.bulk_write(old, ordered=False, session=session).matched_count < len(
            old
        ):
            raise BulkWriteError({"writeErrors": [{"code": _DUPLICATE}]})  # some are gone: anew
        return live

    def _replace(self, row: Row, moved: bool) -> bool:
        change: dict[str, dict[str, Any]] = {"$set": {"record": row.record}, "$inc": {"version": 1}}
        if moved:
            change["$set"]["next"] = row.next_run
            change["$inc"]["fence"] = 1
            change["$unset"] = {"claim": 1}
            if row.next_run is None:
                change["$unset"]["due"] = 1
            else:
                change["$set"]["due"] = row.next_run
        told = self._again(
            lambda: self._jobs.update_one({"_id": row.id, "version": row.version, **LIVE}, change)
        )
        return bool(told.matched_count)

    def _delete(self, job_id: str) -> bool:
        row = {"_id": job_id, **LIVE}
        if self._jobs.delete_one({**row, **NO_RUNS}).deleted_count:
            return True
        # Its runs go on, and are not begun anew any more.
        ended = {
            "$set": {"ended": True, "runs.$[again].dropped": True},
            "$unset": {**OF_JOBS, "runs.$[again].record": 1},
        }
        again = [{"again.record": {"$exists": True}}]
        if not self._jobs.update_one(row, ended, array_filters=again).matched_count:
            return False
        self._jobs.delete_one({"_id": job_id, **ENDED})
        return True

    def _delete_all(self) -> None:
        self._again(lambda: self._jobs.delete_many({}))

    # Claims and runs

    def _claim_rows(self, member: str, now: int | None, limit: int) -> tuple[int, list[ClaimedRow]]:
        present = self._present(now)
        is_due = {"due": {"$lte": present}}
        ids = [
            each["_id"]
            for each in self._again(
                lambda: list(
                    self._jobs.find({**is_due, **SOUND}, {"_id": 1})
                    .sort("due", ASCENDING)
                    .limit(limit)
                )
            )
        ]
        if not ids:
            return present, []
        claim = token_hex(12)
        change = self._lasting("due", now, "fence", claim=claim)
        these = {"_id": {"$in": ids}}
        # Those that are due still: what another has claimed meanwhile is due when its lease ends.
        self._again(lambda: self._jobs.update_many({**these, **is_due}, change))
        wanted = {"next": 1, "due": 1, "version": 1, "fence": 1, "record": 1, "runs.member": 1}
        found = {
            each["_id"]: each
            for each in self._again(
                lambda: list(self._jobs.find({**these, "claim": claim}, wanted))
            )
        }
        return present, [
            claimed_row(row_of(found[each]), found[each], member) for each in ids if each in found
        ]

    def _advance_rows(self, member: str, entries: Sequence[Advance]) -> list[bool]:
        call = token_hex(12)
        steps = [UpdateOne(*step_of(entry, member, call)) for entry in entries]
        try:
            done = self._again(lambda: self._jobs.bulk_write(steps, ordered=False))
            if done.matched_count == len(entries):
                return [True] * len(entries)
        except BulkWriteError as error:
            faults = error.details.get("writeErrors")
            if error.details.get("writeConcernErrors") or not faults:
                raise
            self._logger.error(
                "%d jobs could not be advanced, the first for this reason: %s",
                len(faults),
                faults[0].get("errmsg"),
            )
        ids = [entry.id for entry in entries]
        advanced = {
            each["_id"]
            for each in self._again(
                lambda: list(
                    self._jobs.find({"_id": {"$in": ids}, **with_run(call=call)}, {"_id": 1})
                )
            )
        }
        return [entry.id in advanced for entry in entries]

    def _release_row(self, job_id: str, fence: int, until: int) -> None:
        self._again(
            lambda: self._jobs.update_one(
                {"_id": job_id, "fence": fence, **CLAIMED},
                {"$set": {"due": until}, "$unset": {"claim": 1}},
            )
        )

    def _earliest(self) -> int | None:
        found = self._again(
            lambda: self._jobs.find_one(
                {"due": {"$gte": -(2**63)}, **SOUND}, {"due": 1}, sort=[("due", ASCENDING)]
            )
        )
        return None if found is None else int(found["due"])

    def _settle(self, member: str, claims: Sequence[Claim]) -> list[bool]:
        maybe, self._maybe_settled = self._maybe_settled, set()
        runs = [(claim.job_id, claim.fence) for claim in claims]
        try:
            held = self._runs_of(member, runs, self._jobs)
            self._take_out(member, {run: held[run] for run in runs if run in held})
        except PyMongoError:
            self._maybe_settled = maybe.union(runs)
            raise
        return [run in held or run in maybe for run in runs]

    def _take_out(self, member: str, runs: Mapping[tuple[str, int], bool]) -> None:
        """Take out runs of a member, by job and fence, and what is left of jobs that have ended."""
        steps: list[UpdateOne | DeleteOne] = []
        for (job_id, fence), has_ended in runs.items():
            mine = {"member": member, "fence": fence}
            steps.append(UpdateOne({"_id": job_id}, {"$pull": {"runs": mine}}))
            if has_ended:
                steps.append(DeleteOne({"_id": job_id, **ENDED}))
        if steps:
            self._again(lambda: self._jobs.bulk_write(steps))

    def _runs_of(
        self, member: str, runs: Iterable[tuple[str, int]], jobs: Any
    ) -> dict[tuple[str, int], bool]:
        """Give the runs of jobs that are a member's, and whether the job has ended."""
        these = {"_id": {"$in": list({job_id for job_id, _ in runs})}, **with_run(member=member)}
        found = self._again(lambda: list(jobs.find(these, {"runs": 1, "ended": 1})))
        return {
            (each["_id"], run["fence"]): bool(each.get("ended"))
            for each in found
            for run in each["runs"]
            if run["member"] == member
        }

    def _recorded(self, member: str, claims: Sequence[Claim]) -> list[bool]:
        # Answered by who is the primary for sure, of what can't be rolled back any more.
        level = "linearizable" if self._replicated else "local"
        jobs = self._jobs.with_options(read_concern=ReadConcern(level))
        runs = [(claim.job_id, claim.fence) for claim in claims]
        found = self._runs_of(member, runs, jobs)
        return [run in found for run in runs]

    def _orphans(self, member: str, now: int | None) -> list[OrphanedRuns]:
        found = self._mine(member, self._maybe_taken) if self._maybe_taken else []
        self._maybe_taken = []
        try:
            for document, run in self._abandoned(self._expel(member, now)):
                job_id, gone = document["_id"], run["member"]
                if run.get("dropped"):
                    self._take_out(gone, {(job_id, run["fence"]): True})
                    continue
                # Far from the fences of the claims to come, of which one may be ours.
                apart = int(document.get("fence", 0)) + _SECOND
                fence = max(self._stamp(), apart, int(run["fence"]) + 1)
                times = [int(each) for each in run["times"]]
                runs = OrphanedRuns(job_id, times, fence, run.get("record"), gone)
                self._maybe_taken.append(runs)
                if self._adopt(member, runs, run["fence"]):
                    found.append(runs)
                self._maybe_taken.pop()
        except PyMongoError:
            if not found:
                raise  # and else they are found the next time
            self._may_have_taken = True
        return found

    def _expel(self, member: str, now: int | None) -> list[str]:
        """Take out the members whose leases ran out; give the others."""
        with_clock = [{"$addFields": {"now": instant_of(now)}}]
        members = self._again(lambda: list(self._members.aggregate(with_clock)))
        late = [
            DeleteOne({"_id": each["_id"], "renewals": each["renewals"]})
            for each in members
            if each["until"] <= each["now"] and each["_id"] != member
        ]
        if late:
            self._again(lambda: self._members.bulk_write(late, ordered=False))
            members = self._again(lambda: list(self._members.find({}, {"_id": 1})))
        return [each["_id"] for each in members]

    def _abandoned(self, members: Sequence[str]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """Give the runs of others than these, with their documents."""
        others = {"$gt": "", "$nin": list(members)}
        found = self._again(
            lambda: list(self._jobs.find(with_run(member=others), {"fence": 1, "runs": 1}))
        )
        owners = {run["member"] for each in found for run in each["runs"]}
        if not owners:
            return []
        # Some may have joined since; who has runs had joined before.
        joined = self._members.find({"_id": {"$in": list(owners)}}, {"_id": 1})
        gone = owners - {each["_id"] for each in joined}
        return [(each, run) for each in found for run in each["runs"] if run["member"] in gone]

    def _adopt(self, member: str, runs: OrphanedRuns, fence: int) -> bool:
        """Make runs ours, in one step; tell whether they are."""
        theirs = with_run(member=runs.member, fence=fence)
        change = {"$set": {"runs.$.member": member, "runs.$.fence": runs.fence}}
        done = self._again(lambda: self._jobs.update_one({"_id": runs.id, **theirs}, change))
        return bool(done.matched_count) or bool(self._mine(member, [runs]))

    def _hand_back(self, member: str, taken: Sequence[OrphanedRuns]) -> None:
        steps = [
            UpdateOne(
                {"_id": runs.id, **with_run(member=member, fence=runs.fence)},
                {"$set": {"runs.$.member": runs.member}},
            )
            for runs in taken
        ]
        self._again(lambda: self._jobs.bulk_write(steps, ordered=False))

    def _mine(self, member: str, taken: Sequence[OrphanedRuns]) -> list[OrphanedRuns]:
        """Give those of runs that are ours."""
        held = self._runs_of(member, [(each.id, each.fence) for each in taken], self._jobs)
        return [each for each in taken if (each.id, each.fence) in held]


def _only_duplicates(error: BulkWriteError) -> bool:
    faults = error.details.get("writeErrors") or [{}]
    return not error.details.get("writeConcernErrors") and all(
        each.get("code") == _DUPLICATE for each in faults
    )


def _arguments(url: str | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """Make the arguments of a client of those of a store, which may be texts."""
    # Who can't be reached is reported sooner than pymongo would.
    arguments: dict[str, Any] = {
        "serverSelectionTimeoutMS": 5000,
        "connectTimeoutMS": 5000,
        "socketTimeoutMS": 20_000,
        "appname": "tocsin",
    }
    named = {name.lower() for name in given}
    arguments = {name: each for name, each in arguments.items() if name.lower() not in named}
    arguments.update(given)
    if url is not None:
        if given.get("host") is not None:
            raise ValueError("url: give it or host, not both")
        arguments["host"] = url
    port = arguments.get("port")
    if isinstance(port, str):
        try:
            arguments["port"] = int(port)
        except ValueError:
            raise ValueError(f"port: {port!r} is not a number") from None
    for name in ("tz_aware", "connect"):
        if isinstance(arguments.get(name), str):
            try:
                arguments[name] = as_bool(arguments[name])
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
    return arguments


def _connected(arguments: Mapping[str, Any]) -> Any:
    """Make a client, which connects when it is used."""
    try:
        return MongoClient(**{"connect": False, **arguments})
    except ConfigurationError as error:
        for name in arguments:
            if f"Unknown option: {name}." in f"{error}.":
                raise TypeError(
                    f"{name}: unknown{suggestion(name, _OWN)}; MongoDBJobStore takes"
                    f" {', '.join(_OWN)}, and the options of pymongo.MongoClient"
                ) from None
        raise ValueError(_refusal(error, arguments.get("host"))) from None
    except (TypeError, ValueError) as error:
        raise type(error)(_refusal(error, arguments.get("host"))) from None


def _refusal(error: Exception, address: Any) -> str:
    """Say what the driver says of its options, unless it quotes a part of a password.

    Where the password is not encoded, a part of it looks like another one of the address, which
    pymongo before 4.20 quotes.
    """
    reason = str(error)
    for each in address if isinstance(address, (list, tuple)) else [address]:
        login = str(each).partition("://")[2].rpartition("@")[0]
        if any(part and part in reason for part in re.split("[:/?@=&]", login)[1:]):
            reason = (
                "the driver's reason quotes a part of the password, and is not shown; is that"
                " percent-encoded, as by urllib.parse.quote_plus?"
            )
    return f"the options of MongoDBJobStore can't be used: {reason}"
