"""The stored form of a job: a versioned JSON record, described in ``docs/records.md``.

A record is data. Reading one imports nothing, calls nothing and looks no class up by name: the
callable stays a text until it is needed, triggers and values come from closed registries.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, NamedTuple

import tocsin
from tocsin.callables import bound_instance, obj_to_ref
from tocsin.compact import encode, quoted
from tocsin.job import LONGEST_GRACE, NO_KWARGS, Job, Rules, rules_of, undefined
from tocsin.triggers.base import BaseTrigger, Trigger
from tocsin.values import STANDARD, Values, checked, checked_text, fault, is_plain, member, shown

__all__ = ["dump", "from_record", "load", "to_record"]

#: The version of the records that are written, and the newest that is read.
VERSION = 1

_TEXTS = ("id", "name", "func", "executor")
_RULES = ("misfire_grace_time", "coalesce", "max_instances")
_FIELDS = {"version", "trigger", "args", "kwargs", "next_run", *_TEXTS, *_RULES}
_OPTIONAL = {"at_least_once", "failure"}
_TEXT = frozenset((str,))
#: Microseconds since 1970 that every time zone has within the years 1 to 9999.
_CERTAIN = range(-60_000_000_000_000_000, 250_000_000_000_000_000)


class Form:
    """How the parts of a record are written and read; what a store does otherwise, it overrides.

    All of it raises ValueError that names the part.
    """

    def __init__(self, values: Values = STANDARD) -> None:
        self.values = values

    def write_argument(self, job_id: str, name: int | str, value: Any) -> Any:
        """Turn an argument into what JSON has; ``name`` is its place in args, or its keyword."""
        return self.values.encode(value, path_of(name))

    def read_argument(self, job_id: str, name: int | str, value: Any) -> Any:
        """Turn back what `write_argument` made."""
        return self.values.decode(value, path_of(name))

    def write_callable(self, func: Any) -> str:
        """Give the reference of a callable, or check one that is a reference already."""
        return checked_reference(func if isinstance(func, str) else _reference(func))

    def read_callable(self, reference: str) -> str:
        """Check a reference; nothing is imported."""
        return checked_reference(reference)

    def write_trigger(self, trigger: BaseTrigger) -> dict[str, Any]:
        """Give the record of a trigger."""
        if not isinstance(trigger, Trigger):
            raise ValueError(
                f"trigger: {shown(trigger)} has no record; derive its class from tocsin.Trigger"
                " and give it a kind of its own"
            )
        try:
            record = trigger.to_dict()
        except ValueError as error:
            raise ValueError(f"trigger: {error}") from error
        except RecursionError:
            raise ValueError("trigger: nested too deeply, or within itself") from None
        if (
            _TEXT.issuperset(map(type, record))
            and "".join(record).isascii()
            and "$" not in record
            and all(map(is_plain, record.values()))
        ):
            return record  # as most are
        return self.values.encode(record, "trigger")  # type: ignore[no-any-return]

    def trigger_text(self, trigger: BaseTrigger) -> str:
        """Give the record of a trigger as JSON."""
        return encode(self.write_trigger(trigger))

    def rules_text(self, rules: Rules) -> str:
        """Give the fields of a record that all jobs with the same rules have, as JSON."""
        executor, grace, coalesce, most, at_least_once = rules
        if undefined in (grace, coalesce, most):
            raise _unfinished()
        fields = {
            "executor": checked_text(executor, "executor"),
            "misfire_grace_time": grace if grace is None else _checked_grace(grace),
            "coalesce": coalesce,
            "max_instances": _checked_instances(most),
        }
        if at_least_once:
            fields["at_least_once"] = True
        return encode(fields)[1:-1]

    def read_trigger(self, record: Any) -> Trigger:
        """Make the trigger of a record."""
        fields = self.values.decode(checked(record, dict, "trigger"), "trigger")
        try:
            return Trigger.from_dict(fields)
        except Exception as error:  # whatever a constructor says to hostile data
            reason = str(error).removeprefix("trigger: ")
            raise ValueError(f"trigger: {reason[:500]}") from error


PLAIN = Form()


def to_record(job: Job, form: Form = PLAIN) -> dict[str, Any]:
    """Give the record of a job, made of what JSON has: dict, list, str, int, float, bool, None.

    Raises ValueError that names what has no record and says what to do: a callable that can't
    be found by name, an argument, by its path (``args[1]["when"]``), a trigger of a third party,
    a job that waits for its scheduler to start. Takes time linear in the size of the arguments.
    """
    record: dict[str, Any] = json.loads(record_text(job, form))
    record["next_run"] = job._next_run
    return record


def record_text(job: Job, form: Form) -> str:
    """Give the record of a job, but for ``next_run``, as JSON without blanks.

    Its parts are put together as texts: this is most of the work of adding many jobs.
    """
    if job._next_run is undefined:
        raise _unfinished()
    func, args, kwargs = job._call
    job_id = job.id
    head = f'"version":{VERSION},"id":{_quoted_text(job_id, "id")}'
    name = _quoted_text(job.name, "name")
    reference = quoted(form.write_callable(func))
    values = ",".join([_argument_text(form, job_id, n, each) for n, each in enumerate(args)])
    named = ""
    if kwargs:
        named = ",".join(
            [
                f"{_quoted_text(key, 'a name of kwargs')}:{_argument_text(form, job_id, key, each)}"
                for key, each in kwargs.items()
            ]
        )
    rules = form.rules_text(job._rules)
    failure = ""
    if job.failure is not None:
        failure = f',"failure":{_quoted_text(job.failure, "failure")}'
    trigger = form.trigger_text(job.trigger)
    return (
        f'{{{head},"name":{name},"func":{reference},"args":[{values}],"kwargs":{{{named}}},'
        f'{rules}{failure},"trigger":{trigger}}}'
    )


def _quoted_text(value: Any, name: str) -> str:
    if type(value) is str and value and value.isascii():
        return quoted(value)
    return quoted(checked_text(value, name))


def _argument_text(form: Form, job_id: str, name: int | str, value: Any) -> str:
    if not is_plain(value):
        value = form.write_argument(job_id, name, value)
    elif type(value) is int:
        return str(value)
    elif type(value) is str:
        return quoted(value)
    return encode(value)


def _unfinished() -> ValueError:
    return ValueError("the job waits for its scheduler to start and has no record before")


def from_record(record: object, form: Form = PLAIN) -> Job:
    """Make the job of a record, without a scheduler; its callable is imported when it is needed.

    Raises ValueError, whatever the record holds, that names the field at fault.
    """
    if type(record) is not dict:
        raise ValueError(f"a record is a JSON object, not {shown(record)}")
    _check_version(record)
    if not record.keys() >= _FIELDS or len(record) > len(_FIELDS):
        _check_names(record)
    job_id = read_text(record["id"], "id")
    target = read_target(record["name"], record["func"], form)
    manner = read_manner(record, form)
    args = checked(record["args"], list, "args")
    kwargs = checked(record["kwargs"], dict, "kwargs")
    return put_together(job_id, target, args, kwargs, manner, record["next_run"], form)


class Target(NamedTuple):
    """What a record says of the callable: a job's name, and the reference."""

    name: str
    func: str


class Manner(NamedTuple):
    """What a record says of when and how its job runs."""

    rules: Rules
    failure: str | None
    trigger: BaseTrigger


def read_text(value: Any, name: str) -> str:
    """Check a text of a record; most are found right at once."""
    if type(value) is str and value and value.isascii():
        return value
    return checked_text(value, name)


def read_target(name: Any, func: Any, form: Form) -> Target:
    """Check a name and a reference."""
    return Target(read_text(name, "name"), form.read_callable(read_text(func, "func")))


def read_manner(fields: Mapping[str, Any], form: Form) -> Manner:
    """Read the fields ``executor``, ``misfire_grace_time`` and so on, of which none is missing."""
    grace = fields["misfire_grace_time"]
    rules = rules_of(
        read_text(fields["executor"], "executor"),
        grace if grace is None else _checked_grace(grace),
        checked(fields["coalesce"], bool, "coalesce"),
        _checked_instances(fields["max_instances"]),
        checked(fields.get("at_least_once", False), bool, "at_least_once"),
    )
    failure = checked_text(fields["failure"], "failure") if "failure" in fields else None
    return Manner(rules, failure, form.read_trigger(fields["trigger"]))


def put_together(
    job_id: str,
    target: Target,
    args: list[Any],
    kwargs: dict[str, Any],
    manner: Manner,
    next_run: Any,
    form: Form,
) -> Job:
    """Make a job of parts that were read, and of arguments as JSON has them."""
    job: Job = Job.__new__(Job)
    job.id = job_id
    job.name, func = target
    job._rules, job.failure, job.trigger = manner
    job._scheduler = job._jobstore_alias = job._handle = None
    job._next_run = next_run
    if type(next_run) is not int or next_run not in _CERTAIN:
        _check_next_run(job)
    if not args and not kwargs:
        job._target = func
        return job
    values = tuple(
        [
            each if is_plain(each) else form.read_argument(job_id, n, each)
            for n, each in enumerate(args)
        ]
    )
    named: Mapping[str, Any] = NO_KWARGS
    if kwargs:
        named = {
            checked_text(key, "a name of kwargs"): each
            if is_plain(each)
            else form.read_argument(job_id, key, each)
            for key, each in kwargs.items()
        }
    job._target = (func, values, named)
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


@lru_cache(maxsize=1024)
def checked_reference(reference: str) -> str:
    """Refuse what is no reference ``module:qualified.name``, or leads to the running program."""
    module, _, name = reference.partition(":")
    if len(reference) > 1000:
        raise fault("func", "a reference of at most 1000 characters", reference)
    if not all(part.isidentifier() for part in (*module.split("."), *name.split("."))):
        raise fault("func", "a reference 'module:name'", reference)
    if module == "__main__":
        raise ValueError(
            f"func: {shown(reference)} belongs to the program that happens to run, and another"
            " one can't find it; move the function to a module and import it from there"
        )
    return checked_text(str(reference), "func")


def path_of(name: int | str) -> str:
    return f"args[{name}]" if type(name) is int else member("kwargs", name)


def _checked_grace(grace: Any) -> float:
    if type(grace) not in (int, float) or not 0 < grace <= LONGEST_GRACE:
        needed = f"a positive number of seconds, at most {LONGEST_GRACE:,}, or null"
        raise fault("misfire_grace_time", needed, grace)
    return grace  # type: ignore[no-any-return]


def _checked_instances(most: Any) -> int:
    if not 1 <= checked(most, int, "max_instances") < 2**63:
        raise fault("max_instances", "at least 1 and less than 2 ** 63", most)
    return most  # type: ignore[no-any-return]


def _check_next_run(job: Job) -> None:
    instant: Any = job._next_run
    if instant is None:
        return
    try:
        job.moment(checked(instant, int, "next_run"))
    except OverflowError as error:
        needed = "microseconds since 1970 within the years 1 to 9999"
        raise fault("next_run", needed, instant) from error


def _check_names(record: dict[Any, Any]) -> None:
    missing = _FIELDS - record.keys()
    unknown = record.keys() - _FIELDS - _OPTIONAL
    if missing or unknown:
        word, names = ("missing", missing) if missing else ("unknown", unknown)
        some = ", ".join(sorted(map(shown, names))[:8])
        raise ValueError(f"{some}: {word} in the record")


def _check_version(found: dict[Any, Any]) -> None:
    version = found.get("version")
    if type(version) is not int or version < 1:
        raise fault("version", "a whole number of at least 1", version)
    if version > VERSION:
        raise ValueError(
            f"version: {shown(version)} is newer than {VERSION}, the newest that this tocsin"
            " reads; upgrade tocsin"
        )
