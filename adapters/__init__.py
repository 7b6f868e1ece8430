"""Schedulers and executors, one module for each framework; each imports its own on use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tocsin.adapters.asyncio import AsyncIOExecutor, AsyncIOScheduler
    from tocsin.adapters.background import BackgroundScheduler
    from tocsin.adapters.blocking import BlockingScheduler
    from tocsin.adapters.gevent import GeventExecutor, GeventScheduler
    from tocsin.adapters.pools import FuturesExecutor, ProcessPoolExecutor, ThreadPoolExecutor
    from tocsin.adapters.qt import QtExecutor, QtScheduler
    from tocsin.adapters.tornado import TornadoExecutor, TornadoScheduler
    from tocsin.adapters.twisted import SchedulerService, TwistedExecutor, TwistedScheduler

__all__ = [
    "AsyncIOExecutor",
    "AsyncIOScheduler",
    "BackgroundScheduler",
    "BlockingScheduler",
    "FuturesExecutor",
    "GeventExecutor",
    "GeventScheduler",
    "ProcessPoolExecutor",
    "QtExecutor",
    "QtScheduler",
    "SchedulerService",
    "ThreadPoolExecutor",
    "TornadoExecutor",
    "TornadoScheduler",
    "TwistedExecutor",
    "TwistedScheduler",
]

_MODULES = {
    "AsyncIOExecutor": "asyncio",
    "AsyncIOScheduler": "asyncio",
    "BackgroundScheduler": "background",
    "BlockingScheduler": "blocking",
    "FuturesExecutor": "pools",
    "GeventExecutor": "gevent",
    "GeventScheduler": "gevent",
    "ProcessPoolExecutor": "pools",
    "ThreadPoolExecutor": "pools",
    "TornadoExecutor": "tornado",
    "TornadoScheduler": "tornado",
    "QtExecutor": "qt",
    "QtScheduler": "qt",
    "SchedulerService": "twisted",
    "TwistedExecutor": "twisted",
    "TwistedScheduler": "twisted",
}


if not TYPE_CHECKING:  # a type checker would take it to have every name

    def __getattr__(name: str) -> Any:
        """Import an adapter when it is asked for."""
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
