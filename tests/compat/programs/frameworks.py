"""A scheduler of each framework runs a job as APScheduler's documentation has it."""

import asyncio

import gevent.event
from apscheduler.events import EVENT_JOB_EXECUTED
from apscheduler.schedulers.base import STATE_STOPPED, BaseScheduler
from apscheduler.schedulers.gevent import GeventScheduler
from apscheduler.schedulers.qt import QtScheduler
from apscheduler.schedulers.tornado import TornadoScheduler
from apscheduler.schedulers.twisted import TwistedScheduler
from PySide6.QtCore import QCoreApplication, QTimer
from scenarios import PATIENCE
from twisted.internet import reactor


def job(what):
    return what


async def coroutine(what):
    await asyncio.sleep(0)
    return what


def _seen(scheduler, told):
    return [
        isinstance(scheduler, BaseScheduler),
        scheduler.state == STATE_STOPPED,
        sorted((event.job_id, event.retval) for event in told),
    ]


def on_gevent():
    scheduler = GeventScheduler(timezone="UTC")
    told = []
    done = gevent.event.Event()

    def hear(event):
        told.append(event)
        done.set()

    scheduler.add_listener(hear, EVENT_JOB_EXECUTED)
    scheduler.add_job(job, args=["g"], id="a")
    greenlet = scheduler.start()
    assert done.wait(PATIENCE)
    scheduler.shutdown()
    greenlet.join(PATIENCE)
    return [greenlet.dead, *_seen(scheduler, told)]


def on_tornado():
    async def main():
        scheduler = TornadoScheduler(timezone="UTC")
        loop = asyncio.get_running_loop()
        told = []
        done = asyncio.Event()

        def hear(event):
            told.append(event)
            if len(told) == 2:
                loop.call_soon_threadsafe(done.set)

        scheduler.add_listener(hear, EVENT_JOB_EXECUTED)
        scheduler.add_job(job, args=["t"], id="a")
        scheduler.add_job(coroutine, args=["c"], id="b")
        scheduler.start()
        await asyncio.wait_for(done.wait(), PATIENCE)
        scheduler.shutdown()
        await asyncio.sleep(0.1)
        return _seen(scheduler, told)

    return asyncio.run(main())


def on_twisted():
    scheduler = TwistedScheduler(timezone="UTC")
    told = []

    def hear(event):
        told.append(event)
        reactor.callFromThread(stop)

    def stop():
        scheduler.shutdown()
        reactor.callLater(0.1, reactor.stop)

    scheduler.add_listener(hear, EVENT_JOB_EXECUTED)
    scheduler.add_job(job, args=["w"], id="a")
    scheduler.start()
    late = reactor.callLater(PATIENCE, reactor.stop)
    reactor.run()
    assert late.active(), "nothing was executed in time"
    return _seen(scheduler, told)


def on_qt():
    application = QCoreApplication.instance() or QCoreApplication([])
    scheduler = QtScheduler(timezone="UTC")
    told = []
    scheduler.add_listener(told.append, EVENT_JOB_EXECUTED)
    scheduler.add_job(job, args=["q"], id="a")
    scheduler.start()
    watch = QTimer()
    watch.timeout.connect(lambda: told and application.quit())
    watch.start(20)
    QTimer.singleShot(PATIENCE * 1000, application.quit)
    application.exec()
    scheduler.shutdown()
    return _seen(scheduler, told)


def scenarios():
    return {
        "gevent": on_gevent,
        "tornado": on_tornado,
        "twisted": on_twisted,
        "qt": on_qt,
    }
