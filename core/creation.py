"""Make triggers and jobs of what users write."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import tzinfo
from functools import lru_cache
from inspect import signature
from typing import TYPE_CHECKING, Any

from tocsin import plugins
from tocsin.callables import check_arguments, ref_to_obj
from tocsin.convert import edge_of
from tocsin.job import (
    NO_KWARGS,
    Job,
    checked_args,
    checked_grace,
    checked_instances,
    checked_kwargs,
    checked_text,
    undefined,
)
from tocsin.triggers.base import BaseTrigger, Trigger

if TYPE_CHECKING:
    from tocsin.scheduler import BaseScheduler

#: The arguments of `make_job` that say how a job runs.
RULES = (
    "args",
    "kwargs",
    "id",
    "name",
    "misfire_grace_time",
    "coalesce",
    "max_instances",
    "next_run_time",
    "at_least_once",
)


def make_trigger(
    trigger: BaseTrigger | type[BaseTrigger] | str | None,
    arguments: Mapping[str, Any],
    timezone: tzinfo,
    now: int,
) -> BaseTrigger:
    """Give a trigger, or make one of its name or class and arguments; without, one for now.

    Raises TypeError for arguments that it does not take, LookupError for an unknown name.
    """
    if isinstance(trigger, BaseTrigger):
        if arguments:
            raise TypeError(
                f"{', '.join(arguments)}: not arguments of a job, and those of a trigger go with"
                f" its name, not with {trigger!r}"
            )
        return trigger
    if trigger is None:
        trigger = "date"
    kind: Any
    if isinstance(trigger, str):
        kind = plugins.load("triggers", trigger)
    elif isinstance(trigger, type) and issubclass(trigger, BaseTrigger):
        kind = trigger
    else:
        raise TypeError(f"trigger: a trigger or the name of one is needed, not {trigger!r}")
    accepted = _parameters(kind)
    unknown = [name for name in arguments if name not in accepted and None not in accepted]
    if unknown:
        known = ", ".join(sorted(name for name in accepted if name is not None))
        raise TypeError(
            f"{', '.join(unknown)}: neither arguments of a job nor of the trigger {trigger!r},"
            f" which takes {known}"
        )
    given = dict(arguments)
    if "timezone" in accepted:
        given.setdefault("timezone", timezone)
    if "now" in accepted and issubclass(kind, Trigger):
        given.setdefault("now", edge_of(timezone).moment(now))
    made: BaseTrigger = kind(**given)
    return made


@lru_cache(maxsize=256)
def _parameters(kind: type[BaseTrigger]) -> frozenset[str | None]:
    """Name the arguments of a trigger's constructor; None is among them if any name will do."""
    parameters = signature(kind).parameters.values()
    return frozenset(None if each.kind is each.VAR_KEYWORD else each.name for each in parameters)


def make_job(
    scheduler: BaseScheduler,
    func: Callable[..., Any] | str,
    trigger: BaseTrigger,
    executor: str = "default",
    args: Iterable[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    id: str | None = None,  # noqa: A002
    name: str | None = None,
    misfire_grace_time: Any = undefined,
    coalesce: Any = undefined,
    max_instances: Any = undefined,
    next_run_time: Any = undefined,
    at_least_once: Any = False,
) -> Job:
    """Check the arguments of a job and make it.

    Raises TypeError and ValueError that name the argument, LookupError for a reference that
    leads nowhere.
    """
    called = ref_to_obj(func) if isinstance(func, str) else func
    positional = () if args is None else checked_args(args)
    keywords = NO_KWARGS if kwargs is None else checked_kwargs(kwargs)
    check_arguments(called, positional, keywords)
    job = Job(
        scheduler,
        called,
        trigger,
        positional,
        keywords,
        id if id is None else checked_text(id, "id"),
        name if name is None else checked_text(name, "name"),
        checked_text(executor, "executor"),
        misfire_grace_time
        if misfire_grace_time is undefined
        else checked_grace(misfire_grace_time),
        coalesce if coalesce is undefined else bool(coalesce),
        max_instances if max_instances is undefined else checked_instances(max_instances),
        at_least_once=bool(at_least_once),
    )
    if next_run_time is not undefined:
        job._next_run = job.checked({"next_run_time": next_run_time})["_next_run"]
    return job


def make_jobs(
    scheduler: BaseScheduler, jobs: Iterable[Mapping[str, Any]], common: Mapping[str, Any]
) -> list[Job]:
    """Make many jobs of mappings of the arguments of a job, ``common`` being those of all.

    What is common is checked once, and so are arguments of the same shape. Raises what
    `make_trigger` and `make_job` raise.
    """
    shared = dict(common)
    if isinstance(shared.get("func"), str):
        shared["func"] = ref_to_obj(shared["func"])
    if isinstance(shared.get("trigger"), str):
        others = [name for name in shared if name not in _OF_JOB]
        arguments = {name: shared.pop(name) for name in others}
        shared["trigger"] = make_trigger(
            shared["trigger"], arguments, scheduler.timezone, scheduler.now()
        )
    plain = "func" in shared and _OF_JOB.issuperset(shared)
    common_args = checked_args(shared.get("args") or ())
    common_kwargs = checked_kwargs(shared.get("kwargs") or NO_KWARGS)
    common_trigger = shared.get("trigger")
    made = []
    model: Job | None = None
    common_target = checked_shape = checked_kind = names = None
    usual = called = named = False
    blank = Job.__new__
    for each in jobs:
        if tuple(each) != names:
            names = tuple(each)
            usual = _OWN.issuperset(names)
            called = "args" in names or "kwargs" in names
            named = "id" in names
        if model is not None and usual:
            target = common_target
            if called or target is None:
                args = checked_args(each["args"]) if "args" in each else common_args
                kwargs = checked_kwargs(each["kwargs"]) if "kwargs" in each else common_kwargs
                func = model._call[0]
                shape = (len(args), kwargs)
                if shape != checked_shape:
                    check_arguments(func, args, kwargs)
                    checked_shape = shape
                target = (func, args, kwargs) if args or kwargs else func
                if not called:
                    common_target = target
            trigger: Any = each.get("trigger", common_trigger)
            if type(trigger) is not checked_kind:
                if BaseTrigger not in type(trigger).__mro__:
                    trigger = make_trigger(trigger, {}, scheduler.timezone, scheduler.now())
                checked_kind = type(trigger)
            job_id = each["id"] if named else None
            if named and (type(job_id) is not str or not job_id):
                job_id = checked_text(job_id, "id")
            job = model.alike(blank(Job), job_id, trigger, target)
        else:
            job = _make_of(scheduler, {**shared, **each})
            if model is None and plain and usual and "id" not in shared:
                model = job
        made.append(job)
    return made


#: Whatever is not of these is an argument of the trigger.
_OF_JOB = frozenset(("func", "trigger", "executor", *RULES))
#: What the jobs of one batch most often have of their own.
_OWN = frozenset(("id", "args", "kwargs", "trigger"))


def _make_of(scheduler: BaseScheduler, given: dict[str, Any]) -> Job:
    """Make a job of one mapping of all its arguments, those of its trigger included."""
    if "func" not in given:
        raise TypeError(f"func: the job {given!r} has none, and there is none in common")
    func, trigger = given.pop("func"), given.pop("trigger", None)
    executor = given.pop("executor", "default")
    rules = {name: given.pop(name) for name in RULES if name in given}
    made = make_trigger(trigger, given, scheduler.timezone, scheduler.now())
    return make_job(scheduler, func, made, executor, **rules)
