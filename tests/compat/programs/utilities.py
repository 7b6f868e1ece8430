"""What the functions of apscheduler.util give."""

import functools
import re
from datetime import date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytz
from apscheduler import util

UTC = timezone.utc
BERLIN = ZoneInfo("Europe/Berlin")
_BUILT_IN = (TypeError, ValueError, LookupError)


class Owner:
    def method(self, a, /, b, *, c=1):
        return a, b, c

    @classmethod
    def of_class(cls):
        return cls

    def __call__(self):
        return self


def function(a, b=2, *rest, c, **more):
    return a, b, rest, c, more


async def coroutine():
    return 1


def _local():
    def inner():
        return 1

    return inner


CALLS = {
    "asint": [("3",), (None,), (4,), ("x",)],
    "asbool": [(text,) for text in ("yes", "ON ", "t", "1", "False", "n", "off", "0", "maybe")]
    + [(0,), ([1],), (None,)],
    "astimezone": [("UTC",), (BERLIN,), (pytz.timezone("Europe/Berlin"),), (UTC,), (None,), (3,)],
    "asdate": [("2026-03-29",), (date(2026, 3, 29),), (None,), ("29.3.2026",)],
    "convert_to_datetime": [
        (None, UTC, "x"),
        (date(2026, 3, 29), UTC, "x"),
        (datetime(2026, 3, 29, 12), BERLIN, "x"),
        (datetime(2026, 3, 29, 2, 30), BERLIN, "x"),
        (datetime(2026, 3, 29, tzinfo=BERLIN), UTC, "x"),
        ("2026-3-9", UTC, "x"),
        ("2026-03-29 10:15:30", "Europe/Berlin", "x"),
        ("2026-03-29T10:15:30.123456Z", BERLIN, "x"),
        ("nonsense", UTC, "x"),
        (datetime(2026, 3, 29), None, "x"),
        (3, UTC, "x"),
    ],
    "datetime_to_utc_timestamp": [(datetime(2026, 3, 29, 12, 0, 0, 500000, BERLIN),), (None,)],
    "utc_timestamp_to_datetime": [(1774778400.5,), (None,)],
    "timedelta_seconds": [(timedelta(days=1, microseconds=500000),)],
    "datetime_ceil": [
        (datetime(2026, 3, 29, 12, 0, 0, 1, BERLIN),),
        (datetime(2026, 3, 29, 1, 59, 59, 1, BERLIN),),
        (datetime(2026, 3, 29, 12, 0, 0, 1),),
        (datetime(2026, 3, 29, 12),),
    ],
    "datetime_utc_add": [
        (datetime(2026, 3, 29, 1, 30, tzinfo=BERLIN), timedelta(hours=1)),
        (datetime(2026, 3, 29, 1, 30), timedelta(hours=-1)),
    ],
    "datetime_repr": [(datetime(2026, 3, 29, tzinfo=BERLIN),), (None,)],
    "timezone_repr": [(BERLIN,), (UTC,)],
    "get_callable_name": [
        (function,),
        (Owner().method,),
        (Owner.of_class,),
        (Owner(),),
        (Owner,),
        (print,),
        (lambda: 1,),
        (3,),
    ],
    "obj_to_ref": [
        (function,),
        (Owner.of_class,),
        (Owner.method,),
        (Owner,),
        (print,),
        (lambda: 1,),
        (_local(),),
        (functools.partial(function, 1),),
        (3,),
    ],
    "ref_to_obj": [
        ("utilities:Owner.method",),
        ("os.path:join",),
        ("utilities",),
        (3,),
        ("no_such:thing",),
        ("utilities:missing",),
    ],
    "maybe_ref": [("utilities:function",), (7,)],
    "check_callable_args": [
        (function, [1], {"c": 3}),
        (function, [1, 2, 3, 4], {"c": 3, "d": 4}),
        (function, [], {"c": 3}),
        (function, [1], {}),
        (function, [1], {"a": 1, "c": 3}),
        (Owner().method, [1, 2], {}),
        (Owner().method, [1], {}),
        (Owner().method, [], {"a": 1, "b": 2}),
        (Owner().method, [1, 2, 3], {}),
        (Owner().method, [1, 2], {"d": 1}),
        (min, [1, 2], {}),
    ],
    "iscoroutinefunction_partial": [
        (coroutine,),
        (functools.partial(functools.partial(coroutine)),),
        (function,),
    ],
    "normalize": [(datetime(2026, 3, 29, 2, 30, tzinfo=BERLIN),)],
    "localize": [(datetime(2026, 3, 28, 2, 30), BERLIN), (datetime(2026, 3, 29, 2, 30), BERLIN)],
}


def _given(name, arguments):
    try:
        return re.sub(" at 0x[0-9a-f]+", "", repr(getattr(util, name)(*arguments)))
    except Exception as error:
        return [kind.__name__ for kind in _BUILT_IN if isinstance(error, kind)]


def scenarios():
    found = {
        name: lambda name=name: [_given(name, arguments) for arguments in CALLS[name]]
        for name in CALLS
    }
    found["undefined"] = lambda: [repr(util.undefined), bool(util.undefined)]
    return found
