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

#: The arguments of `make_job` that say how a job runs, with what stands for one not given.
RULES: dict[str, Any] = {
    "args": None,
    "kwargs": None,
    "id": None,
    "name": None,
    "misfire_grace_time": undefined,
    "coalesce": undefined,
    "max_instances": undefined,
    "next_run_time": undefined,
}


def make_trigger(
    trigger: BaseTrigger | str | None, arguments: Mapping[str, Any], timezone: tzinfo, now: int
) -> BaseTrigger:
    """Give a trigger, or make one of its name and arguments; without a name, one for now.

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
    if not isinstance(trigger, str):
        raise TypeError(f"trigger: a trigger or the name of one is needed, not {trigger!r}")
    kind = plugins.load("triggers", trigger)
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
) -> Job:
    """Check the arguments of a job and make it.

    Raises TypeError and ValueError that name the argument, LookupError for a reference that
    leads nowhere.
    """
    if isinstance(func, str):
        func = ref_to_obj(func)
    job = Job(
        scheduler,
        func,
        trigger,
        () if args is None else checked_args(args),
        NO_KWARGS if kwargs is None else checked_kwargs(kwargs),
        id if id is None else checked_text(id, "id"),
        name if name is None else checked_text(name, "name"),
        checked_text(executor, "executor"),
    )
    check_arguments(*job._call)
    if misfire_grace_time is not undefined:
        job.misfire_grace_time = checked_grace(misfire_grace_time)
    if coalesce is not undefined:
        job.coalesce = bool(coalesce)
    if max_instances is not undefined:
        job.max_instances = checked_instances(max_instances)
    if next_run_time is not undefined:
        job._next_run = job.checked({"next_run_time": next_run_time})["_next_run"]
    return job
