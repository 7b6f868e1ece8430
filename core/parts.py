"""Records as tocsin writes them, read by parts: what many jobs have in common is read once.

Such a record is `{"version":1,"id":` and the id, the job's name and its callable, its arguments,
and how and when it runs: see `tocsin.records.record_text`. Each part is a list of members of the
outermost object, whole and with the names that belong there, which is what its reading proves; so
that the parts put together are the record, and nothing but this order has been taken on trust.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from tocsin.job import Job
from tocsin.records import Form, Manner, Target, put_together, read_manner, read_target

__all__ = ["Parts"]

#: So many parts of each kind are kept, and so long ones, in characters.
_KEPT = 1024
_LONGEST = 2048

_ID = '{"version":1,"id":'
_ARGS, _KWARGS, _NO_KWARGS = ',"args":[', ',"kwargs":{', ',"kwargs":{},'
_TARGET = {"name", "func"}
_MANNER = {"executor", "misfire_grace_time", "coalesce", "max_instances", "trigger"}
_MORE = {"at_least_once", "failure"}

_decoder: Any = json.JSONDecoder()
_decode = _decoder.decode
#: Give the value that begins at a place of a text, and the place where it ends.
_scan = _decoder.scan_once


class Parts:
    """Reads records, and remembers parts of them as one form reads these."""

    def __init__(self, form: Form) -> None:
        self._form = form
        self._target = lru_cache(_KEPT)(self._read_target)
        self._manner = lru_cache(_KEPT)(self._read_manner)

    def read(self, text: str, next_run: int | None) -> Job | None:
        """Make the job of a text; None for one that has other parts, or something wrong in them.

        Raises ValueError for an argument or a next run time that can't be read.
        """
        if not text.startswith(_ID):
            return None
        try:
            job_id, end = _scan(text, len(_ID))
            if type(job_id) is not str or not job_id or not job_id.isascii():
                return None
            start, end = end, text.index(_ARGS, end)
            if end - start > _LONGEST:
                return None
            target = self._target(text[start:end])
            args, end = _scan(text, end + len(_ARGS) - 1)
            kwargs: dict[str, Any] = {}
            if text.startswith(_NO_KWARGS, end):
                end += len(_NO_KWARGS) - 1
            elif text.startswith(_KWARGS, end):
                kwargs, end = _scan(text, end + len(_KWARGS) - 1)
            else:
                return None
            if len(text) - end > _LONGEST:
                return None
            manner = self._manner(text[end:])
        except (ValueError, StopIteration, RecursionError):
            return None
        return put_together(job_id, target, args, kwargs, manner, next_run, self._form)

    def _read_target(self, part: str) -> Target:
        fields = _members(f"{part}}}")
        if fields.keys() != _TARGET:
            raise ValueError("not the names of this part")
        return read_target(fields["name"], fields["func"], self._form)

    def _read_manner(self, part: str) -> Manner:
        fields = _members(part)
        if not _MANNER <= fields.keys() <= _MANNER | _MORE:
            raise ValueError("not the names of this part")
        return read_manner(fields, self._form)


def _members(part: str) -> dict[str, Any]:
    """Decode members, each with a comma before it, and a brace after the last one."""
    if not part.startswith(","):
        raise ValueError("not a list of members")
    fields: dict[str, Any] = _decode(f"{{{part[1:]}")
    return fields
