"""How schedulers divide the shards of a store among them, lead them and hear of changes.

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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from hashlib import blake2b
from typing import Any

from tocsin.claims import Claim
from tocsin.engine.heap import DueHeap
from tocsin.stores.shardstate import PAGE_BYTES, Entry, Shard, encode, quoted, unquoted
from tocsin.stores.shared import SharedJobStore, elapsed
from tocsin.stores.tree import Check, Create, Delete, Node, Op, Set, Tree, Unavailable

__all__ = ["LeadingStore", "divided"]

#: The version of the layout.
VERSION = 1
_NEWS = ("news/members", "news/leaders", "news/owners", "news/inboxes")
#: So many seconds after shards have changed hands it is seen to whether all of them are led; and
#: once in a lease, whatever happens.
_CHECK = 0.3
#: For so many leases a shard is led in the place of a candidate that does not lead it.
_LENT = 1.5
_SECOND = 1_000_000


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


class LeadingStore(SharedJobStore):
    """The part of a `ShardJobStore` that has to do with shards as a whole: membership, leading.

    All of its state is guarded by one lock but for what the tree tells, in a thread of its own.
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
        # When to see whether others have done their part, and who of the candidates has not.
        self._check_at: float | None = None
        self._missing: set[str] = set()
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
        tree = self._tree
        self._refuse_others(tree.names([""])[0])
        if not self.create:
            raise LookupError(
                f"{self!r}: nothing is there, and create is false; run: tocsin store init"
            )
        tree.make_root()
        meta = encode({"version": VERSION, "shards": self.shards}).encode()
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
        # Whoever has the lock is at work, and may be for long: the lease does not wait for that.
        if self._lock.acquire(blocking=False):
            try:
                idle = elapsed() - self._tended
                if self._candidate and idle > max(self.lease, 2 * (self.poll_interval or 0.0)):
                    self._stand_back(member)
            finally:
                self._lock.release()
        instant, known = self._tree.enter(f"news/members/{quoted(member)}", b"")
        if now is None:
            now = self._now() if instant is None else instant
        return now, known

    def _stand_back(self, member: str) -> None:
        """Let others lead: our scheduler is paused, or hangs, or ends."""
        self._forget(list(self._led.values()))
        self._tree.commit([[Delete(f"news/leaders/{quoted(member)}")]])
        self._let_go(member, self._owned)
        self._candidate = False

    def _retire(self, member: str) -> None:
        with self._lock, suppress(Unavailable):  # or others find out when we do not look
            self._stand_back(member)

    def _leave(self, member: str) -> None:
        # All of it ends with our session as well, if the server can't be asked.
        with self._lock, suppress(Unavailable):
            # Whose loss was not told is left, for others to tell of.
            kept = set[Claim](self._untold())
            over = [each for each in self._mine.values() if each.record is None]
            self._settle(member, [each for each in over if each not in kept])
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
            self._forget(leaving)
            self._let_go(member, [shard.number for shard in leaving])
            if self._check_at is not None:
                self._check_at = min(self._check_at, self._clock(now) + _CHECK)
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
        self._missing.clear()
        owners = divided(self.shards, self._candidates)
        self._desired = frozenset(n for n, owner in enumerate(owners) if owner == member)
        for number, shard in self._led.items():
            if number in self._desired:
                shard.lent_until = None
            shard.leaving = number not in self._desired and shard.lent_until is None
        if any(shard.leaving for shard in self._led.values()):
            self._woken()

    def _fill_in(self, member: str, now: int) -> None:
        """Lead shards that nobody leads: who should is dead, and the server does not know yet.

        Those in whose stead others should have led them by now are passed over next time.
        """
        wanted = divided(self.shards, self._candidates)
        others = [Shard(number) for number, owner in enumerate(wanted) if owner != member]
        nodes = self._tree.read([shard.owner for shard in others])
        free = [shard for shard, node in zip(others, nodes, strict=True) if node is None]
        present = self._clock(now)
        if not free:
            self._check_at = present + self.lease
            return
        owners = self._stand_ins()
        self._missing |= {owners[shard.number] for shard in free} - {member}
        owners = self._stand_ins()
        ours = [shard for shard in free if owners[shard.number] == member]
        self._acquire_some(member, ours)
        for shard in ours:
            # By then the server has found out who is dead, and the shards are divided anew.
            shard.lent_until = present + self.lease * _LENT
        self._check_at = present + (_CHECK if len(ours) < len(free) else self.lease)

    def _stand_ins(self) -> list[str]:
        """Give who should lead each shard, in the absence of those who do not."""
        present = [each for each in self._candidates if each not in self._missing]
        return divided(self.shards, present)

    def _acquire_shards(self, member: str) -> None:
        self._let_go(member, self._owned - self._desired - self._led.keys())
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
        # Those that are refused, or of which we hear nothing, are looked at when they are let go.
        self._owned.update(shard.number for shard, _ in free)
        had = []
        for (shard, _), rest, refused in zip(free, lines, tree.commit(transactions), strict=True):
            if refused is None:
                shard.version += 1
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
            shard.weigh_pages(found)
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

    def _let_go(self, member: str, numbers: Iterable[int]) -> None:
        """Let others lead shards, if the owner nodes are ours."""
        paths = {number: Shard(number).owner for number in sorted(numbers)}
        if paths:
            nodes = self._tree.read(list(paths.values()))
            self._tree.commit(
                [
                    [Check(path, node.version), Delete(path)]
                    for path, node in zip(paths.values(), nodes, strict=True)
                    if node is not None and node.data == member.encode()
                ]
            )
            self._owned.difference_update(paths)

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
        nodes = iter(self._read_all(shard.operation(number) for shard, number in numbers))
        work: dict[Shard, tuple[bytearray, list[Op]]] = {}
        full: set[Shard] = set()
        for (shard, number), node in zip(numbers, nodes, strict=True):
            lines, ops = work.setdefault(shard, (bytearray(), []))
            if shard in full:
                continue
            fresh = self._fresh.pop((shard.number, number), {})
            for line in self._apply(shard, json.loads(node.data), fresh):
                lines += line
            ops.append(Delete(shard.operation(number)))
            shard.applied = number
            if len(lines) > PAGE_BYTES or len(ops) >= tree.most_ops // 2:
                full.add(shard)
        for shard in work:
            if len(shard.lines) + len(work[shard][0]) > 2 * PAGE_BYTES:
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

    # Claims that nobody has advanced or given back

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
