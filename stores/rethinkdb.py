"""The job store of RethinkDB; ``docs/stores/rethinkdb.md`` describes it."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from secrets import token_hex
from typing import Any

from tocsin.callables import maybe_ref
from tocsin.claims import Claim
from tocsin.errors import ConflictingIdError, suggestion
from tocsin.stores.documents import DocumentJobStore, claimed_row
from tocsin.stores.options import SHARED_OPTIONS, take_shared
from tocsin.stores.rethinkdb_queries import Queries, key_of, next_of, r
from tocsin.stores.rows import (
    PAUSES,
    Advance,
    ClaimedRow,
    NotRun,
    OrphanedRuns,
    Row,
    by_next_run,
)
from tocsin.stores.shared import which_replaced

try:
    from rethinkdb.errors import (
        ReqlAuthError,
        ReqlAvailabilityError,
        ReqlDriverError,
        ReqlError,
        ReqlOpFailedError,
        ReqlTimeoutError,
    )
except ImportError as error:
    raise ImportError(
        f"this needs rethinkdb, which can't be imported ({error}): pip install tocsin[rethinkdb]"
    ) from error

__all__ = ["RethinkDBJobStore"]

#: The version of what is stored.
_VERSION = 1
#: So many documents are written at once.
_BATCH = 1000
_CONNECTION = ("host", "port", "user", "password", "auth_key", "timeout", "ssl", "url")
_OWN = ["database", "table", "client", *_CONNECTION, *SHARED_OPTIONS]


class RethinkDBJobStore(DocumentJobStore):
    """Keep jobs in RethinkDB 2.4 or later, shared by any number of schedulers.

    ``database`` and ``table`` are the names of the database and of the table of jobs; the names
    of the two other tables begin with it. ``client`` is a connection of the driver to use, or a
    reference to one: it is not closed, and changes by other schedulers are seen by polling then,
    for a connection serves one thread at a time. ``pickle_protocol`` is accepted since APScheduler
    has it, and has no effect.

    Further arguments are those of `SharedJobStore`, and of the driver's ``connect``: ``host``,
    ``port``, ``user``, ``password``, ``auth_key``, ``timeout`` (seconds), ``ssl``, ``url``. Raises
    TypeError for one that neither knows, ValueError for a value that is wrong.

    With n jobs in the store, finding, adding or changing one and finding the next that is due
    takes O(log n), claiming and advancing k of them O(k log n), listing them O(n log n).
    """

    python_sockets = True

    def __init__(
        self,
        database: str = "tocsin",
        table: str = "tocsin_jobs",
        client: Any = None,
        pickle_protocol: int | str | None = None,
        **connect_args: Any,
    ) -> None:
        super().__init__(**take_shared(connect_args))
        for name, value in (("database", database), ("table", table)):
            if not isinstance(value, str) or not value.replace("_", "").replace("-", "").isalnum():
                raise ValueError(
                    f"{name}: {value!r} is not a name of letters, digits, underscores and hyphens"
                )
        for name in connect_args:
            if name not in _CONNECTION:
                raise TypeError(
                    f"{name}: unknown{suggestion(name, _OWN)}; RethinkDBJobStore takes"
                    f" {', '.join(_OWN)}"
                )
        if client is not None and connect_args:
            raise ValueError(f"client: it is connected; give it without {', '.join(connect_args)}")
        self._queries = Queries(database, table)
        self._arguments = {
            name: _number(value, name) if name in ("port", "timeout") else value
            for name, value in connect_args.items()
        }
        self._lent = None if client is None else maybe_ref(client)
        self._lock = threading.Lock()
        self._idle: list[Any] = []

    def _reset(self) -> None:
        super()._reset()
        self._sender = token_hex(8)
        self._announced = 0
        self._heard: Any = None
        self._maybe_settled: set[tuple[str, int]] = set()
        # The call of which it is not known what it has taken over.
        self._taking: str | None = None

    # Life

    def _open(self) -> None:
        try:
            self._open_tables()
        except BaseException:
            self._close()
            raise
        self._listen()

    def _open_tables(self) -> None:
        queries = self._queries
        existing = self._run(queries.existing(), again=True)
        jobs, _, meta = queries.names
        version = self._run(queries.schema(), again=True) if meta in existing else None
        if version is None:
            if jobs in existing and self._run(queries.occupied(), again=True):
                raise RuntimeError(
                    f"{self!r}: the table {jobs!r} holds documents that are not tocsin's; give"
                    " another one. If they are APScheduler's, `tocsin store migrate` copies its"
                    " jobs"
                )
            if not self.create:
                raise self._no_store()
            make = [queries.make_database(), *map(queries.make_table, queries.names)]
            make += [queries.make_index("due"), queries.make_index("owners")]
            for query in make:
                with suppress(ReqlOpFailedError):  # others are making it, too
                    self._run(query, again=True)
            for query in queries.wait():
                self._run(query, again=True)
            self._run(queries.set_schema(_VERSION), again=True)
            version = self._run(queries.schema(), again=True)
        if version != _VERSION:
            raise self._other_version(version, _VERSION)

    def _close(self) -> None:
        self._end_listener(self._wake_listener)
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            with suppress(Exception):
                connection.close(noreply_wait=False)

    def after_fork(self) -> None:
        """Forget, in a forked child, the connections and the member of its parent."""
        super().after_fork()
        self._lock = threading.Lock()
        self._idle = []

    def __repr__(self) -> str:
        names = f"{self._queries.database}.{self._queries.names[0]}"
        if self._lent is not None:
            return f"<{type(self).__name__} {self._lent.host}:{self._lent.port} {names}>"
        url = str(self._arguments.get("url") or "").rpartition("@")[2].partition("/")[0]
        url = url.rpartition("//")[2].partition("?")[0]
        where = f"{self._arguments.get('host', 'localhost')}:{self._arguments.get('port', 28015)}"
        return f"<{type(self).__name__} {url or where} {names}>"

    # Calling

    def _connect(self) -> Any:
        try:
            return r.connect(**self._arguments)
        except ReqlAuthError:
            raise
        except (ReqlDriverError, OSError) as error:
            raise NotRun(error) from error

    def _run(self, query: Any, again: bool = False) -> Any:
        """Run a query.

        It is tried a few times when it is known that it was not run before, or with ``again``,
        for what may be run twice. What is doubtful raises.
        """
        for pause in PAUSES:
            try:
                return self._run_once(query)
            except (NotRun, ReqlOpFailedError):
                pass
            except (ReqlDriverError, ReqlTimeoutError, ReqlAvailabilityError, OSError) as error:
                if not again or isinstance(error, ReqlAuthError):
                    raise
            time.sleep(pause)
        try:
            return self._run_once(query)
        except NotRun as error:
            raise error.reason from None

    def _run_once(self, query: Any) -> Any:
        if self._lent is not None:
            with self._lock:
                if not self._lent.is_open():
                    try:
                        self._lent.reconnect(noreply_wait=False)
                    except (ReqlDriverError, OSError) as error:
                        raise NotRun(error) from error
                return _whole(query.run(self._lent))
        with self._lock:
            connection = self._idle.pop() if self._idle else None
        if connection is None or not connection.is_open():
            connection = self._connect()
        try:
            answer = _whole(query.run(connection))
        except (ReqlDriverError, ReqlTimeoutError, OSError):
            with suppress(Exception):
                connection.close(noreply_wait=False)
            raise
        except BaseException as error:
            if isinstance(error, ReqlError):  # the server's answer
                with self._lock:
                    self._idle.append(connection)
            raise
        with self._lock:
            self._idle.append(connection)
        return answer

    # Announcements

    def _announce(self) -> None:
        self._announced += 1
        with suppress(ReqlError, OSError):
            self._run(self._queries.announce(self._sender, self._announced))

    def _listen(self) -> None:
        if self._listener is None and self._lent is None:
            self._start_listener(self._hear)

    def _wake_listener(self) -> None:
        heard, self._heard = self._heard, None
        if heard is not None:
            with suppress(Exception):
                heard.close(noreply_wait=False)

    def _hear(self) -> None:
        """Wake the scheduler by what others announce; in a thread of its own, until the end."""
        me = threading.current_thread()
        pause = 0.1
        while self._listener is me:
            try:
                connection = r.connect(**self._arguments)
                self._heard = connection
                try:
                    changes = self._queries.changes().run(connection)
                    self._woken()  # for what was announced before is not heard
                    pause = 0.1
                    for change in changes:
                        if self._listener is not me:
                            return
                        if (change["new_val"] or {}).get("sender") != self._sender:
                            self._woken()
                finally:
                    connection.close(noreply_wait=False)
            except Exception:
                if self._listener is not me:
                    return
                time.sleep(pause)
                pause = min(2 * pause, self.lease / 3)

    # Members

    def _renew(self, member: str, now: int | None) -> tuple[int, bool]:
        self._listen()
        found = self._run(self._queries.renew(member, now, self._microseconds), again=True)
        return int(found["until"]) - self._microseconds, found["renewals"] > 1

    def _leave(self, member: str) -> None:
        self._run(self._queries.leave(member), again=True)

    # Rows

    def _row(self, job_id: str) -> Row | None:
        found = self._run(self._queries.row(key_of(job_id)), again=True)
        return None if found is None else _row(found)

    def _rows(self) -> list[Row]:
        return sorted(map(_row, self._run(self._queries.rows(), again=True)), key=by_next_run)

    def _insert(self, rows: Sequence[Row], replace: bool) -> list[bool]:
        latest = {row.id: row for row in rows}
        if not replace:
            seen: set[str] = set()
            for row in rows:
                if row.id in seen:
                    raise ConflictingIdError(row.id)
                seen.add(row.id)
        documents = [_document(row, self._stamp()) for row in latest.values()]
        batches = [documents[at : at + _BATCH] for at in range(0, len(documents), _BATCH)]
        if not replace and len(documents) > 1:
            for batch in batches:
                taken = self._run(self._queries.present([each["id"] for each in batch]), again=True)
                if taken:
                    raise ConflictingIdError(taken[0])
        replaced: set[str] = set()
        for number, batch in enumerate(batches):
            told = self._run(self._queries.insert(batch, replace), again=replace)
            if told["errors"]:
                for added in batches[: number + 1]:
                    stamps = {each["id"]: each["fence"] for each in added}
                    self._run(self._queries.withdraw(stamps), again=True)
                self._refuse(batch, told["first_error"])
            replaced.update(told["replaced"])
        return which_replaced(rows, replaced)

    def _refuse(self, batch: Sequence[Mapping[str, Any]], reason: str) -> None:
        """Raise for jobs that were not added, all of which are taken out again."""
        if "taken" in reason:
            taken = self._run(self._queries.present([each["id"] for each in batch]), again=True)
            raise ConflictingIdError(taken[0] if taken else batch[0]["job"])
        raise RuntimeError(f"{self!r}: jobs could not be added: {reason}")

    def _replace(self, row: Row, moved: bool) -> bool:
        query = self._queries.replace(key_of(row.id), row.version, row.record, moved, row.next_run)
        return bool(self._run(query, again=True))

    def _delete(self, job_id: str) -> bool:
        return bool(self._run(self._queries.delete(key_of(job_id))))

    def _delete_all(self) -> None:
        self._run(self._queries.delete_all(), again=True)

    # Claims and runs

    def _claim_rows(self, member: str, now: int | None, limit: int) -> tuple[int, list[ClaimedRow]]:
        query = self._queries.claim(now, self._microseconds, limit, token_hex(8))
        told = self._run(query, again=True)
        found = sorted(told["rows"], key=lambda each: each["due"])
        return int(told["now"]), [claimed_row(_row(each), each, member) for each in found]

    def _advance_rows(self, member: str, entries: Sequence[Advance]) -> list[bool]:
        call = token_hex(8)
        keys = [key_of(entry.id) for entry in entries]
        steps = {key: _step(entry, member, call) for key, entry in zip(keys, entries, strict=True)}
        advanced = set(self._run(self._queries.advance(steps, call), again=True))
        return [key in advanced for key in keys]

    def _release_row(self, job_id: str, fence: int, until: int) -> None:
        self._run(self._queries.release(key_of(job_id), fence, until), again=True)

    def _earliest(self) -> int | None:
        due = self._run(self._queries.earliest(), again=True)
        return None if due is None else int(due)

    def _settle(self, member: str, claims: Sequence[Claim]) -> list[bool]:
        runs = [(key_of(claim.job_id), claim.fence) for claim in claims]
        maybe, self._maybe_settled = self._maybe_settled, set()
        try:
            held = self._take_out(member, runs)
        except (ReqlError, OSError):
            self._maybe_settled = maybe.union(runs)
            raise
        return [run in held or run in maybe for run in runs]

    def _take_out(self, member: str, runs: Sequence[tuple[str, int]]) -> set[tuple[str, int]]:
        """Take out runs of a member, by key and fence; give those that were there."""
        fences: dict[str, list[int]] = {}
        for key, fence in runs:
            fences.setdefault(key, []).append(fence)
        told = self._run(self._queries.settle(member, fences)) if fences else []
        return {(key, int(fence)) for key, fence in told}

    def _recorded(self, member: str, claims: Sequence[Claim]) -> list[bool]:
        runs = [(key_of(claim.job_id), claim.fence) for claim in claims]
        told = self._run(self._queries.recorded(member, [key for key, _ in runs]), again=True)
        found = {(key, int(fence)) for key, fence in told}
        return [run in found for run in runs]

    def _orphans(self, member: str, now: int | None) -> list[OrphanedRuns]:
        gone = self._run(self._queries.expel(member, now), again=True)
        if not gone and self._taking is None:
            return []
        # The same call again, if the answer to the last one was lost.
        self._taking = self._taking or token_hex(8)
        query = self._queries.take_over(member, gone, self._stamp(), self._taking)
        taken = self._run(query, again=True)
        self._taking = None
        return [
            OrphanedRuns(
                each["job"],
                [int(time) for time in each["times"]],
                int(each["fence"]),
                each.get("record"),
                each["of"],
            )
            for each in taken
        ]

    def _hand_back(self, member: str, taken: Sequence[OrphanedRuns]) -> None:
        gone: dict[str, list[dict[str, Any]]] = {}
        for runs in taken:
            entry = {"fence": runs.fence, "member": runs.member}
            gone.setdefault(key_of(runs.id), []).append(entry)
        self._run(self._queries.hand_back(member, gone), again=True)


def _whole(answer: Any) -> Any:
    """Read a cursor to its end."""
    return answer if isinstance(answer, (list, dict, str, int, float, type(None))) else list(answer)


def _number(value: Any, name: str) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name}: {value!r} is not a number") from None


def _document(row: Row, stamp: int) -> dict[str, Any]:
    """Make the document of a row that is added."""
    document = {
        "id": key_of(row.id),
        "job": row.id,
        "record": row.record,
        "version": stamp,
        "fence": stamp,
        "runs": [],
    }
    return {**document, **next_of(row.next_run)}


def _step(entry: Advance, member: str, call: str) -> dict[str, Any]:
    """Make the entry of a job that is advanced: see `Queries.advance`."""
    run = {
        "times": [str(time) for time in entry.times],
        "fence": entry.fence,
        "member": member,
        "call": call,
    }
    if entry.record is not None:
        run["record"] = entry.record
    change = {"ended": True} if entry.next_run is None else next_of(entry.next_run)
    return {"fence": entry.fence, "change": change, "run": run}


def _row(found: Mapping[str, Any]) -> Row:
    """Make a row of a document; where others have spoilt it, of what is left of it."""
    due, version, record = found.get("next"), found.get("version"), found.get("record")
    try:
        due = None if due is None else int(due)
    except (TypeError, ValueError):
        due = None
    return Row(
        str(found.get("job", found["id"])),
        due,
        int(version) if isinstance(version, (int, float)) else 0,
        record if isinstance(record, str) else "",
    )
