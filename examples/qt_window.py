"""A window with scheduled work: a clock, a list of jobs, and a job that takes its time.

    python examples/qt_window.py

It needs PySide6 (pip install tocsin[qt]). Closing the window waits for the job that runs.
"""

from __future__ import annotations

import sys
import time
from datetime import datetime

from PySide6.QtWidgets import (
    QApplication,
    QLabel,
    QListWidget,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from tocsin.adapters import QtScheduler
from tocsin.errors import MaxInstancesReachedError
from tocsin.events import EVENT_JOB_EXECUTED, JobExecutionEvent, SchedulerEvent


def measure() -> float:
    """Stand for work that takes its time: it runs in a thread, and the window goes on."""
    time.sleep(0.2)
    return time.process_time()


class Window(QWidget):
    """The window; all its methods are called in Qt's thread."""

    def __init__(self, scheduler: QtScheduler) -> None:
        super().__init__()
        self.scheduler = scheduler
        self.setWindowTitle("tocsin")
        self.clock = QLabel()
        self.results = QListWidget()
        self.button = QPushButton("Measure now")
        layout = QVBoxLayout(self)
        for widget in (self.clock, self.results, self.button):
            layout.addWidget(widget)

        self.button.clicked.connect(self.measure_now)
        scheduler.happened.connect(self.note)
        scheduler.add_job(measure, "interval", seconds=1, id="measure")
        # executor="gui": the job touches a widget.
        scheduler.add_job(self.show_time, "cron", second="*", id="clock", executor="gui")

    def show_time(self) -> None:
        """Show the time."""
        self.clock.setText(f"{datetime.now():%H:%M:%S}")

    def measure_now(self) -> None:
        """Run the job out of turn."""
        try:
            self.scheduler.run_job_now("measure")
        except MaxInstancesReachedError:
            self.results.insertItem(0, "it runs already")

    def note(self, event: SchedulerEvent) -> None:
        """Show what a job returned."""
        if (
            isinstance(event, JobExecutionEvent)
            and event.code == EVENT_JOB_EXECUTED
            and event.job_id == "measure"
        ):
            self.results.insertItem(0, f"{event.retval:.3f} s of processor time")


def main() -> int:
    """Show the window until it is closed."""
    app = QApplication(sys.argv)
    scheduler = QtScheduler()
    window = Window(scheduler)
    window.show()
    scheduler.start()
    return app.exec()


if __name__ == "__main__":
    sys.exit(main())
