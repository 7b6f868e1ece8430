"""The state of a shard of the jobs: what its leader has in memory, and how that is written down."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal
from urllib.parse import quote, unquote

from tocsin.job import Job
from tocsin.stores.tree import Node

__all__ = ["Entry", "Run", "Shard", "apply_to_states", "encode", "quoted", "unquoted"]

#: How much of a shard's state one page, one operation or one write of its log holds.
PAGE_BYTES = 200_000

encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class Run:
    """The runs of one claim that have begun and not ended.

    ``record`` is that of a job that runs at least once, False when the job was removed
    meanwhile: nobody need look after the run then.
    """

    __slots__ = ("fence", "member", "record", "times")

    def __init__(
        self, fence: int, member: str, times: Sequence[int], record: str | Literal[False] | None
    ) -> None:
        self.fence = fence
        self.member = member
        self.times = times
        self.record = record

    @property
    def text(self) -> str:
        """What is written of it, after the token and the member."""
        times = f"[{','.join(map(str, self.times))}]"
        return f"{times},null]" if self.record is None else f"{times},{encode(self.record)}]"


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
        self.text = encode(job_id)
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

    def operation(self, number: int) -> str:
        """Give the path of an operation."""
        return f"{self.ops}/{number}"

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
        return encode(
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
        return self.rewritten > len(self.lines) + 4096 or len(self.lines) > PAGE_BYTES

    def is_scattered(self) -> bool:
        """Tell whether as much was added to the pages as is in them."""
        return self.added_bytes + len(self.lines) > self.page_bytes + 16384

    def weigh_pages(self, pages: Sequence[bytes]) -> None:
        """Take note of how large the pages are: those that were written together are the first.

        They have the same version in their names. Or each leader would think anew that what was
        added before it is the state, and let as much be added again.
        """
        versions = [path.rpartition("-")[0] for path in self.pages]
        together = versions.count(versions[0]) if versions else 0
        self.page_bytes = sum(map(len, pages[:together]))
        self.added_bytes = sum(map(len, pages[together:]))

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
            if page and len(page) + len(line) > PAGE_BYTES:
                pages.append(bytes(page[1:]))
                page.clear()
            page += line
        return [*pages, bytes(page[1:])] if page else pages


def quoted(name: str) -> str:
    """Turn any text into the name of a node."""
    name = quote(name, safe=" @:,;=+", errors="surrogatepass")
    return name.replace(".", "%2E", 1) if name.startswith(".") else name


def unquoted(name: str) -> str:
    """Turn the name of a node back into a text."""
    return unquote(name, errors="surrogatepass")


def apply_to_states(shard: Shard, operation: Mapping[str, Any]) -> None:
    """Do what `LeadingStore._apply` does, on states that are only looked at."""
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
