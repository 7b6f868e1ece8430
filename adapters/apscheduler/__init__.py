"""APScheduler 3.11's names on tocsin: for applications, and libraries, written for it.

`install` makes ``import apscheduler`` and all its modules lead here. What they give are tocsin's
own classes, with APScheduler's defaults where those differ: a grace time of one second, loggers
called ``apscheduler.*``, a memory store that a shutdown empties, cron triggers that read the
wall clock literally. ``docs/migration.md`` lists what differs all the same.
"""

from __future__ import annotations

import sys

from tocsin.adapters.apscheduler.finder import Finder

__all__ = ["install"]


def install() -> None:
    """Have ``apscheduler`` and its modules mean tocsin from here on, in this process.

    Call it before anything imports ``apscheduler``; a second call does nothing. Whether
    APScheduler itself is installed does not matter. Raises RuntimeError when it is imported
    already: objects made by it would not fit those made here.
    """
    if any(isinstance(each, Finder) for each in sys.meta_path):
        return
    loaded = sys.modules.get("apscheduler")
    if loaded is not None:
        raise RuntimeError(
            f"apscheduler is imported already, from {getattr(loaded, '__file__', None)}; call"
            " tocsin.adapters.apscheduler.install() before the first import of it, or run the"
            " program with: tocsin as-apscheduler"
        )
    sys.meta_path.insert(0, Finder())
