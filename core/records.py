"""The stored form of a job: a versioned JSON record, described in ``docs/records.md``.

A record is data. Reading one imports nothing, calls nothing and looks no class up by name: the
callable stays a text until it is needed, triggers and values come from closed registries.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

import tocsin
from tocsin.callables import bound_instance, obj_to_ref
from tocsin.job import Job, checked_kwargs, undefined
from tocsin.triggers.base import BaseTrigger, Trigger
from tocsin.values import checked, checked_text, decode, encode, fault, member, shown

__all__ = ["dump", "from_record", "load", "to_record"]

#: The version of the records that are written, and the newest that is read.
VERSION = 1

_TEXTS = ("id", "name", "func", "executor")
_RULES = ("misfire_grace_time", "coalesce", "max_instances")
_FIELDS = {"version", "trigger", "args", "kwargs", "next_run", *_TEXTS, *_RULES}


def to_record(job: Job) -> dict[str, Any]:
    """Give the record of a job, made of what JSON has: dict, list, str, int, float, bool, None.

    Raises ValueError that names what has no record and says what to do: a callable that can't
    be found by name, an argument, by its path (``args[1]["when"]``), a trigger of a third party,
    a job that waits for its scheduler to start. Takes time linear in the size of the arguments.
    """
    func, args, kwargs = job._call
    rules = {name: getattr(job, name) for name in _RULES}
    if job._next_run is undefined or undefined in rules.values():
        raise ValueError("the job waits for its scheduler to start and has no record before")
    return {
        "version": VERSION,
        "id": checked_text(job.id, "id"),
        "name": checked_text(job.name, "name"),
        "func": _checked_reference(func if isinstance(func, str) else _reference(func)),
        "args": [encode(each, f"args[{index}]") for index, each in enumerate(args)],
        "kwargs": {
            checked_text(key, "a name of kwargs"): encode(each, member("kwargs", key))
            for key, each in kwargs.items()
        },
        "trigger": _trigger_record(job.trigger),
        "executor": checked_text(job.executor, "executor"),
        **rules,
        "next_run": job._next_run,
        **({} if job.failure is None else {"failure": checked_text(job.failure, "failure")}),
    }


def from_record(record: object) -> Job:
    """Make the job of a record, without a scheduler; its callable is imported when it is needed.

    Raises ValueError, whatever the record holds, that names the field at fault.
    """
    if type(record) is not dict:
        raise ValueError(f"a record is a JSON object, not {shown(record)}")
    _check_version(record)
    missing = _FIELDS - record.keys()
    unknown = record.keys() - _FIELDS - {"failure"}
    if missing or unknown:
        word, names = ("missing", missing) if missing else ("unknown", unknown)
        raise ValueError(f"{', '.join(sorted(map(shown, names)))}: {word} in the record")
    texts = {name: checked_text(record[name], name) for name in _TEXTS}
    args = checked(record["args"], list, "args")
    kwargs = checked(record["kwargs"], dict, "kwargs")
    grace, coalesce, most = (record[name] for name in _RULES)
    if grace is not None and not (type(grace) in (int, float) and 0 < grace < float("inf")):
        raise fault("misfire_grace_time", "a positive number of seconds, or null,", grace)
    if checked(most, int, "max_instances") < 1:
        raise fault("max_instances", "at least 1", most)
    job = Job(
        None,
        _checked_reference(texts["func"]),
        _restored_trigger(record["trigger"]),
        tuple(decode(each, f"args[{index}]") for index, each in enumerate(args)),
        checked_kwargs(
            {
                checked_text(key, "a name of kwargs"): decode(each, member("kwargs", key))
                for key, each in kwargs.items()
            }
        ),
        id=texts["id"],
        name=texts["name"],
        executor=texts["executor"],
        misfire_grace_time=grace,
        coalesce=checked(coalesce, bool, "coalesce"),
        max_instances=most,
        next_run=record["next_run"],
    )
    if job._next_run is not None:
        try:
            job.moment(checked(job._next_run, int, "next_run"))
        except OverflowError as error:
            needed = "microseconds since 1970 within the years 1 to 9999"
            raise fault("next_run", needed, job._next_run) from error
    if "failure" in record:
        job.failure = checked_text(record["failure"], "failure")
    return job


def dump(jobs: Iterable[Job], outfile: IO[str] | str | os.PathLike[str]) -> None:
    """Write jobs to a text file or a path, as JSON, one job a line.

    Raises ValueError as `to_record`, with the job's id, before anything is written.
    """
    lines = []
    for job in jobs:
        try:
            record = to_record(job)
        except ValueError as error:
            raise ValueError(f"job {job.id!r}: {error}") from error
        lines.append("\n" + json.dumps(record, ensure_ascii=False, allow_nan=False))
    head = f'{{"version": {VERSION}, "tocsin": {json.dumps(tocsin.__version__)}, "jobs": ['
    text = f"{head}{','.join(lines)}\n]}}\n"
    if isinstance(outfile, (str, os.PathLike)):
        Path(outfile).write_text(text, encoding="utf-8")
    else:
        outfile.write(text)


def load(infile: IO[str] | str | os.PathLike[str]) -> list[Job]:
    """Read the jobs that `dump` wrote.

    Raises ValueError, with the job's place, for what is no such file or holds an id twice.
    """
    if isinstance(infile, (str, os.PathLike)):
        text: str | bytes = Path(infile).read_bytes()
    else:
        text = infile.read()
    try:
        found = json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"no JSON file of jobs: {error}") from error
    if type(found) is not dict:
        raise ValueError(f"a file of jobs holds a JSON object, not {shown(found)}")
    if "scheduler_version" in found:
        raise ValueError(
            "an export of APScheduler 3 is not read: it holds pickles and names of classes, which"
            " can run any code, whoever wrote them; add its jobs in your application instead"
        )
    _check_version(found)
    jobs: dict[str, Job] = {}
    for index, record in enumerate(checked(found.get("jobs"), list, "jobs")):
        try:
            job = from_record(record)
        except ValueError as error:
            raise ValueError(f"jobs[{index}]: {error}") from error
        if jobs.setdefault(job.id, job) is not job:
            raise ValueError(f"jobs[{index}]: id: {shown(job.id)} occurs twice")
    return list(jobs.values())


def _reference(func: Any) -> str:
    """Give the reference of a callable; ValueError that says why it has none."""
    if bound_instance(func) is not None:
        raise ValueError(
            f"func: {shown(func)} is bound to an instance, which a record can't hold; give a"
            " function of a module and, as an argument, what it needs to find the instance"
        )
    try:
        return obj_to_ref(func)
    except ValueError as error:
        raise ValueError(f"func: {error}") from error


def _checked_reference(reference: str) -> str:
    module, _, name = reference.partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), *name.split("."))):
        raise fault("func", "a reference 'module:name'", reference)
    if module == "__main__":
        raise ValueError(
            f"func: {shown(reference)} belongs to the program that happens to run, and another"
            " one can't find it; move the function to a module and import it from there"
        )
    return checked_text(reference, "func")


def _trigger_record(trigger: BaseTrigger) -> dict[str, Any]:
    if not isinstance(trigger, Trigger):
        raise ValueError(
            f"trigger: {shown(trigger)} has no record; derive its class from tocsin.Trigger and"
            " give it a kind of its own"
        )
    try:
        record = trigger.to_dict()
    except ValueError as error:
        raise ValueError(f"trigger: {error}") from error
    return encode(record, "trigger")  # type: ignore[no-any-return]


def _restored_trigger(record: Any) -> Trigger:
    fields = decode(checked(record, dict, "trigger"), "trigger")
    try:
        return Trigger.from_dict(fields)
    except Exception as error:  # whatever a constructor says to hostile data
        reason = str(error).removeprefix("trigger: ")
        raise ValueError(f"trigger: {reason[:500]}") from error


def _check_version(found: dict[Any, Any]) -> None:
    version = found.get("version")
    if type(version) is not int or version < 1:
        raise fault("version", "a whole number of at least 1", version)
    if version > VERSION:
        raise ValueError(
            f"version: {shown(version)} is newer than {VERSION}, the newest that this tocsin"
            " reads; upgrade tocsin"
        )
