"""The job: what to call, when, and under which rules."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from operator import attrgetter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from tocsin.callables import (
    bound_instance,
    check_arguments,
    get_callable_name,
    obj_to_ref,
    ref_to_obj,
)
from tocsin.convert import as_datetime, as_number, edge_of
from tocsin.engine.heap import Entry
from tocsin.triggers.base import BaseTrigger

if TYPE_CHECKING:
    from tocsin.config import JobDefaults
    from tocsin.scheduler import BaseScheduler


class Undefined:
    """The type of `undefined`, which stands for an argument that was not given."""

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "<undefined>"

    def __reduce__(self) -> str:
        return "undefined"


undefined: Any = Undefined()
#: The longest grace time in seconds, about that of all datetimes in microseconds.
LONGEST_GRACE = 86_400_000_000_000

_UTC = edge_of(timezone.utc)
_T = TypeVar("_T")

#: A callable or a reference to one, its positional and its keyword arguments.
_Call = tuple[Any, tuple[Any, ...], Mapping[str, Any]]
NO_KWARGS: Mapping[str, Any] = MappingProxyType({})
#: For ids that no other job has; seeded anew in a forked child by the standard library.
_random_bits = random.getrandbits


class Rules(NamedTuple):
    """How a job runs; jobs with the same rules share them, see `rules_of`."""

    executor: str
    misfire_grace_time: float | None
    coalesce: bool
    max_instances: int
    at_least_once: bool

    def completed(self, defaults: JobDefaults) -> Rules:
        """Give the rules with defaults for what is undefined."""
        executor, grace, coalesce, instances, at_least_once = self
        return rules_of(
            executor,
            defaults.misfire_grace_time if grace is undefined else grace,
            defaults.coalesce if coalesce is undefined else coalesce,
            defaults.max_instances if instances is undefined else instances,
            at_least_once,
        )


#: By type as well, for 1 and 1.0 are equal.
_shared_rules = lru_cache(maxsize=1024, typed=True)(Rules)
_PLAIN = Rules("default", undefined, undefined, undefined, False)


def rules_of(
    executor: str,
    misfire_grace_time: Any,
    coalesce: Any,
    max_instances: Any,
    at_least_once: bool,
) -> Rules:
    """Give the rules of these values, the same object to all who ask for the same."""
    if (
        misfire_grace_time is undefined
        and coalesce is undefined
        and max_instances is undefined
        and at_least_once is False
        and executor == "default"
    ):
        return _PLAIN  # those of most jobs, without the cache
    try:
        return _shared_rules(executor, misfire_grace_time, coalesce, max_instances, at_least_once)
    except TypeError:  # what is not hashable is no right value, which is for others to say
        return Rules(executor, misfire_grace_time, coalesce, max_instances, at_least_once)


if TYPE_CHECKING:

    class _Rule(Generic[_T]):
        def __get__(self, job: Job, owner: type[Job] | None = None) -> _T: ...

        def __set__(self, job: Job, value: _T) -> None: ...


def _rule(name: str) -> Any:
    """Make an attribute of jobs of one of their rules; to change it gives a job other rules."""

    def change(job: Job, value: Any) -> None:
        job._rules = rules_of(**{**job._rules._asdict(), name: value})

    return property(attrgetter(f"_rules.{name}"), change)


class Job(Entry):
    """A handle on one job of a scheduler.

    ``add_job`` makes it, or `tocsin.records`; nobody else does. Its attributes are read, and
    changed by its methods. With a `MemoryJobStore` it shows the job as it is now, with others
    as it was when it was looked up. ``args`` is a tuple, ``kwargs`` a mapping that may be
    read-only. ``misfire_grace_time`` is in seconds, None for no limit. ``at_least_once`` has a
    run that was begun by a scheduler that died begun anew by another one that shares the store.
    ``failure`` says why the scheduler has set the job aside, None if it has not.
    """

    # There may be a million jobs in memory: each slot counts, and so does each object in it.
    __slots__ = (
        "_handle",
        "_jobstore_alias",
        "_next_run",
        "_rules",
        "_scheduler",
        "_target",
        "failure",
        "id",
        "name",
        "trigger",
    )

    id: str
    name: str
    trigger: BaseTrigger
    executor: _Rule[str] = _rule("executor")
    misfire_grace_time: _Rule[float | None] = _rule("misfire_grace_time")
    coalesce: _Rule[bool] = _rule("coalesce")
    max_instances: _Rule[int] = _rule("max_instances")
    at_least_once: _Rule[bool] = _rule("at_least_once")
    failure: str | None
    # The callable alone where there are no arguments, else a tuple of it and them. Replaced as
    # a whole, so that no run sees one part of a change.
    _target: Any

    def __init__(
        self,
        scheduler: BaseScheduler | None,
        func: Callable[..., Any] | str,
        trigger: BaseTrigger,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] = NO_KWARGS,
        id: str | None = None,  # noqa: A002
        name: str | None = None,
        executor: str = "default",
        misfire_grace_time: float | None = undefined,
        coalesce: bool = undefined,
        max_instances: int = undefined,
        next_run: int | None = undefined,
        at_least_once: bool = False,
    ) -> None:
        self.id = f"{_random_bits(128):032x}" if id is None else id
        self._target = (func, args, kwargs) if args or kwargs else func
        self.trigger = trigger
        self.name = get_callable_name(func) if name is None else name
        # What is undefined is filled in when the job is given to its store.
        self._rules = rules_of(executor, misfire_grace_time, coalesce, max_instances, at_least_once)
        self._next_run = next_run
        self.failure = None
        self._scheduler = scheduler
        self._jobstore_alias: str | None = None
        # The `Claim` of a shared store.
        self._handle: Any = None

    def alike(self, job: Job, job_id: str | None, trigger: BaseTrigger, target: Any) -> Job:
        """Give a blank job the same name, rules and next run; it is in no store yet."""
        job.id = f"{_random_bits(128):032x}" if job_id is None else job_id
        job._target = target
        job.trigger = trigger
        job.name = self.name
        job._rules = self._rules
        job._next_run = self._next_run
        job.failure = job._jobstore_alias = job._handle = None
        job._scheduler = self._scheduler
        return job

    @property
    def _call(self) -> _Call:
        target = self._target
        return target if type(target) is tuple else (target, (), NO_KWARGS)

    @_call.setter
    def _call(self, call: _Call) -> None:
        self._target = call if call[1] or call[2] else call[0]

    @property
    def func(self) -> Callable[..., Any]:
        """The callable; LookupError if a stored reference to it leads nowhere."""
        func: Callable[..., Any] = self.call()[0]
        return func

    @property
    def args(self) -> tuple[Any, ...]:
        """The positional arguments."""
        return self._call[1]

    @property
    def kwargs(self) -> Mapping[str, Any]:
        """The keyword arguments."""
        kwargs = self._call[2]
        # A dict, for people write them as JSON and pickle them.
        return {} if kwargs is NO_KWARGS else kwargs

    def call(self) -> _Call:
        """Give callable and arguments as they belong together; LookupError as for `func`."""
        target = self._target
        call: _Call = target if type(target) is tuple else (target, (), NO_KWARGS)
        if isinstance(call[0], str):
            call = self._call = (ref_to_obj(call[0]), call[1], call[2])
        return call

    @property
    def func_ref(self) -> str | None:
        """The callable as ``module:name``, None if it has no such name."""
        func = self._call[0]
        if isinstance(func, str):
            return func
        try:
            return obj_to_ref(func)
        except ValueError:
            return None

    @property
    def next_run_time(self) -> datetime | None:
        """When the job runs next, in its trigger's time zone; None if it is paused.

        Raises AttributeError for a job that has not been given to a started scheduler yet.
        """
        if self._next_run is undefined:
            raise AttributeError(
                f"next_run_time of job {self.name!r} is not known before the scheduler starts"
            )
        return None if self._next_run is None else self.moment(self._next_run)

    @next_run_time.setter
    def next_run_time(self, value: datetime | None) -> None:
        self._next_run = None if value is None else edge_of(self._zone()).instant(value)

    @property
    def pending(self) -> bool:
        """Whether the job waits for the scheduler to start."""
        return self._jobstore_alias is None

    def moment(self, instant: int) -> datetime:
        """Turn an instant into a datetime in the time zone of the job's trigger."""
        scheduler = self._scheduler
        moment = self.trigger.moment(instant, _UTC if scheduler is None else scheduler._edge)
        if moment is None:
            raise OverflowError(f"{instant} microseconds since 1970 is after the year 9999")
        return moment

    def _zone(self) -> tzinfo:
        zone = getattr(self.trigger, "timezone", None)
        if zone is None and self._scheduler is not None:
            zone = self._scheduler.timezone
        return timezone.utc if zone is None else zone

    def next_run_times(self, count: int) -> list[datetime]:
        """List the next run times, at most ``count``; empty if the job is paused."""
        edge = edge_of(self._zone())
        now = self._owner().now() if self._scheduler else 0
        found = self._next_run
        if found is undefined:
            found = self.trigger.next_run(None, now, edge)
        times: list[datetime] = []
        while found is not None and len(times) < count:
            times.append(self.moment(found))
            found = self.trigger.next_run(found, now, edge)
        return times

    def _get_run_times(self, now: datetime) -> list[datetime]:
        """List the run times that are due; what schedulers written for APScheduler 3 call."""
        edge = edge_of(self._zone())
        present = edge.instant(now)
        times = []
        found = self._next_run
        while found is not None and found <= present:
            times.append(self.moment(found))
            found = self.trigger.next_run(found, present, edge)
        return times

    def modify(self, **changes: Any) -> Job:
        """Change attributes of the job; see `BaseScheduler.modify_job`."""
        self._owner().modify_job(self.id, self._jobstore_alias, **changes)
        return self

    def reschedule(self, trigger: Any, **trigger_args: Any) -> Job:
        """Give the job another trigger; see `BaseScheduler.reschedule_job`."""
        self._owner().reschedule_job(self.id, self._jobstore_alias, trigger, **trigger_args)
        return self

    def pause(self) -> Job:
        """Stop running the job until it is resumed."""
        self._owner().pause_job(self.id, self._jobstore_alias)
        return self

    def resume(self) -> Job | None:
        """Run the job again from its next fire time on; None if there is none."""
        return self._owner().resume_job(self.id, self._jobstore_alias) and self

    def remove(self) -> None:
        """Take the job out of its scheduler."""
        self._owner().remove_job(self.id, self._jobstore_alias)

    def run_now(self) -> None:
        """Run the job once, now, beside its schedule; see `BaseScheduler.run_job_now`."""
        self._owner().run_job_now(self.id, self._jobstore_alias)

    def _owner(self) -> BaseScheduler:
        if self._scheduler is None:
            raise RuntimeError(f"{self!r} belongs to no scheduler")
        return self._scheduler

    def _modify(self, **changes: Any) -> None:
        """Check all changes, then make them."""
        self._apply(self.checked(changes))

    def _apply(self, changes: Mapping[str, Any]) -> None:
        """Set what `checked` has found right."""
        for name, value in changes.items():
            if name in _CALL:
                call = list(self._call)
                call[_CALL[name]] = value
                self._call = tuple(call)
            else:
                setattr(self, name, value)

    def checked(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Turn changes as users write them into values of the job's slots.

        Raises AttributeError for names that can't be changed, TypeError and ValueError that
        name the attribute for wrong values.
        """
        approved: dict[str, Any] = {}
        unknown = []
        calls = False
        for name, value in changes.items():
            check = _CHECKS.get(name)
            if check is not None:
                approved[name] = check(value, name)
                calls = calls or name in _CALL
            elif name == "id":
                if value != self.id:
                    raise ValueError(f"id: the id of job {self.id!r} can't be changed")
            elif name == "func":
                approved["func"] = ref_to_obj(value) if isinstance(value, str) else value
                get_callable_name(approved["func"])
                calls = True
            elif name == "next_run_time":
                approved["_next_run"] = self._checked_time(value, changes.get("trigger"))
            else:
                unknown.append(name)
        if unknown:
            raise AttributeError(
                f"The following are not modifiable attributes of Job: {', '.join(unknown)}"
            )
        if calls:
            func = approved.get("func") or self.func
            args, kwargs = approved.get("args", self.args), approved.get("kwargs", self.kwargs)
            check_arguments(func, args, kwargs)
        return approved

    def _checked_time(self, value: Any, trigger: Any) -> int | None:
        if value is None:
            return None
        if isinstance(value, datetime) and 1 < value.year < 9999 and value.utcoffset() is not None:
            return _UTC.instant(value)
        zone = getattr(trigger, "timezone", None) or self._zone()
        edge = edge_of(zone)
        return edge.instant(as_datetime(value, zone, "next_run_time"))

    def __getstate__(self) -> dict[str, Any]:
        """Give the state that APScheduler's stores pickle; ValueError without a reference."""
        func, args, kwargs = self._call
        reference = func if isinstance(func, str) else obj_to_ref(func)
        instance = bound_instance(func)
        if instance is not None:
            args = (instance, *args)
        return {
            "version": 1,
            "id": self.id,
            "func": reference,
            "trigger": self.trigger,
            "executor": self.executor,
            "args": args,
            "kwargs": dict(kwargs),
            "name": self.name,
            "misfire_grace_time": self.misfire_grace_time,
            "coalesce": self.coalesce,
            "max_instances": self.max_instances,
            "next_run_time": None if self._next_run is undefined else self.next_run_time,
        }

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        if state.get("version", 1) > 1:
            raise ValueError(
                f"Job has version {state['version']}, but only version 1 can be handled"
            )
        self.id = state["id"]
        self._call = (state["func"], tuple(state["args"]), state["kwargs"])
        self.trigger = state["trigger"]
        self.name = state["name"]
        self._rules = rules_of(
            state["executor"],
            state["misfire_grace_time"],
            state["coalesce"],
            state["max_instances"],
            False,
        )
        self.failure = None
        self._scheduler = None
        self._jobstore_alias = None
        self._handle = None
        self.next_run_time = state["next_run_time"]

    def __eq__(self, other: object) -> bool:
        return self.id == other.id if isinstance(other, Job) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<Job (id={self.id} name={self.name})>"

    def __str__(self) -> str:
        return f"{self.name} (trigger: {self.trigger}, {self._status()})"

    def _status(self) -> str:
        if self.failure is not None:
            return f"set aside: {self.failure}"
        if self._next_run is undefined:
            return "pending"
        if self._next_run is None:
            return "paused"
        return f"next run at: {self.next_run_time:%Y-%m-%d %H:%M:%S %Z}"


def checked_text(value: Any, name: str) -> str:
    """Refuse what is no text, or empty."""
    if not isinstance(value, str):
        raise TypeError(f"{name}: a text is needed, not {value!r}")
    if not value:
        raise ValueError(f"{name}: the text is empty")
    return value


def checked_args(value: Any, name: str = "args") -> tuple[Any, ...]:
    """Turn positional arguments into a tuple."""
    if type(value) in (tuple, list):
        return tuple(value)
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise TypeError(f"{name}: a list or tuple of arguments is needed, not {value!r}")
    return tuple(value)


def checked_kwargs(value: Any, name: str = "kwargs") -> Mapping[str, Any]:
    """Copy keyword arguments."""
    if isinstance(value, str) or not isinstance(value, Mapping):
        raise TypeError(f"{name}: a mapping of arguments is needed, not {value!r}")
    return dict(value) if value else NO_KWARGS


def checked_trigger(value: Any, name: str = "trigger") -> BaseTrigger:
    """Refuse what is no trigger."""
    if not isinstance(value, BaseTrigger):
        raise TypeError(f"{name}: an instance of a trigger is needed, not {value!r}")
    return value


def checked_grace(value: Any, name: str = "misfire_grace_time") -> float | None:
    """Turn a grace time, None or seconds or a timedelta, into seconds."""
    if value is None:
        return None
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if not 0 < as_number(value, name) <= LONGEST_GRACE:
        raise ValueError(
            f"{name}: {value!r} is not a positive number of seconds, at most {LONGEST_GRACE:,};"
            " None is for no limit"
        )
    return value  # type: ignore[no-any-return]


def checked_instances(value: Any, name: str = "max_instances") -> int:
    """Refuse what is no positive whole number."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}: a whole number is needed, not {value!r}")
    if value < 1:
        raise ValueError(f"{name}: {value} is less than 1")
    return value


#: The parts of a call, by their place in it.
_CALL = {"func": 0, "args": 1, "kwargs": 2}
#: What turns a new value into one of a slot; it is told the name for its complaint.
_CHECKS: dict[str, Callable[[Any, str], Any]] = {
    "name": checked_text,
    "executor": checked_text,
    "args": checked_args,
    "kwargs": checked_kwargs,
    "trigger": checked_trigger,
    "misfire_grace_time": checked_grace,
    "coalesce": lambda value, _: bool(value),
    "max_instances": checked_instances,
    "at_least_once": lambda value, _: bool(value),
}
