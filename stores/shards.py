"""What the stores have in common whose jobs are spread over shards, each led by one scheduler.

Layout, below the path of the store::

    meta                   the version of the layout, and the number of shards
    news/members/<name>    ephemeral: a scheduler that is alive
    news/leaders/<name>    ephemeral: a member that takes part in the division of the shards
    news/owners/<n>        ephemeral: the name of the member that leads the shard
    news/inboxes/<n>       its version counts the operations that anybody has asked for
    shards/<n>/ops/<v>     such an operation, until the leader has taken it into the log
    shards/<n>/log         what has changed since the pages were written; its version is the fence
    shards/<n>/pages/<v>-<i>    the states of the jobs, in lines: when each is due, what it runs
    shards/<n>/defs/<id>   the record of a job

Whoever changes a job writes its record and an operation in one transaction that names the version
of the inbox. The leader of a shard writes its log in transactions that name the versions of the
log and of the inbox: it is refused when another one leads the shard by now, or when somebody has
changed a job that it has not heard of yet. The state of a shard is what its pages say, then its
log, then the operations in its inbox that the log has not taken in.
"""

from __future__ import annotations

import json
import threading
import time
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from hashlib import blake2b
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

from tocsin.claims import Claim, Recovered
from tocsin.engine.heap import DueHeap
from tocsin.errors import ConflictingIdError, JobLookupError
from tocsin.job import Job
from tocsin.stores.shared import UNREADABLE, SharedJobStore, elapsed

__all__ = [
    "Check",
    "Create",
    "Delete",
    "Node",
    "Op",
    "Set",
    "ShardJobStore",
    "Tree",
    "Unavailable",
]

VERSION = 1
#: So often a transaction is tried again that others were quicker with.
_MOST_TRIES = 100
#: How much of a shard's state one page, one operation or one transaction of its log holds.
_PAGE_BYTES = 200_000
#: Up to so many ids are looked for one by one; above, the names in their shards are listed.
_FEW = 64
#: Bytes of an operation in a transaction besides its data and its path.
_OVERHEAD = 64
_SECOND = 1_000_000
_NEWS = ("news/members", "news/leaders", "news/owners", "news/inboxes")
#: So many seconds after a division of the shards it is seen to whether all of them are led.
_CHECK = 0.3
#: So many seconds runs that have ended wait for others, to be settled together.
_LINGER = 0.1

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class Unavailable(ConnectionError):
    """The server was not reached, or its answer was not: what was asked may have been done."""


class Node(NamedTuple):
    """A node that was read."""

    data: bytes
    version: int


class Check(NamedTuple):
    """Refuse the transaction unless a node has this version."""

    path: str
    version: int


class Set(NamedTuple):
    """Write a node of this version, any if it is None; the version grows by one."""

    path: str
    data: bytes
    version: int | None


class Create(NamedTuple):
    """Make a node that is not there; an ephemeral one goes when our session ends."""

    path: str
    data: bytes
    ephemeral: bool = False


class Delete(NamedTuple):
    """Take a node out that is there."""

    path: str


Op = Check | Set | Create | Delete


class Tree(ABC):
    """A tree of small nodes with versions, on a server, that is changed in transactions.

    Paths are below the path of the store. Every call raises `Unavailable` when the server can't
    be reached; requests of one client take effect in their order.
    """

    #: The limits of one transaction.
    most_bytes: int
    most_ops: int
    #: Whether a node needs one above it.
    has_folders: bool
    #: Whether `enter` tells the time.
    has_clock: bool
    #: Grows when the session has ended, and with it all that was ephemeral.
    session: int = 0
    #: Grows when the connection has broken: watches are gone, and transactions are in doubt.
    connection: int = 0

    @property
    @abstractmethod
    def connected(self) -> bool:
        """Whether the server can be asked at this moment."""

    @abstractmethod
    def open(self, changed: Callable[[str | None], None]) -> None:
        """Connect; ``changed`` is called with the path of a node that was watched, once.

        It is called without a path when the connection has broken or is back.
        """

    @abstractmethod
    def close(self) -> None:
        """Disconnect."""

    @abstractmethod
    def make_root(self) -> None:
        """Make the path of the store, if it is not there."""

    @abstractmethod
    def read(self, paths: Sequence[str], watch: bool = False) -> list[Node | None]:
        """Read nodes, None for those that are not there, in one round trip."""

    @abstractmethod
    def names(self, paths: Sequence[str], watch: bool = False) -> list[list[str]]:
        """List the names below nodes, in one round trip."""

    @abstractmethod
    def commit(self, transactions: Sequence[Sequence[Op]]) -> list[int | None]:
        """Commit transactions one after the other, in one round trip.

        Tell of each which of its operations was refused, None if it took effect.
        """

    @abstractmethod
    def enter(self, path: str, data: bytes) -> tuple[int | None, bool]:
        """Write an ephemeral node.

        Give the instant by the server's clock, if it has one, and whether the node was there.
        """

    @abstractmethod
    def catch_up(self) -> None:
        """Wait until ``changed`` was called for all that had changed by now."""

    @abstractmethod
    def wait(self, seconds: float) -> bool:
        """Wait until the server can be asked; false if it can't within so many seconds."""


class Run:
    """The runs of one claim that have begun and not ended.

    ``record`` is that of a job that runs at least once, False when the job was removed
    meanwhile: nobody need look after the run then.
    """

    __slots__ = ("fence", "member", "record", "times")

    def __init__(
        self, fence: int, member: str, times: Sequence[int], record: str | bool | None
    ) -> None:
        self.fence = fence
        self.member = member
        self.times = times
        self.record = record

    @property
    def text(self) -> str:
        """What is written of it, after the token and the member."""
        times = f"[{','.join(map(str, self.times))}]"
        return f"{times},null]" if self.record is None else f"{times},{_encode(self.record)}]"


class Entry:
    """The state of a job, as its leader has it in memory."""

    __slots__ = (
        "claim",
        "handle",
        "id",
        "job",
        "next_run",
        "record",
        "runs",
        "scheduled",
        "shard",
        "text",
    )

    def __init__(self, shard: Shard, job_id: str) -> None:
        self.shard = shard
        self.id = job_id
        self.text = _encode(job_id)
        #: Whether there is such a job; without one there are only runs of it.
        self.scheduled = False
        self.next_run: int | None = None
        self.runs: tuple[Run, ...] = ()
        #: The fencing token of the claim, 0 without one.
        self.claim = 0
        #: In the heap.
        self.handle: int | None = None
        #: The record, and what was made of it, once they were needed.
        self.record: str | None = None
        self.job: Job | None = None


class Shard:
    """A part of the jobs: of those whose ids have the same remainder."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.path = f"shards/{number:02}"
        self.log = f"{self.path}/log"
        self.pages_folder = f"{self.path}/pages"
        self.ops = f"{self.path}/ops"
        self.defs = f"{self.path}/defs"
        self.inbox = f"news/inboxes/{number:02}"
        self.owner = f"news/owners/{number:02}"
        self.entries: dict[str, Entry] = {}
        #: Those of the entries with runs.
        self.running: dict[str, Entry] = {}
        self.claims = 0
        self.leaving = False
        #: Until when we lead it in the place of another one.
        self.lent_until: float | None = None
        self.version = 0
        self.inbox_version = 0
        self.lines = bytearray()
        # Bytes of the pages that were written together, of those that were added since, and of
        # lines of the log that were written once more.
        self.page_bytes = self.added_bytes = self.rewritten = 0
        # What the first line of the log says: the number of leaders so far, the number of the
        # last operation that is in it, the pages, and the names of members that have runs.
        self.epoch = 0
        self.applied = 0
        self.pages: list[str] = []
        self.names: dict[str, int] = {}
        self._fences = 0

    def definition(self, job_id: str) -> str:
        """Give the path of a job's record."""
        return f"{self.defs}/{quoted(job_id)}"

    def fence(self) -> int:
        """Give a token that is higher than all before it, by this leader or another."""
        self._fences += 1
        return (self.epoch << 32) + self._fences

    def read_log(self, node: Node | None) -> list[bytes]:
        """Take over what a log says first; give its other lines."""
        data, self.version = node or (b"", 0)
        first, *lines = data.split(b"\n")
        head = json.loads(first) if first else {}
        self.epoch = head.get("epoch", 0)
        self.applied = head.get("applied", 0)
        self.pages = [f"{self.pages_folder}/{name}" for name in head.get("pages", ())]
        self.names = {name: number for number, name in enumerate(head.get("names", ()))}
        self.lines = bytearray(b"".join(b"\n" + line for line in lines))
        return lines

    def head(self) -> bytes:
        """Give the first line of the log."""
        return _encode(
            {
                "epoch": self.epoch,
                "applied": self.applied,
                "pages": [page.rpartition("/")[2] for page in self.pages],
                "names": list(self.names),
            }
        ).encode()

    def written(self, lines: bytes | bytearray) -> None:
        """Take note that lines are in the log."""
        self.version += 1
        self.rewritten += len(self.lines)
        self.lines += lines

    def is_long(self) -> bool:
        """Tell whether to begin the log anew costs no more than to have gone on has cost."""
        return self.rewritten > len(self.lines) + 4096 or len(self.lines) > _PAGE_BYTES

    def is_scattered(self) -> bool:
        """Tell whether as much was added to the pages as is in them."""
        return self.added_bytes + len(self.lines) > self.page_bytes + 16384

    def apply_lines(self, lines: Iterable[bytes]) -> None:
        """Have the entries be as lines of pages or of the log say, the last one for each job."""
        names = list(self.names)
        for job_id, state in json.loads(b"[" + b",".join(lines) + b"]"):
            if state is None:
                self.drop(job_id)
                continue
            scheduled, next_run, *runs = (1, state) if type(state) is int else state
            entry = self.entry(job_id)
            entry.scheduled, entry.next_run = bool(scheduled), next_run
            self.set_runs(
                entry,
                tuple(Run(fence, names[name], times, rec) for fence, name, times, rec in runs),
            )

    def line(
        self, entry: Entry, scheduled: bool, next_run: int | None, runs: Sequence[Run]
    ) -> bytes:
        """Write the state of a job down; it begins with the end of the line before."""
        due = "null" if next_run is None else str(next_run)
        if runs:
            names = self.names
            texts = [f"[{run.fence},{names.setdefault(run.member, len(names))}," for run in runs]
            told = ",".join([text + run.text for text, run in zip(texts, runs, strict=True)])
            state = f"[{scheduled:d},{due},{told}]"
        elif not scheduled:
            state = "null"
        else:
            state = "[1,null]" if next_run is None else due
        return f"\n[{entry.text},{state}]".encode(errors="surrogatepass")

    def entry(self, job_id: str) -> Entry:
        """Give the entry of a job, a new one if need be."""
        found = self.entries.get(job_id)
        if found is None:
            found = self.entries[job_id] = Entry(self, job_id)
        return found

    def set_runs(self, entry: Entry, runs: tuple[Run, ...]) -> None:
        """Change the runs of an entry, and drop it when nothing is left of it."""
        entry.runs = runs
        if runs:
            self.running[entry.id] = entry
        else:
            self.running.pop(entry.id, None)
            if not entry.scheduled:
                self.entries.pop(entry.id, None)

    def drop(self, job_id: str) -> None:
        """Forget a job and its runs."""
        self.entries.pop(job_id, None)
        self.running.pop(job_id, None)

    def pages_of_state(self) -> list[bytes]:
        """Write the state of all jobs down."""
        self.names = {}
        pages, page = [], bytearray()
        for entry in self.entries.values():
            line = self.line(entry, entry.scheduled, entry.next_run, entry.runs)
            if page and len(page) + len(line) > _PAGE_BYTES:
                pages.append(bytes(page[1:]))
                page.clear()
            page += line
        return [*pages, bytes(page[1:])] if page else pages


class Change(NamedTuple):
    """What is to become of a job. Without a ``record`` it is removed."""

    id: str
    record: str | None = None
    next_run: int | None = None
    #: Whether its next run time changes: claims of it end.
    moved: bool = True
    #: Whether it is there.
    known: bool = True


def quoted(name: str) -> str:
    """Turn any text into the name of a node."""
    name = quote(name, safe=" @:,;=+", errors="surrogatepass")
    return name.replace(".", "%2E", 1) if name.startswith(".") else name


def unquoted(name: str) -> str:
    """Turn the name of a node back into a text."""
    return unquote(name, errors="surrogatepass")


def divided(shards: int, members: Sequence[str]) -> list[str]:
    """Divide shards among members: evenly, and so that few move when one comes or goes.

    Each member scores each shard by a hash of both; the highest scores are had first, by those
    who have not got their part yet. All who know the same members divide alike. O(s m log s m).
    """
    scores = sorted(
        (blake2b(f"{shard} {member}".encode(), digest_size=8).digest(), shard, member)
        for shard in range(shards)
        for member in members
    )
    least, more = divmod(shards, len(members))
    part = dict.fromkeys(members, 0)
    owners: dict[int, str] = {}
    for _, shard, member in reversed(scores):
        if shard not in owners and part[member] < least + (more > 0):
            owners[shard] = member
            part[member] += 1
            if part[member] > least:
                more -= 1
    return [owners[shard] for shard in range(shards)]


class ShardJobStore(SharedJobStore):
    """The base of stores on a `Tree`: ZooKeeper, etcd.

    The jobs are spread over shards by a hash of their ids, and the shards divided among the
    schedulers that are alive. The leader of a shard has the states of its jobs in memory, in a
    heap; a claim asks the server nothing, and to advance claims takes one transaction for up to
    a thousand of them. What others change is read when the server says so, and nothing else.
    """

    def __init__(self, tree: Tree, *, shards: Any = 32, **options: Any) -> None:
        self._tree = tree
        self._lock = threading.RLock()
        super().__init__(**options)
        count = int(shards)
        if not 1 <= count <= 1024:
            raise ValueError(f"shards: {shards!r} is not a number from 1 to 1024")
        #: How many there are; what the store was created with goes before what is asked for.
        self.shards = count

    def _reset(self) -> None:
        super()._reset()
        self._led: dict[int, Shard] = {}
        # Whose owner nodes are ours, be it that we do not lead them yet, or not any more.
        self._owned: set[int] = set()
        self._desired: frozenset[int] = frozenset()
        self._alive: frozenset[str] = frozenset()
        self._heap = DueHeap()
        # When claims end that nobody has advanced or given back, those that end first first.
        self._claims: dict[Entry, float] = {}
        # Our runs that are not settled, wherever they are recorded.
        self._mine: dict[tuple[str, int], Claim] = {}
        # Of jobs that we have added ourselves, by shard and number of the operation.
        self._fresh: dict[tuple[int, int], dict[str, str]] = {}
        # What the tree has told: written by its thread.
        self._dirty: set[int] = set()
        self._divide = self._acquire = True
        self._candidate = False
        self._candidates: list[str] = []
        # When to see whether others have done their part.
        self._check_at: float | None = None
        self._session = self._connection = -1
        self._tended = elapsed()

    def after_fork(self) -> None:
        """Forget, in a forked child, the connections and the member of its parent."""
        self._lock = threading.RLock()
        super().after_fork()

    # Life

    def _open(self) -> None:
        self._tree.open(self._changed)
        (meta,) = self._tree.read(["meta"])
        if meta is None:
            meta = self._created()
        try:
            found = json.loads(meta.data)
            version, count = int(found["version"]), int(found["shards"])
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"{self!r}: what is stored there is not tocsin's") from None
        if version > VERSION:
            raise ValueError(
                f"{self!r}: it was written by a newer tocsin (layout {version}, this one knows up"
                f" to {VERSION}); upgrade tocsin"
            )
        self.shards = count

    def _created(self) -> Node:
        """Make what the store needs, or see that another one was quicker."""
        if not self.create:
            raise LookupError(
                f"{self!r}: nothing is there, and create is false; run: tocsin store init"
            )
        tree = self._tree
        tree.make_root()
        self._refuse_others(tree.names([""])[0])
        meta = _encode({"version": VERSION, "shards": self.shards}).encode()
        folders = []
        if tree.has_folders:
            folders = ["news", *_NEWS, "shards"]
            for number in range(self.shards):
                shard = Shard(number)
                folders += [shard.inbox, shard.path, shard.log]
                folders += [shard.pages_folder, shard.ops, shard.defs]
        tree.commit([[Create("meta", meta), *(Create(folder, b"") for folder in folders)]])
        (node,) = tree.read(["meta"])
        if node is None:
            raise Unavailable(f"{self!r} could not be created")
        return node

    def _refuse_others(self, names: Sequence[str]) -> None:
        """Refuse a path below which APScheduler keeps its jobs."""
        some = [name for name in names[:100] if name != "meta"]
        for name, node in zip(some, self._tree.read(some), strict=True):
            if node is not None and node.data[:1] == b"\x80":
                raise ValueError(
                    f"{self!r}: there are jobs of APScheduler, such as {unquoted(name)!r}; give"
                    " another path, and carry them over with: tocsin store migrate"
                )

    def _close(self) -> None:
        self._tree.close()

    def _changed(self, path: str | None) -> None:
        """Take note of news; in the thread of the tree."""
        _, kind, number, *_ = f"{path}///".split("/")
        if kind == "owners":
            self._acquire = True
        elif kind == "inboxes":
            self._dirty.add(int(number))
        else:
            self._divide = True
        self._woken()

    def _learn_time(self, before: int, theirs: int) -> None:
        if self._tree.has_clock:
            super()._learn_time(before, theirs)

    # Membership

    def _renew(self, member: str, now: int | None) -> tuple[int, bool]:
        with self._lock:
            idle = elapsed() - self._tended
            if self._candidate and idle > max(self.lease, 2 * (self.poll_interval or 0.0)):
                self._stand_back(member)
        instant, known = self._tree.enter(f"news/members/{quoted(member)}", b"")
        if now is None:
            now = self._now() if instant is None else instant
        return now, known

    def _stand_back(self, member: str) -> None:
        """Let others lead: our scheduler is paused, or hangs, or ends."""
        self._forget(list(self._led.values()))
        self._tree.commit(
            [
                [Delete(f"news/leaders/{quoted(member)}")],
                *([Delete(Shard(number).owner)] for number in sorted(self._owned)),
            ]
        )
        self._owned.clear()
        self._candidate = False

    def _leave(self, member: str) -> None:
        # All of it ends with our session as well, if the server can't be asked.
        with self._lock, suppress(Unavailable):
            once = [claim for claim in self._mine.values() if claim.record is None]
            self._settle(member, once)
            self._stand_back(member)
            self._tree.commit([[Delete(f"news/members/{quoted(member)}")]])

    # Leading

    def _tend(self, now: int) -> None:
        """See to it that we lead what we have to, and know all that has changed.

        It asks the server only what it has said to have changed.
        """
        tree = self._tree
        if not tree.connected:
            raise Unavailable(f"{self!r} can't be reached")
        if self.clock == "scheduler":
            tree.catch_up()  # time that does not pass by itself must not overtake the news
        self._tended = elapsed()
        if tree.session != self._session:
            self._session = tree.session
            self._owned.clear()
            self._candidate = False
            self._renew_at = 0.0
            self._forget(list(self._led.values()))
        if tree.connection != self._connection:
            self._connection = tree.connection
            self._divide = True
            self._forget(list(self._led.values()))
        member = self._join(now)
        if not self._candidate:
            tree.enter(f"news/leaders/{quoted(member)}", b"")
            self._candidate = self._divide = True
        # Before the news: what is due in a shard that is to go is had first.
        leaving = []
        for shard in self._led.values():
            if shard.leaving and not shard.claims:
                leaving.append(shard)
            elif shard.lent_until is not None and self._clock(now) >= shard.lent_until:
                shard.leaving = shard.number not in self._desired
                shard.lent_until = None
        if leaving:
            self._give_up(leaving)
        if self._divide:
            self._divide = False
            try:
                self._learn_members(member)
            except Exception:
                self._divide = True
                raise
            self._acquire = True
            self._check_at = self._clock(now) + _CHECK if len(self._candidates) > 1 else None
        self._expire_claims(now)
        if self._acquire:
            self._acquire = False
            try:
                self._acquire_shards(member)
            except Exception:
                self._acquire = True
                raise
        if self._check_at is not None and self._clock(now) >= self._check_at:
            self._check_at = None
            self._fill_in(member, now)
        self._hear()

    def _learn_members(self, member: str) -> None:
        alive, leaders = self._tree.names(["news/members", "news/leaders"], watch=True)
        before = self._alive
        self._alive = frozenset(map(unquoted, alive))
        if before - self._alive:
            self._recover_at = 0
        self._candidates = sorted({*map(unquoted, leaders), member})
        owners = divided(self.shards, self._candidates)
        self._desired = frozenset(n for n, owner in enumerate(owners) if owner == member)
        for number, shard in self._led.items():
            shard.leaving = number not in self._desired
        if any(shard.leaving for shard in self._led.values()):
            self._woken()

    def _fill_in(self, member: str, now: int) -> None:
        """Lead shards that nobody leads: who should is dead, and the server does not know yet."""
        owners = divided(self.shards, self._candidates)
        others = [Shard(number) for number, owner in enumerate(owners) if owner != member]
        nodes = self._tree.read([shard.owner for shard in others])
        free = [shard for shard, node in zip(others, nodes, strict=True) if node is None]
        if not free:
            return
        missing = {owners[shard.number] for shard in free}
        owners = divided(self.shards, [each for each in self._candidates if each not in missing])
        ours = [shard for shard in free if owners[shard.number] == member]
        self._acquire_some(member, ours)
        for shard in ours:
            shard.lent_until = self._clock(now) + self.lease
        self._check_at = self._clock(now) + self.lease

    def _acquire_shards(self, member: str) -> None:
        tree = self._tree
        superfluous = self._owned - self._desired - self._led.keys()
        if superfluous:
            tree.commit([[Delete(Shard(number).owner)] for number in sorted(superfluous)])
            self._owned -= superfluous
        wanted = [Shard(number) for number in sorted(self._desired - self._led.keys())]
        if wanted:
            self._acquire_some(member, wanted)

    def _acquire_some(self, member: str, wanted: Sequence[Shard]) -> None:
        tree = self._tree
        owners = tree.read([shard.owner for shard in wanted], watch=True)
        free = [
            (shard, owner)
            for shard, owner in zip(wanted, owners, strict=True)
            if owner is None or owner.data == member.encode()
        ]
        logs = tree.read([shard.log for shard, _ in free])
        lines = []
        transactions: list[list[Op]] = []
        for (shard, owner), log in zip(free, logs, strict=True):
            lines.append(shard.read_log(log))
            shard.epoch += 1
            own: Op = (
                Create(shard.owner, member.encode(), ephemeral=True)
                if owner is None
                else Check(shard.owner, owner.version)
            )
            transactions.append(
                [own, Set(shard.log, shard.head() + bytes(shard.lines), shard.version)]
            )
        had = []
        for (shard, _), rest, refused in zip(free, lines, tree.commit(transactions), strict=True):
            if refused is None:
                shard.version += 1
                self._owned.add(shard.number)
                had.append((shard, rest))
            else:
                self._acquire = True  # another one was quicker: watch its node
        if had:
            self._load(had)
            self._recover_at = 0
        if self._acquire:
            self._woken()

    def _load(self, had: Sequence[tuple[Shard, list[bytes]]]) -> None:
        """Take the states of shards into memory."""
        pages = iter(self._read_all(page for shard, _ in had for page in shard.pages))
        names = self._tree.names([shard.pages_folder for shard, _ in had])
        stray: list[Sequence[Op]] = []
        for (shard, lines), children in zip(had, names, strict=True):
            found = [next(pages).data for _ in shard.pages]
            shard.page_bytes = sum(map(len, found))
            shard.apply_lines(page.replace(b"\n", b",") for page in found)
            shard.apply_lines(lines)
            for entry in shard.entries.values():
                if entry.next_run is not None:
                    entry.handle = self._heap.push(entry.next_run, entry)
            self._led[shard.number] = shard
            self._dirty.add(shard.number)
            known = {page.rpartition("/")[2] for page in shard.pages}
            stray += [
                [Delete(f"{shard.pages_folder}/{name}")] for name in children if name not in known
            ]
        if stray:
            self._tree.commit(stray)

    def _read_all(self, paths: Iterable[str]) -> list[Node]:
        """Read nodes that only their leader takes out."""
        wanted = list(paths)
        nodes = []
        for path, node in zip(wanted, self._tree.read(wanted), strict=True):
            if node is None:
                raise Unavailable(f"{self!r}: {path} is not there; it will be looked for again")
            nodes.append(node)
        return nodes

    def _give_up(self, shards: Sequence[Shard]) -> None:
        """Let others lead shards."""
        self._forget(shards)
        if shards:
            self._tree.commit([[Delete(shard.owner)] for shard in shards])
            self._owned.difference_update(shard.number for shard in shards)

    def _forget(self, shards: Sequence[Shard]) -> None:
        """Lead shards no longer, at least not with what we know of them."""
        for shard in shards:
            self._led.pop(shard.number, None)
            for entry in shard.entries.values():
                self._unschedule(entry)
            self._fresh = {key: kept for key, kept in self._fresh.items() if key[0] in self._led}
            self._acquire = True

    def _hear(self) -> None:
        """Take operations in that others have asked for."""
        if self._dirty:
            numbers = list(self._dirty)
            self._dirty.difference_update(numbers)
            self._take_in([self._led[number] for number in numbers if number in self._led])

    def _take_in(self, shards: Sequence[Shard]) -> None:
        """Read the inboxes of shards that we lead, and apply the operations in them."""
        try:
            while shards:
                shards = self._take_in_once(shards)
        except Exception:
            self._doubt(shards)
            raise

    def _take_in_once(self, shards: Sequence[Shard]) -> list[Shard]:
        tree = self._tree
        numbers: list[tuple[Shard, int]] = []
        for shard, node in zip(
            shards, tree.read([shard.inbox for shard in shards], watch=True), strict=True
        ):
            shard.inbox_version = 0 if node is None else node.version
            numbers += [(shard, n) for n in range(shard.applied + 1, shard.inbox_version + 1)]
        if not numbers:
            return []
        nodes = iter(self._read_all(_operation(shard, number) for shard, number in numbers))
        work: dict[Shard, tuple[bytearray, list[Op]]] = {}
        full: set[Shard] = set()
        for (shard, number), node in zip(numbers, nodes, strict=True):
            lines, ops = work.setdefault(shard, (bytearray(), []))
            if shard in full:
                continue
            fresh = self._fresh.pop((shard.number, number), {})
            for line in self._apply(shard, json.loads(node.data), fresh):
                lines += line
            ops.append(Delete(_operation(shard, number)))
            shard.applied = number
            if len(lines) > _PAGE_BYTES or len(ops) >= tree.most_ops // 2:
                full.add(shard)
        for shard in work:
            if len(shard.lines) + len(work[shard][0]) > 2 * _PAGE_BYTES:
                # What was applied is in the pages that are written now.
                work[shard][0].clear()
                self._compact(shard, work[shard][1])
                work[shard][1].clear()
        parts = [(shard, lines, ops) for shard, (lines, ops) in work.items() if ops]
        transactions = [[self._append(shard, lines), *ops] for shard, lines, ops in parts]
        for (shard, lines, _), refused in zip(parts, tree.commit(transactions), strict=True):
            if refused is None:
                shard.written(lines)
            else:
                self._doubt([shard])
        self._tidy(work)
        return [shard for shard in full if self._led.get(shard.number) is shard]

    def _append(self, shard: Shard, lines: bytes | bytearray) -> Set:
        return Set(shard.log, shard.head() + bytes(shard.lines) + bytes(lines), shard.version)

    def _tidy(self, shards: Iterable[Shard]) -> None:
        """Begin the logs of shards anew that are long: what is in them becomes a page."""
        long = [each for each in shards if each.is_long() and self._led.get(each.number) is each]
        if not long:
            return
        transactions: list[list[Op]] = []
        scattered = []
        for shard in long:
            if shard.is_scattered():
                scattered.append(shard)
                continue
            page = f"{shard.pages_folder}/{shard.version}-0"
            new = Create(page, bytes(shard.lines[1:]))
            shard.added_bytes += len(shard.lines)
            shard.pages.append(page)
            shard.lines.clear()
            shard.rewritten = 0
            transactions.append([self._append(shard, b""), new])
        self._begin_anew([shard for shard in long if shard not in scattered], transactions)
        for shard in scattered:
            self._compact(shard)

    def _compact(self, shard: Shard, extra: Sequence[Op] = ()) -> None:
        """Write the pages of a shard anew, and begin its log anew."""
        old, pages = shard.pages, shard.pages_of_state()
        shard.pages = [f"{shard.pages_folder}/{shard.version}-{n}" for n in range(len(pages))]
        shard.page_bytes = sum(map(len, pages))
        shard.added_bytes = shard.rewritten = 0
        shard.lines.clear()
        new = [Create(path, page) for path, page in zip(shard.pages, pages, strict=True)]
        end = [self._append(shard, b""), *(Delete(page) for page in old), *extra]
        if shard.page_bytes < self._tree.most_bytes // 2:
            self._begin_anew([shard], [[*end, *new]])
        else:
            parts: list[list[Op]] = [[Check(shard.log, shard.version), page] for page in new]
            self._begin_anew([shard], [*parts, end])

    def _begin_anew(self, shards: Sequence[Shard], transactions: Sequence[Sequence[Op]]) -> None:
        """Commit new logs, one of each of the last transactions."""
        try:
            results = self._tree.commit(transactions)
        except Exception:
            self._doubt(shards)
            raise
        for shard, refused in zip(shards, results[-len(shards) :], strict=True):
            if refused is None:
                shard.version += 1
            else:
                self._doubt([shard])

    def _doubt(self, shards: Sequence[Shard]) -> None:
        """Have shards be read anew before they are led on, if they still are ours."""
        self._forget([shard for shard in shards if self._led.get(shard.number) is shard])

    def _apply(
        self, shard: Shard, operation: Mapping[str, Any], fresh: Mapping[str, str]
    ) -> Iterator[bytes]:
        """Change the states of jobs as an operation says; give the lines of the log."""
        for job_id, moved, next_run in operation.get("put", ()):
            entry = shard.entry(job_id)
            entry.record = fresh.get(job_id)
            entry.job = None
            if moved or not entry.scheduled:
                entry.scheduled = True
                self._schedule(entry, next_run)
                yield shard.line(entry, True, next_run, entry.runs)
        for job_id in operation.get("remove", ()):
            found = shard.entries.get(job_id)
            if found is not None:
                self._remove(found)
                yield shard.line(found, False, None, found.runs)
        for job_id, fence in operation.get("end", ()):
            found = shard.entries.get(job_id)
            if found is not None:
                left = tuple(run for run in found.runs if run.fence != fence)
                shard.set_runs(found, left)
                yield shard.line(found, found.scheduled, found.next_run, left)

    def _remove(self, entry: Entry) -> None:
        """Take a job out whose runs may go on."""
        self._unschedule(entry)
        entry.scheduled = False
        entry.next_run = entry.record = entry.job = None
        for run in entry.runs:
            if run.record is not None:
                run.record = False
        entry.shard.set_runs(entry, entry.runs)

    def _schedule(self, entry: Entry, next_run: int | None) -> None:
        """Set the next run time of a job; a claim of it ends."""
        self._unschedule(entry)
        entry.next_run = next_run
        if next_run is not None:
            entry.handle = self._heap.push(next_run, entry)

    def _unschedule(self, entry: Entry) -> None:
        """Take a job out of the heap, and end a claim of it."""
        if entry.claim:
            del self._claims[entry]
            entry.claim = 0
            entry.shard.claims -= 1
        if entry.handle is not None:
            self._heap.remove(entry.handle)
            entry.handle = None

    # Claiming

    def claim(self, now: int, limit: int) -> list[Job]:
        """Take jobs that are due, the earliest first; O(log n) each.

        It asks the server only for records that have not been needed before.
        """
        with self._lock:
            self._tend(now)
            present = self.time(now)
            taken = elapsed()
            until = self._clock(now) + self.lease
            entries = []
            for _, entry in self._heap.pop_due(present, limit):
                entry.handle = None
                entries.append(entry)
            try:
                self._read_records([entry for entry in entries if entry.record is None])
                jobs = []
                for entry in entries:
                    job = self._job(entry)
                    if job is not None:
                        self._claimed(entry, job, taken, until)
                        jobs.append(job)
                    elif entry.scheduled:
                        entry.handle = self._heap.push(present + UNREADABLE, entry)
            except BaseException:
                for entry in entries:
                    if entry.handle is None and entry.next_run is not None:
                        self._schedule(entry, entry.next_run)
                raise
            return jobs

    def _read_records(self, entries: Sequence[Entry]) -> None:
        """Read records that are not in memory."""
        if entries:
            nodes = self._tree.read([entry.shard.definition(entry.id) for entry in entries])
            for entry, node in zip(entries, nodes, strict=True):
                # One that is not there has been removed, as we shall hear.
                entry.record = None if node is None else _text(node.data)

    def _job(self, entry: Entry) -> Job | None:
        """Make the job of an entry that is due; None if it can't run here."""
        if entry.record is None or entry.next_run is None:
            return None
        if entry.job is None:
            entry.job = self._runnable(entry.record, entry.next_run, None, entry.id)
            if entry.job is None:
                entry.record = None  # somebody may mend it
                return None
        return self._copy(entry.job, entry.next_run)

    def _claimed(self, entry: Entry, job: Job, taken: float, until: float) -> None:
        shard = entry.shard
        entry.claim = fence = shard.fence()
        shard.claims += 1
        self._claims[entry] = until
        elsewhere = sum(run.member != self._member for run in entry.runs) if entry.runs else 0
        record = entry.record if job.at_least_once else None
        job._handle = Claim(self, entry.id, fence, elsewhere, taken, record)

    def _clock(self, now: int) -> float:
        """Give seconds by the clock that claims are counted by."""
        return elapsed() if self.clock == "store" else now / _SECOND

    def _expire_claims(self, now: int) -> None:
        """Have claims again that nobody has advanced or given back within a lease."""
        present = self._clock(now)
        while self._claims:
            entry, until = next(iter(self._claims.items()))
            if present < until:
                return
            self._schedule(entry, entry.next_run)

    def _holder(self, claim: Claim) -> Entry | None:
        """Give the entry of a claim that still holds."""
        shard = self._led.get(self._number(claim.job_id))
        entry = None if shard is None else shard.entries.get(claim.job_id)
        return entry if entry is not None and entry.claim == claim.fence else None

    def release(self, job: Job, run_time: int, until: int) -> None:
        """Give a claimed job back, to be claimed again for the same run time from ``until``."""
        with self._lock:
            entry = self._holder(job._handle)
            if entry is not None:
                self._unschedule(entry)
                entry.handle = self._heap.push(self.time(until), entry)

    def next_due(self) -> int | None:
        """Give the instant of the earliest claim to be had by the scheduler's clock, or None."""
        with self._lock:
            self._tend(self._now())
            earliest = self._heap.peek()
            due = None if earliest is None else earliest[0] - self._offset
            if self._check_at is not None:
                wait = max(self._check_at - self._clock(self._now()), 0.0)
                check = self._now() + round(wait * _SECOND)
                due = check if due is None else min(due, check)
            return due

    def _advance_batch(
        self, member: str, batch: Sequence[tuple[Job, Claim, int, int | None]]
    ) -> list[bool]:
        held = [False] * len(batch)
        with self._lock:
            pending = list(range(len(batch)))
            for _ in range(_MOST_TRIES):
                self._hear()
                pending = self._advance_some(member, batch, pending, held)
                if not pending:
                    return held
        raise Unavailable(f"{self!r}: others changed jobs {_MOST_TRIES} times meanwhile")

    def _advance_some(
        self,
        member: str,
        batch: Sequence[tuple[Job, Claim, int, int | None]],
        pending: Sequence[int],
        held: list[bool],
    ) -> list[int]:
        """Advance what can be; give what is to be tried again."""
        work: dict[Shard, list[tuple[int, Entry, Run]]] = {}
        for index in pending:
            claim = batch[index][1]
            entry = self._holder(claim)
            if entry is not None:
                run = Run(claim.fence, member, tuple(claim.times), claim.record)
                work.setdefault(entry.shard, []).append((index, entry, run))
        parts: list[tuple[Shard, bytes, list[Op]]] = []
        for shard, steps in work.items():
            lines = bytearray()
            ops: list[Op] = [Check(shard.inbox, shard.inbox_version)]
            for index, entry, run in steps:
                following = batch[index][3]
                ends = following is None
                lines += shard.line(entry, not ends, following, (*entry.runs, run))
                if ends:
                    ops.append(Delete(shard.definition(entry.id)))
            parts.append((shard, bytes(lines), [self._append(shard, lines), *ops]))
        again = []
        for (shard, _, ops), refused in self._committed(parts):
            if refused is None:
                for index, entry, run in work[shard]:
                    self._advanced(entry, run, batch[index])
                    held[index] = True
            else:
                if refused == 0:
                    self._doubt([shard])
                elif refused < len(ops):
                    self._dirty.add(shard.number)
                again += [index for index, _, _ in work[shard]]
        self._tidy(work)
        return sorted(again)

    def _committed(
        self, parts: Sequence[tuple[Shard, bytes, list[Op]]]
    ) -> Iterator[tuple[tuple[Shard, bytes, list[Op]], int | None]]:
        """Commit what concerns shards that we lead, many in a transaction; tell of each.

        The first operation of each writes its log. What is told of those that were refused for
        another's sake is a number beyond their own operations.
        """
        tree = self._tree
        groups: list[list[tuple[Shard, bytes, list[Op]]]] = []
        size = count = 0
        for part in parts:
            ops = part[2]
            bytes_ = sum(_size(op) for op in ops)
            full = size + bytes_ > tree.most_bytes or count + len(ops) > tree.most_ops
            if not groups or full:
                groups.append([])
                size = count = 0
            groups[-1].append(part)
            size += bytes_
            count += len(ops)
        try:
            results = tree.commit([[op for part in group for op in part[2]] for group in groups])
        except Exception:
            self._doubt([shard for shard, _, _ in parts])
            raise
        for group, refused in zip(groups, results, strict=True):
            start = 0
            for part in group:
                if refused is None:
                    part[0].written(part[1])
                    yield part, None
                else:
                    own = start <= refused < start + len(part[2])
                    yield part, refused - start if own else len(part[2])
                start += len(part[2])

    def _advanced(self, entry: Entry, run: Run, step: tuple[Job, Claim, int, int | None]) -> None:
        _, claim, _, following = step
        self._unschedule(entry)
        if following is None:
            entry.scheduled = False
            entry.next_run = entry.record = entry.job = None
        else:
            entry.next_run = following
            entry.handle = self._heap.push(following, entry)
        entry.runs = (*entry.runs, run)
        entry.shard.running[entry.id] = entry
        self._mine[entry.id, run.fence] = claim

    # Runs

    def _settle(self, member: str, claims: Sequence[Claim]) -> list[bool]:
        held = [False] * len(claims)
        with self._lock:
            pending = list(range(len(claims)))
            for _ in range(_MOST_TRIES):
                pending = self._settle_some(member, claims, pending, held)
                if not pending:
                    for claim in claims:
                        self._mine.pop((claim.job_id, claim.fence), None)
                    return held
        raise Unavailable(f"{self!r}: others changed jobs {_MOST_TRIES} times meanwhile")

    def _settle_batch(self, claims: list[Claim]) -> None:
        # A write costs the more the more often there is one: so many runs end together.
        if not self._closing:
            time.sleep(_LINGER)
            with self._wake:
                claims += self._unsettled
                self._unsettled = []
        super()._settle_batch(claims)

    def _settle_some(
        self, member: str, claims: Sequence[Claim], pending: Sequence[int], held: list[bool]
    ) -> list[int]:
        work: dict[Shard, dict[Entry, list[int]]] = {}
        others: dict[int, list[int]] = {}
        for index in pending:
            claim = claims[index]
            shard = self._led.get(self._number(claim.job_id))
            if shard is None:
                others.setdefault(self._number(claim.job_id), []).append(index)
                continue
            entry = shard.entries.get(claim.job_id)
            if entry is not None and _run_of(entry.runs, claim, member) is not None:
                work.setdefault(shard, {}).setdefault(entry, []).append(index)
        parts: list[tuple[Shard, bytes, list[Op]]] = []
        left: dict[Entry, tuple[Run, ...]] = {}
        for shard, entries in work.items():
            lines = bytearray()
            for entry, indices in entries.items():
                ended = {claims[index].fence for index in indices}
                left[entry] = tuple(run for run in entry.runs if run.fence not in ended)
                lines += shard.line(entry, entry.scheduled, entry.next_run, left[entry])
            parts.append((shard, bytes(lines), [self._append(shard, lines)]))
        again = []
        for (shard, _, _), refused in self._committed(parts):
            if refused == 0:
                self._doubt([shard])
            for entry, indices in work[shard].items():
                if refused is None:
                    shard.set_runs(entry, left[entry])
                    for index in indices:
                        held[index] = True
                else:
                    again += indices
        self._tidy(work)
        for number, indices in others.items():
            again += self._settle_elsewhere(member, claims, number, indices, held)
        return sorted(again)

    def _settle_elsewhere(
        self,
        member: str,
        claims: Sequence[Claim],
        number: int,
        indices: Sequence[int],
        held: list[bool],
    ) -> Sequence[int]:
        """Tell the leader of a shard that runs have ended."""
        shard = self._seen(number)
        found = []
        for index in indices:
            entry = shard.entries.get(claims[index].job_id)
            if entry is not None and _run_of(entry.runs, claims[index], member) is not None:
                found.append(index)
        if not found:
            return ()
        ends = [(claims[index].job_id, claims[index].fence) for index in found]
        # Should it be taken over at this moment, the operation comes too late and ends nothing.
        operation = self._operation(shard, shard.inbox_version, {"end": ends})
        if self._commit_changes([operation])[0] is not None:
            return found
        for index in found:
            held[index] = True
        return ()

    def _recorded(self, member: str, claims: Sequence[Claim]) -> list[bool]:
        with self._lock:
            seen = {number: self._seen(number) for number in {*map(self._number_of, claims)}}
            found = []
            for claim in claims:
                entry = seen[self._number_of(claim)].entries.get(claim.job_id)
                run = None if entry is None else _run_of(entry.runs, claim, member)
                found.append(run is not None and list(run.times) == list(claim.times))
                if found[-1]:
                    self._mine[claim.job_id, claim.fence] = claim
            return found

    def recover(self, now: int) -> Sequence[Recovered]:
        """Give the runs that need looking after, as soon as a member is gone."""
        with self._lock:
            self._tend(now)
            return super().recover(now)

    def _take_over(self, member: str, now: int | None) -> list[Recovered]:
        if not self._orphans():
            return []
        # A member may have come, led a shard and given it to us since we last looked.
        self._learn_members(member)
        found: list[Recovered] = []
        work: dict[Shard, list[tuple[Entry, list[tuple[Run, Recovered, Run | None]]]]] = {}
        for entry in self._orphans():
            runs = []
            for run in entry.runs:
                if run.member not in self._alive:
                    taken = self._taken(entry, run, member)
                    if taken is not None:
                        runs.append((run, *taken))
            if runs:
                work.setdefault(entry.shard, []).append((entry, runs))
        parts: list[tuple[Shard, bytes, list[Op]]] = []
        after: dict[Entry, tuple[Run, ...]] = {}
        for shard, steps in work.items():
            lines = bytearray()
            for entry, runs in steps:
                anew = {run.fence: new for run, _, new in runs}
                after[entry] = tuple(
                    each for run in entry.runs if (each := anew.get(run.fence, run)) is not None
                )
                lines += shard.line(entry, entry.scheduled, entry.next_run, after[entry])
            parts.append((shard, bytes(lines), [self._append(shard, lines)]))
        for (shard, _, _), refused in self._committed(parts):
            if refused is not None:
                self._doubt([shard])
                continue
            for entry, runs in work[shard]:
                shard.set_runs(entry, after[entry])
                for old, recovered, _ in runs:
                    if recovered.job is not None:
                        claim = recovered.job._handle
                        self._mine[claim.job_id, claim.fence] = claim
                    if old.record is not False:
                        found.append(recovered)
        return found

    def _orphans(self) -> list[Entry]:
        return [
            entry
            for shard in self._led.values()
            for entry in shard.running.values()
            if any(run.member not in self._alive for run in entry.runs)
        ]

    def _taken(self, entry: Entry, run: Run, member: str) -> tuple[Recovered, Run | None] | None:
        """Say what becomes of a run whose member is gone; None if we can't start it."""
        reason = f"the scheduler {run.member} that had claimed it has stopped answering"
        if not isinstance(run.record, str):
            return Recovered(entry.id, run.times, None, reason + "; it may have run"), None
        try:
            job = self._copy(self.codec.loads(run.record, None), None)
            job._call = (self.codec.resolve(job._call[0]), *job._call[1:])
        except Exception as error:  # the import of a module may raise anything
            self._unreadable(entry.id, error)
            return None
        new = Run(entry.shard.fence(), member, run.times, run.record)
        claim = Claim(self, entry.id, new.fence, 0, elapsed(), run.record)
        claim.times = run.times
        job._handle = claim
        return Recovered(entry.id, run.times, job, reason), new

    # Finding

    def lookup_job(self, job_id: str) -> Job | None:
        """Give the job of an id, or None; ValueError if it can't be read.

        O(1) for what this scheduler leads, else O(n) in the number of jobs of its shard.
        """
        with self._lock:
            shard = self._seen(self._number(job_id))
            entry = shard.entries.get(job_id)
            (node,) = self._tree.read([shard.definition(job_id)])
            if node is None or entry is None or not entry.scheduled:
                return None
            return self._restored(_text(node.data), entry.next_run, None, job_id)

    def get_all_jobs(self) -> list[Job]:
        """List all jobs that can be read, those that run next first; reports the others. O(n)."""
        with self._lock:
            shards = self._see(range(self.shards))
            entries = [
                entry for shard in shards for entry in shard.entries.values() if entry.scheduled
            ]
            missing = [entry for entry in entries if entry.record is None]
            nodes = self._tree.read([entry.shard.definition(entry.id) for entry in missing])
            texts = {
                entry: _text(node.data)
                for entry, node in zip(missing, nodes, strict=True)
                if node is not None
            }
            jobs = []
            for entry in entries:
                text = texts.get(entry, entry.record)
                if text is not None:
                    try:
                        jobs.append(self._restored(text, entry.next_run, None, entry.id))
                    except ValueError as error:
                        self._unreadable(entry.id, error)
        jobs.sort(key=lambda job: (job._next_run is None, job._next_run or 0, job.id))
        return jobs

    def _number(self, job_id: str) -> int:
        return zlib.crc32(job_id.encode(errors="surrogatepass")) % self.shards

    def _number_of(self, claim: Claim) -> int:
        return self._number(claim.job_id)

    def _seen(self, number: int) -> Shard:
        return self._see([number])[0]

    def _see(self, numbers: Iterable[int]) -> list[Shard]:
        """Give shards as they are now; those that we do not lead are read."""
        tree = self._tree
        for _ in range(3):
            if self._session == tree.session and self._connection == tree.connection:
                led = [self._led[number] for number in numbers if number in self._led]
                if led:
                    self._take_in(led)
                ours = self._led
            else:
                ours = {}
            shards = [ours.get(number) or Shard(number) for number in numbers]
            others = [shard for shard in shards if shard.number not in ours]
            if not others or self._see_others(others):
                return shards
        raise Unavailable(f"{self!r}: a shard was written again and again while it was read")

    def _see_others(self, shards: Sequence[Shard]) -> bool:
        """Read shards that others lead; false if one was written meanwhile."""
        tree = self._tree
        # In this order: what has been moved from the first to the second is seen in the second.
        nodes = tree.read([*(shard.inbox for shard in shards), *(shard.log for shard in shards)])
        rest: list[list[bytes]] = []
        operations: list[list[str]] = []
        for shard, inbox, log in zip(shards, nodes, nodes[len(shards) :], strict=False):
            rest.append(shard.read_log(log))
            shard.inbox_version = 0 if inbox is None else inbox.version
            numbers = range(shard.applied + 1, shard.inbox_version + 1)
            operations.append([_operation(shard, number) for number in numbers])
        paths = [path for found in operations for path in found]
        paths += [page for shard in shards for page in shard.pages]
        read: dict[str, bytes] = {}
        for path, node in zip(paths, tree.read(paths), strict=True):
            if node is None:
                return False
            read[path] = node.data
        for shard, lines, found in zip(shards, rest, operations, strict=True):
            shard.apply_lines(read[page].replace(b"\n", b",") for page in shard.pages)
            shard.apply_lines(lines)
            for path in found:
                _apply_to_states(shard, json.loads(read[path]))
        return True

    # Changing

    def add_jobs(self, jobs: Sequence[Job], replace: bool) -> list[bool]:
        """Add jobs, all or none; tell for each whether it replaced one.

        What fits into one transaction is added in one step. O(log n) each.
        """
        if not jobs:
            return []
        changes: dict[str, Change] = {}
        for job in jobs:
            if job.id in changes and not replace:
                raise ConflictingIdError(job.id)
            changes[job.id] = Change(job.id, self._written(job), job._next_run)
        pending: dict[int, list[Change]] = {}
        for change in changes.values():
            pending.setdefault(self._number(change.id), []).append(change)
        known: set[str] = set()
        done: list[Change] = []
        with self._lock:
            for _ in range(_MOST_TRIES):
                try:
                    added = self._add_some(pending, replace, known)
                except ConflictingIdError:
                    self._remove_jobs([change.id for change in done])
                    raise
                for number in added:
                    done += pending.pop(number)
                if not pending:
                    break
            else:
                raise Unavailable(f"{self!r}: others changed jobs {_MOST_TRIES} times meanwhile")
        replaced = []
        for job in jobs:
            replaced.append(job.id in known)
            known.add(job.id)
        return replaced

    def _add_some(
        self, pending: Mapping[int, Sequence[Change]], replace: bool, known: set[str]
    ) -> list[int]:
        """Add jobs; give the shards where nobody was quicker. ``known`` learns of ids."""
        shards = self._with_inboxes(pending)
        here = self._known([change.id for changes in pending.values() for change in changes])
        if here and not replace:
            raise ConflictingIdError(
                next(c.id for changes in pending.values() for c in changes if c.id in here)
            )
        parts = []
        for shard in shards:
            changes = [change._replace(known=change.id in here) for change in pending[shard.number]]
            parts += self._parts(shard, changes)
        failed = {
            part[0].number
            for part, refused in zip(parts, self._commit_changes(parts), strict=True)
            if refused is not None
        }
        known |= {job_id for job_id in here if self._number(job_id) not in failed}
        return [number for number in pending if number not in failed]

    def _with_inboxes(self, numbers: Iterable[int]) -> list[Shard]:
        """Give shards of which the version of the inbox is known."""
        shards = [Shard(number) for number in numbers]
        nodes = self._tree.read([shard.inbox for shard in shards])
        for shard, node in zip(shards, nodes, strict=True):
            shard.inbox_version = 0 if node is None else node.version
        return shards

    def _known(self, ids: Sequence[str]) -> set[str]:
        """Give those of ids that are there."""
        numbers = {self._number(job_id) for job_id in ids}
        shards = {number: Shard(number) for number in numbers}
        if len(ids) <= _FEW:
            paths = [shards[self._number(job_id)].definition(job_id) for job_id in ids]
            nodes = self._tree.read(paths)
            return {job_id for job_id, node in zip(ids, nodes, strict=True) if node is not None}
        names = self._tree.names([shard.defs for shard in shards.values()])
        return {unquoted(name) for found in names for name in found} & set(ids)

    def modify_job(self, job_id: str, changes: Mapping[str, Any]) -> Job:
        """Change attributes of a job in one step and give it; JobLookupError without one."""
        with self._lock:
            for _ in range(_MOST_TRIES):
                job, shard = self._found(job_id)
                job._apply(changes)
                if self._rewritten(shard, job, "_next_run" in changes):
                    return job
        raise Unavailable(f"job {job_id!r} was changed by others {_MOST_TRIES} times meanwhile")

    def _found(self, job_id: str) -> tuple[Job, Shard]:
        """Give a job, and its shard as it was when the job was read."""
        shard = self._seen(self._number(job_id))
        entry = shard.entries.get(job_id)
        (node,) = self._tree.read([shard.definition(job_id)])
        if node is None or entry is None or not entry.scheduled:
            raise JobLookupError(job_id)
        return self._restored(_text(node.data), entry.next_run, None, job_id), shard

    def _rewritten(self, shard: Shard, job: Job, moved: bool) -> bool:
        """Write a job anew, unless somebody was quicker."""
        change = Change(job.id, self._written(job), job._next_run, moved)
        return self._commit_changes(self._parts(shard, [change])) == [None]

    def set_aside(self, job: Job, run_time: int, reason: str) -> None:
        """Keep a claimed job, for a reason, but never offer it again until it is changed."""
        with self._lock:
            for _ in range(_MOST_TRIES):
                try:
                    current, shard = self._found(job.id)
                except JobLookupError:
                    return
                if self._holder(job._handle) is None:
                    return
                current.failure = reason
                current._next_run = None
                if self._rewritten(shard, current, True):
                    return

    def remove_job(self, job_id: str) -> None:
        """Take a job out; JobLookupError without one."""
        with self._lock:
            if not self._remove_jobs([job_id]):
                raise JobLookupError(job_id)

    def remove_all_jobs(self) -> None:
        """Take all jobs out; O(n)."""
        with self._lock:
            folders = [Shard(number).defs for number in range(self.shards)]
            names = self._tree.names(folders)
            self._remove_jobs([unquoted(name) for found in names for name in found])

    def _remove_jobs(self, ids: Sequence[str]) -> set[str]:
        """Take jobs out, and give the ids of those that were there."""
        pending: dict[int, list[str]] = {}
        for job_id in ids:
            pending.setdefault(self._number(job_id), []).append(job_id)
        removed: set[str] = set()
        for _ in range(_MOST_TRIES):
            if not pending:
                return removed
            shards = self._with_inboxes(pending)
            known = self._known([job_id for some in pending.values() for job_id in some])
            parts = []
            for shard in shards:
                here = [job_id for job_id in pending.pop(shard.number) if job_id in known]
                parts += self._parts(shard, [Change(job_id) for job_id in here])
            for (shard, changes, _), refused in zip(
                parts, self._commit_changes(parts), strict=True
            ):
                if refused is None:
                    removed.update(change.id for change in changes)
                else:
                    pending.setdefault(shard.number, []).extend(c.id for c in changes)
        raise Unavailable(f"{self!r}: others changed jobs {_MOST_TRIES} times meanwhile")

    def _parts(
        self, shard: Shard, changes: Sequence[Change]
    ) -> list[tuple[Shard, Sequence[Change], list[Op]]]:
        """Turn changes of the jobs of a shard into operations, several if they are many."""
        tree = self._tree
        parts: list[tuple[Shard, Sequence[Change], list[Op]]] = []
        some: list[Change] = []
        ops: list[Op] = []
        size = 0
        version = shard.inbox_version
        for change in changes:
            path = shard.definition(change.id)
            op: Op
            if change.record is None:
                op = Delete(path)
            elif change.known:
                op = Set(path, change.record.encode(), None)
            else:
                op = Create(path, change.record.encode())
            # Its id is in the operation as well.
            more = _size(op) + len(path) + _OVERHEAD
            if some and (size + more > _PAGE_BYTES or len(ops) + 2 >= tree.most_ops):
                parts.append(self._part(shard, version, some, ops))
                version += 1
                some, ops, size = [], [], 0
            some.append(change)
            ops.append(op)
            size += more
        if some:
            parts.append(self._part(shard, version, some, ops))
        return parts

    def _part(
        self, shard: Shard, version: int, changes: Sequence[Change], ops: list[Op]
    ) -> tuple[Shard, Sequence[Change], list[Op]]:
        put = [(c.id, int(c.moved), c.next_run) for c in changes if c.record is not None]
        remove = [change.id for change in changes if change.record is None]
        told: dict[str, Any] = {}
        if put:
            told["put"] = put
        if remove:
            told["remove"] = remove
        operation = self._operation(shard, version, told)
        return shard, changes, [*operation[2], *ops]

    def _operation(
        self, shard: Shard, version: int, told: Mapping[str, Any]
    ) -> tuple[Shard, Sequence[Change], list[Op]]:
        data = _encode(told).encode(errors="surrogatepass")
        return (
            shard,
            (),
            [
                Set(shard.inbox, b"", version),
                Create(_operation(shard, version + 1), data),
            ],
        )

    def _commit_changes(
        self, parts: Sequence[tuple[Shard, Sequence[Change], list[Op]]]
    ) -> list[int | None]:
        """Commit operations, many in a transaction; tell which were refused."""
        tree = self._tree
        groups: list[list[int]] = []
        size = count = 0
        numbers: set[int] = set()
        for index, (shard, _, ops) in enumerate(parts):
            more = sum(_size(op) for op in ops)
            full = size + more > tree.most_bytes or count + len(ops) > tree.most_ops
            # One transaction does not write an inbox twice.
            if not groups or full or shard.number in numbers:
                groups.append([])
                size = count = 0
                numbers = set()
            groups[-1].append(index)
            numbers.add(shard.number)
            size += more
            count += len(ops)
        results: list[int | None] = [None] * len(parts)
        outcome = tree.commit([[op for i in group for op in parts[i][2]] for group in groups])
        for some, refused in zip(groups, outcome, strict=True):
            for index in some:
                shard, changes, ops = parts[index]
                results[index] = refused
                if refused is None and shard.number in self._led:
                    self._dirty.add(shard.number)
                    records = {c.id: c.record for c in changes if c.record is not None}
                    # The number of the operation, which is made second.
                    number = int(ops[1].path.rpartition("/")[2])
                    self._fresh[shard.number, number] = records
        return results


def _operation(shard: Shard, number: int) -> str:
    return f"{shard.ops}/{number}"


def _run_of(runs: Iterable[Run], claim: Claim, member: str) -> Run | None:
    for run in runs:
        if run.fence == claim.fence and run.member == member:
            return run
    return None


def _apply_to_states(shard: Shard, operation: Mapping[str, Any]) -> None:
    """Do what `ShardJobStore._apply` does, on states that are only looked at."""
    for job_id, moved, next_run in operation.get("put", ()):
        entry = shard.entry(job_id)
        if moved or not entry.scheduled:
            entry.scheduled, entry.next_run = True, next_run
    for job_id in operation.get("remove", ()):
        found = shard.entries.get(job_id)
        if found is not None:
            found.scheduled = False
            shard.set_runs(found, found.runs)
    for job_id, fence in operation.get("end", ()):
        found = shard.entries.get(job_id)
        if found is not None:
            shard.set_runs(found, tuple(run for run in found.runs if run.fence != fence))


def _size(op: Op) -> int:
    data = op.data if isinstance(op, (Set, Create)) else b""
    return len(op.path) + len(data) + _OVERHEAD


def _text(data: bytes) -> str:
    """Give the text of a record; what is no text is left to the codec to refuse."""
    return data.decode(errors="replace")
