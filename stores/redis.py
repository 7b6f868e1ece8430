"""The job store of Redis; ``docs/stores/redis.md`` describes it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from itertools import accumulate, repeat
from secrets import token_hex
from typing import Any, NoReturn

from tocsin.callables import maybe_ref
from tocsin.claims import Claim
from tocsin.compact import encode
from tocsin.convert import as_bool
from tocsin.errors import ConflictingIdError, suggestion
from tocsin.stores import redis_scripts as scripts
from tocsin.stores.options import SHARED_OPTIONS, take_shared
from tocsin.stores.redis_scripts import Script
from tocsin.stores.rows import (
    PAUSES,
    Advance,
    ClaimedRow,
    NotRun,
    OrphanedRuns,
    Row,
    RowJobStore,
    by_next_run,
)

try:
    from redis import Redis, RedisCluster, exceptions
    from redis.backoff import NoBackoff
    from redis.retry import Retry
except ImportError as error:
    raise ImportError(
        f"this needs redis, which can't be imported ({error}): pip install tocsin[redis]"
    ) from error

__all__ = ["RedisJobStore"]

#: The version of what is stored.
_VERSION = 1
_OLDEST_SERVER = (6,)
#: So many rows are read at once when all are listed.
_PAGE = 500
#: The most rows that one step adds: what the server has to hold in memory, and to be busy with.
_MOST_ROWS = 200_000
_OWN = [
    *("db", "jobs_key", "run_times_key", "url", "client", "replicas", "replica_timeout"),
    *SHARED_OPTIONS,
]
_CONNECTION = signature(Redis.__init__).parameters
#: Options that have no default to tell what their texts are to be turned into.
_NUMBERS = ("socket_timeout", "socket_connect_timeout")


class RedisJobStore(RowJobStore):
    """Keep jobs in Redis 6 or later, shared by any number of schedulers.

    ``db`` is the number of the database. ``jobs_key`` is the key of the hash of the records by
    job id; the other keys of the store are named after it, so that stores with different
    ``jobs_key`` know nothing of each other. ``run_times_key`` is the key of the sorted set of the
    instants at which jobs are due, by default named after ``jobs_key``, too. ``url`` is the
    address as redis-py reads it (``redis://``, ``rediss://``, ``unix://``), ``client`` a client to
    use instead, or a reference to one: a ``Redis``, one of a ``Sentinel``, or a ``RedisCluster``;
    it is not closed. ``replicas`` is the number of replicas that must have received a change
    before it counts as made, and ``replica_timeout`` how long they have for it, in seconds.
    ``pickle_protocol`` is accepted since APScheduler has it, and has no effect.

    Further arguments are those of `SharedJobStore`, and of ``redis.Redis``: ``host``, ``port``,
    ``password`` and so on. Raises TypeError for one that neither knows, ValueError for a value
    that is wrong.

    With n jobs in the store, finding one takes O(1), adding or changing one and finding the next
    that is due O(log n), claiming and advancing k of them O(k log n), listing them O(n log n).
    """

    python_sockets = True

    def __init__(
        self,
        db: int | str = 0,
        jobs_key: str = "tocsin.jobs",
        run_times_key: str | None = None,
        pickle_protocol: int | str | None = None,
        *,
        url: str | None = None,
        client: Any = None,
        replicas: int | str = 0,
        replica_timeout: float | str = 2.0,
        **connect_args: Any,
    ) -> None:
        super().__init__(**take_shared(connect_args))
        self.replicas = _number(replicas, "replicas")
        self.replica_timeout = _seconds(replica_timeout, "replica_timeout")
        self.jobs_key = jobs_key
        prefix = _tagged(jobs_key)
        if run_times_key == "":
            raise ValueError("run_times_key: it must not be empty")
        self.run_times_key = run_times_key or f"{prefix}:run_times"
        self._keys = (
            jobs_key,
            self.run_times_key,
            *(f"{prefix}:{name}" for name in ("state", "runs", "again", "members", "meta")),
        )
        self._client: Any = maybe_ref(client)
        self._lent = client is not None
        if not self._lent:
            self._client = _connected(url, _number(db, "db"), connect_args)
        elif url is not None or _number(db, "db") or connect_args:
            others = [name for name, value in (("url", url), ("db", db)) if value]
            raise ValueError(
                "client: it has connections of its own; give it without"
                f" {', '.join([*others, *connect_args])}"
            )
        # What is published is heard in all databases.
        self._channel = f"{prefix}:changes:{_database(self._client)}"

    def _reset(self) -> None:
        super()._reset()
        self._sender = token_hex(8)
        self._calls = 0
        self._heard: Any = None
        # Claims of which it is not known whether they were settled, and the number of the call
        # of which it is not known what it has taken over.
        self._maybe_settled: set[int] = set()
        self._taking: int | None = None

    # Life

    def _open(self) -> None:
        self._check_server()
        create = "1" if self.create else "0"
        answer = self._call(scripts.OPEN, _VERSION, create, wait=False, again=True)
        found, *more = map(_text, answer)
        if found == "missing":
            raise self._no_store()
        if found == "occupied":
            key, kind = more
            raise RuntimeError(
                f"{self!r}: the key {key!r} holds a {kind} that is not tocsin's; give another"
                " jobs_key. If it is APScheduler's, `tocsin store migrate` copies its jobs"
            )
        if int(found) > _VERSION:
            raise self._other_version(found, _VERSION)
        if more[0] != self.run_times_key:
            raise ValueError(
                f"run_times_key: {self.run_times_key!r} is given, but the jobs of"
                f" {self.jobs_key!r} are kept with {more[0]!r}"
            )
        self._listen()

    def _check_server(self) -> None:
        """Refuse a server that is too old, and warn of one that forgets."""
        if isinstance(self._client, RedisCluster):
            slots = {self._client.keyslot(key) for key in self._keys}
            if len(slots) > 1:
                raise ValueError(
                    f"run_times_key: a cluster keeps {self.run_times_key!r} and"
                    f" {self.jobs_key!r} in different slots; leave it out, or give both the same"
                    " hash tag, such as {tocsin}.jobs and {tocsin}.run_times"
                )
        try:
            info = self._again(lambda: self._primary().info())
        except exceptions.NoPermissionError:
            self._logger.debug("%r: INFO is not permitted; the server was not checked", self)
            return
        version = str(info.get("redis_version", "6"))
        if tuple(int(part) for part in version.split(".")[:1]) < _OLDEST_SERVER:
            raise RuntimeError(f"{self!r}: the server is Redis {version}, 6 or later is needed")
        policy = str(info.get("maxmemory_policy", ""))
        if policy.startswith("allkeys-"):
            self._logger.warning(
                "%r: the server evicts any key when memory is short (maxmemory-policy %s), jobs"
                " too; set noeviction",
                self,
                policy,
            )
        if not info.get("aof_enabled", 1):
            self._logger.warning(
                "%r: the server keeps no append-only file (appendonly no), so that a crash takes"
                " it back to its last snapshot: jobs may be lost, and runs started twice",
                self,
            )

    def _close(self) -> None:
        self._end_listener(self._wake_listener)
        if not self._lent:
            self._client.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {_address(self._client)} {self.jobs_key}>"

    # Calling

    def _primary(self) -> Any:
        """Give the client of the server that has our keys."""
        client = self._client
        if isinstance(client, RedisCluster):
            node = client.get_node_from_key(self.jobs_key)
            if node is None:
                raise exceptions.ConnectionError(
                    f"no node of the cluster has the slot of {self.jobs_key!r}"
                )
            return client.get_redis_connection(node)
        return client

    def _call(self, script: Script, *values: Any, wait: bool = True, again: bool = False) -> Any:
        """Run a script; ``wait`` for the replicas.

        It is tried a few times when it is known that it was not run before, or with ``again``,
        for scripts that may be run twice. What is doubtful raises.
        """
        return self._again(
            lambda: self._run(script, values, self.replicas if wait else 0), again=again
        )

    def _again(self, work: Callable[[], Any], again: bool = True) -> Any:
        for pause in PAUSES:
            try:
                return work()
            except (
                NotRun,
                exceptions.ReadOnlyError,
                exceptions.BusyLoadingError,
                exceptions.MovedError,
            ):
                pass
            except (exceptions.ConnectionError, exceptions.TimeoutError):
                if not again:
                    raise
            if isinstance(self._client, RedisCluster):
                self._client.nodes_manager.initialize()
            time.sleep(pause)
        try:
            return work()
        except NotRun as error:
            raise error.reason from None

    def _run(self, script: Script, values: Sequence[Any], replicas: int) -> Any:
        pool = self._primary().connection_pool
        try:
            connection = pool.get_connection()
        except (exceptions.ConnectionError, exceptions.TimeoutError) as error:
            raise NotRun(error) from error
        try:
            arguments = (len(self._keys), *self._keys, *values)
            try:
                return self._exchange(connection, replicas, ("EVALSHA", script.digest, *arguments))
            except exceptions.NoScriptError:
                return self._exchange(connection, replicas, ("EVAL", script.text, *arguments))
        except BaseException as error:
            # An answer may be on its way still; and who can't be written to is not who it was.
            if not isinstance(error, exceptions.NoScriptError):
                connection.disconnect()
            raise
        finally:
            pool.release(connection)

    def _exchange(self, connection: Any, replicas: int, command: tuple[Any, ...]) -> Any:
        commands = [command]
        if replicas:
            commands.append(("WAIT", replicas, round(self.replica_timeout * 1000)))
        connection.send_packed_command(connection.pack_commands(commands))
        failure: exceptions.RedisError | None = None
        try:
            answer = connection.read_response(disable_decoding=True)
        except exceptions.RedisError as error:
            if not replicas or isinstance(
                error, (exceptions.ConnectionError, exceptions.TimeoutError)
            ):
                raise
            failure = error
        if replicas:
            reached = connection.read_response()
            if failure is not None:
                raise failure
            if reached < replicas:
                raise _Unreplicated(
                    f"{reached} of {replicas} replicas have confirmed a change within"
                    f" {self.replica_timeout:g} s; it is made, and lost if the primary fails now"
                )
        return answer

    # Announcements

    def _listen(self) -> None:
        if self._listener is None:
            self._heard = self._primary().pubsub()
            self._start_listener(self._hear, self._heard)

    def _wake_listener(self) -> None:
        heard, self._heard = self._heard, None
        if heard is not None and heard.connection is not None:
            heard.connection.disconnect()

    def _hear(self, heard: Any) -> None:
        """Wake the scheduler by what others publish; in a thread of its own, until the end."""
        pause = 0.1
        while self._heard is heard:
            try:
                if not heard.subscribed:
                    heard.subscribe(self._channel)
                message = heard.get_message(timeout=self.poll_interval)
                if message is None:
                    continue
                pause = 0.1
                # What was published before we had subscribed is not heard.
                if message["type"] == "subscribe" or _text(message["data"]) != self._sender:
                    self._woken()
            except Exception as error:
                if self._heard is not heard:
                    break
                if isinstance(error, exceptions.NoPermissionError):
                    self._logger.warning(
                        "%r: the channel %s can't be listened to (%s); changes by others are seen"
                        " every %g s only",
                        self,
                        self._channel,
                        error,
                        self.poll_interval,
                    )
                    break
                heard.reset()
                time.sleep(pause)
                pause = min(2 * pause, self.lease / 3)
        heard.close()

    # Members

    def _renew(self, member: str, now: int | None) -> tuple[int, bool]:
        self._listen()
        present, known = self._call(
            scripts.RENEW, _instant(now), member, self._microseconds, wait=False, again=True
        )
        return present, bool(known)

    def _leave(self, member: str) -> None:
        self._call(scripts.LEAVE, member, wait=False, again=True)

    # Rows

    def _row(self, job_id: str) -> Row | None:
        state, record = self._call(scripts.ROW, _bytes(job_id), wait=False, again=True)
        return None if state is None and record is None else _row(job_id, state, record)

    def _rows(self) -> list[Row]:
        rows: dict[str, Row] = {}
        cursor = "0"
        while True:
            answer = self._call(scripts.ROWS, cursor, _PAGE, wait=False, again=True)
            cursor, found = _unpacked(answer)
            rows.update((job_id, _row(job_id, state, record)) for job_id, state, record in found)
            if cursor == "0":
                break
        return sorted(rows.values(), key=by_next_run)

    def _insert(self, rows: Sequence[Row], replace: bool) -> list[bool]:
        if len(rows) > _MOST_ROWS:
            raise ValueError(
                f"{len(rows):,} jobs are to be added at once, at most {_MOST_ROWS:,} may be; add"
                " them in several calls"
            )
        packed = _packed([(row.id, _instant(row.next_run), row.record) for row in rows])
        flag = "1" if replace else "0"
        told = self._call(scripts.INSERT, flag, self._channel, self._sender, packed, again=replace)
        if isinstance(told, list):
            raise ConflictingIdError(_text(told[0]))
        return _digits(told)

    def _replace(self, row: Row, moved: bool) -> bool:
        return bool(
            self._call(
                scripts.REPLACE,
                _bytes(row.id),
                _number_text(row.version),
                _bytes(row.record),
                "1" if moved else "0",
                _instant(row.next_run),
                self._channel,
                self._sender,
                again=True,
            )
        )

    def _delete(self, job_id: str) -> bool:
        return bool(self._call(scripts.DELETE, _bytes(job_id)))

    def _delete_all(self) -> None:
        self._call(scripts.DELETE_ALL, again=True)

    # Claims and runs

    def _claim_rows(self, member: str, now: int | None, limit: int) -> tuple[int, list[ClaimedRow]]:
        answer = self._call(
            scripts.CLAIM, _instant(now), member, self._microseconds, limit, wait=False, again=True
        )
        head, *parts = answer
        present, fence, *numbers = map(int, head.split())
        ids, texts = (
            part.decode() if part.isascii() else part for part in (parts[0], b"".join(parts[1:]))
        )
        versions, times, counts, id_sizes, sizes = (numbers[column::5] for column in range(5))
        found = zip(_cut(ids, id_sizes), times, versions, _cut(texts, sizes), repeat(fence), counts)
        return present, list(map(ClaimedRow._make, found))

    def _advance_rows(self, member: str, entries: Sequence[Advance]) -> list[bool]:
        self._calls += 1
        ids, fences, due, times, records = zip(*entries, strict=True)
        tokens: Any = list(map(_number_text, fences))
        if len(set(fences)) == 1:  # as of all that were claimed at once
            tokens = tokens[0]
        packed = _packed(
            [
                ids,
                tokens,
                ["" if each is None else str(each) for each in due],
                [str(each[0]) if len(each) == 1 else ",".join(map(str, each)) for each in times],
                [record or "" for record in records] if any(records) else "",
            ]
        )
        return _digits(self._call(scripts.ADVANCE, member, self._calls, packed, again=True))

    def _release_row(self, job_id: str, fence: int, until: int) -> None:
        self._call(
            scripts.RELEASE, _bytes(job_id), _number_text(fence), until, wait=False, again=True
        )

    def _earliest(self) -> int | None:
        first = self._again(
            lambda: self._primary().zrange(self.run_times_key, 0, 0, withscores=True)
        )
        return int(first[0][1]) if first else None

    def _settle(self, member: str, claims: Sequence[Claim]) -> list[bool]:
        packed = _packed([(claim.job_id, _number_text(claim.fence)) for claim in claims])
        fences = [claim.fence for claim in claims]
        try:
            held = _digits(self._call(scripts.SETTLE, member, packed, wait=False))
        except (exceptions.ConnectionError, exceptions.TimeoutError):
            self._maybe_settled.update(fences)
            raise
        maybe, self._maybe_settled = self._maybe_settled, set()
        return [was or fence in maybe for was, fence in zip(held, fences, strict=True)]

    def _recorded(self, member: str, claims: Sequence[Claim]) -> list[bool]:
        packed = _packed([(claim.job_id, _number_text(claim.fence)) for claim in claims])
        return _digits(self._call(scripts.RECORDED, member, packed, again=True))

    def _orphans(self, member: str, now: int | None) -> list[OrphanedRuns]:
        if self._taking is None:
            self._calls += 1
            self._taking = self._calls
        answer = self._call(scripts.ORPHANS, _instant(now), member, self._taking, again=True)
        self._taking = None
        return [
            OrphanedRuns(job_id, list(map(int, times.split(","))), int(fence), record or None, gone)
            for job_id, times, fence, record, gone in _unpacked(answer)
        ]

    def _hand_back(self, member: str, taken: Sequence[OrphanedRuns]) -> None:
        packed = _packed([(runs.id, _number_text(runs.fence), runs.member) for runs in taken])
        self._call(scripts.HAND_BACK, member, packed, again=True)


class _Unreplicated(exceptions.RedisError):
    """Fewer replicas than asked for have confirmed a change in time."""


def _connected(url: str | None, db: int, arguments: Mapping[str, Any]) -> Redis:
    """Make a client, which connects when it is used, of the arguments of a store."""
    for name in arguments:
        if name not in _CONNECTION or name == "self":
            raise TypeError(
                f"{name}: unknown{suggestion(name, [*_OWN, *_CONNECTION])}; RedisJobStore takes"
                f" {', '.join(_OWN)}, and the arguments of redis.Redis"
            )
    # Calls are tried again here, where it is known which may be.
    given: dict[str, Any] = {
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": 10.0,
        "socket_connect_timeout": 5.0,
    }
    given.update((name, _argument(name, value)) for name, value in arguments.items())
    given["db"] = db
    if url is None:
        return Redis(**given)
    try:
        return Redis.from_url(url, **given)
    except ValueError:
        _refuse_url(url)


def _refuse_url(url: str) -> NoReturn:
    """Say that an address can't be read, without its password."""
    scheme, separator, rest = str(url).partition("://")
    if not separator:
        raise ValueError(
            "url: it must begin with redis://, rediss:// or unix://, then as in"
            " redis://:password@localhost:6379/0"
        ) from None
    host = rest.rpartition("@")[2]
    shown = f"{scheme}://***@{host}" if "@" in rest else f"{scheme}://{rest}"
    raise ValueError(
        f"url: {shown!r} can't be read as redis://:password@localhost:6379/0 can; if a password or"
        " name in it has other characters than letters and digits, quote them (urllib.parse.quote)"
    ) from None


def _argument(name: str, value: Any) -> Any:
    """Turn the text of an argument of a connection into what redis-py wants."""
    if not isinstance(value, str):
        return value
    default = _CONNECTION[name].default
    if name in _NUMBERS:
        return _seconds(value, name)
    if isinstance(default, bool) or name == "socket_keepalive":
        try:
            return as_bool(value)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    if isinstance(default, int) or name in ("max_connections", "protocol"):
        return _number(value, name)
    return value


def _number(value: Any, name: str) -> int:
    try:
        number = int(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name}: {value!r} is not a number") from None
    if number < 0:
        raise ValueError(f"{name}: {value!r} is negative")
    return number


def _seconds(value: Any, name: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name}: {value!r} is not a number of seconds") from None


def _tagged(key: str) -> str:
    """Give what the names of further keys begin with, to be in the slot of a key in a cluster."""
    if not isinstance(key, str) or not key:
        raise ValueError(f"jobs_key: {key!r} is not the name of a key")
    before, _, rest = key.partition("{")
    tag, closed, _ = rest.partition("}")
    if tag and closed and "}" not in before:
        return key
    if "{" in key or "}" in key:
        raise ValueError(
            f"jobs_key: the braces in {key!r} are no hash tag; use none, or a pair such as"
            " {tocsin}.jobs"
        )
    return f"{{{key}}}"


def _address(client: Any) -> str:
    """Show where a client connects to, without names and passwords."""
    if isinstance(client, RedisCluster):
        return ",".join(f"{node.host}:{node.port}" for node in client.get_nodes())
    options = client.connection_pool.connection_kwargs
    where = options.get("path") or f"{options.get('host', '?')}:{options.get('port', '?')}"
    return f"{where}/{_database(client)}"


def _database(client: Any) -> int:
    """Give the number of the database of a client; a cluster has but one."""
    if isinstance(client, RedisCluster):
        return 0
    return int(client.connection_pool.connection_kwargs.get("db") or 0)


def _row(job_id: str, state: str | bytes | None, record: str | bytes | None) -> Row:
    """Make a row of what is stored; where others have spoilt it, of what is left of it."""
    _, version, due = [*_text(state or "").split(" "), "", ""][:3]
    try:
        return Row(job_id, int(due) if due else None, int(version), _text(record or ""))
    except ValueError:
        return Row(job_id, None, 0, _text(record or ""))


def _instant(instant: int | None) -> str:
    return "" if instant is None else str(instant)


def _number_text(number: int) -> str:
    return f"{number:016d}"


def _packed(values: Sequence[Any]) -> bytes:
    return _bytes(encode(values))


def _unpacked(answer: bytes) -> Any:
    return json.loads(_text(answer))


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogatepass")


def _text(value: str | bytes) -> str:
    """Decode what the server has, whatever others have written there."""
    if isinstance(value, str):
        return value
    try:
        return value.decode(errors="surrogatepass")
    except UnicodeDecodeError:
        return value.decode(errors="replace")


def _cut(texts: str | bytes, sizes: Sequence[int]) -> list[str]:
    """Take apart texts that were put together; each is decoded alone where some are not ASCII."""
    ends = list(accumulate(sizes))
    parts = [texts[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    return parts if isinstance(texts, str) else list(map(_text, parts))  # type: ignore[return-value]


def _digits(told: bytes) -> list[bool]:
    return [digit == b"1"[0] for digit in told]
