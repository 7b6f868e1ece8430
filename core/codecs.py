"""How a persistent store writes jobs down: records as text, and what it accepts in them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from tocsin.callables import ref_to_obj
from tocsin.job import Job
from tocsin.records import from_record, to_record

__all__ = ["Codec"]


class Codec:
    """Turns jobs into JSON text, the record of ``docs/records.md``, and back.

    The next run time is not in the text: stores keep that beside it, with an index.
    """

    def __init__(self, *, allowed_modules: Iterable[str] | str | None = None) -> None:
        if isinstance(allowed_modules, str):
            allowed_modules = [part.strip() for part in allowed_modules.split(",")]
        self._allowed = None if allowed_modules is None else frozenset(allowed_modules)

    def dumps(self, job: Job) -> str:
        """Write a job down. Raises ValueError that names what has no record, and says why."""
        record = to_record(job)
        del record["next_run"]
        self.check_callable(record["func"])
        return json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":"))

    def loads(self, text: str | bytes, next_run: int | None) -> Job:
        """Make the job of a text. Raises ValueError, whatever the text holds; imports nothing."""
        try:
            record: Any = json.loads(text)
        except RecursionError as error:
            raise ValueError("a record that is nested too deeply") from error
        if type(record) is dict:
            if "next_run" in record:
                raise ValueError("next_run: unknown in the record of a store")
            record["next_run"] = next_run
        job = from_record(record)
        self.check_callable(job._call[0])
        return job

    def check_callable(self, reference: str) -> None:
        """Refuse with ValueError the callable of a module that is not allowed."""
        if self._allowed is None:
            return
        parts = reference.partition(":")[0].split(".")
        if not any(".".join(parts[:n]) in self._allowed for n in range(1, len(parts) + 1)):
            raise ValueError(
                f"func: {reference!r} is in none of the modules that this store allows:"
                f" {', '.join(sorted(self._allowed))}; move it there, or add its module to"
                " allowed_modules"
            )

    def resolve(self, reference: str) -> Any:
        """Import a callable. Raises ValueError for one that is not allowed, else LookupError."""
        self.check_callable(reference)
        return ref_to_obj(reference)
