"""The account of a soak: every run, told by the scheduler and made by the job."""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict, deque
from time import time_ns
from typing import Any

from benchmarks.histogram import Histogram
from benchmarks.soak_jobs import Population
from tocsin.events import (
    EVENT_JOB_BROKEN,
    EVENT_JOB_COALESCED,
    EVENT_JOB_ERROR,
    EVENT_JOB_LOST,
    EVENT_JOB_MAX_INSTANCES,
    EVENT_JOB_MISSED,
    EVENT_JOB_REMOVED,
    EVENT_JOB_SUBMITTED,
    EVENT_JOBSTORE_ERROR,
    NAMES,
    JobSubmissionEvent,
    SchedulerEvent,
)

#: What must not happen in a soak.
TROUBLE = (
    EVENT_JOB_BROKEN
    | EVENT_JOB_COALESCED
    | EVENT_JOB_ERROR
    | EVENT_JOB_LOST
    | EVENT_JOB_MAX_INSTANCES
    | EVENT_JOB_MISSED
    | EVENT_JOB_REMOVED
    | EVENT_JOBSTORE_ERROR
)


class Ledger:
    """Hold each run of a population against when it has to be, and note how late it began.

    The scheduled time of a run is what `EVENT_JOB_SUBMITTED` says, which comes before the run; it
    has to be the one that follows the job's last run. The run itself is a call of `run`, by the
    job of that number. Runs that are scheduled at the end of the population or later do not count.
    Each run takes O(1), and no memory that stays.
    """

    def __init__(self, population: Population) -> None:
        self.population = population
        #: Runs that were submitted as they had to be, and calls of jobs for any run submitted.
        self.submitted = self.started = 0
        #: Runs that were left out, submitted again, and submitted when they did not have to be.
        self.lost = self.doubled = self.stray = 0
        #: Calls of jobs for no run, and before its time.
        self.unannounced = self.early = 0
        #: Other events, by name.
        self.troubles: Counter[str] = Counter()
        #: How late runs began, of interval jobs and of cron jobs, since `take_lateness`.
        self.lateness = (Histogram(), Histogram())
        self._expected = array("q", population.first)
        # The run that was submitted and has not begun, by job; 0 for none.
        self._due = array("q", bytes(8 * population.jobs))
        # More of them, of a job several of whose runs were submitted as one instance.
        self._queues: defaultdict[int, deque[int]] = defaultdict(deque)

    def listen(self, scheduler: Any) -> None:
        """Begin to listen to a scheduler whose jobs have their numbers as ids."""
        scheduler.add_listener(self._note_submission, EVENT_JOB_SUBMITTED)
        scheduler.add_listener(self._note_trouble, TROUBLE)

    def run(self, number: int) -> None:
        """Be the job of a number."""
        now = time_ns() // 1000
        due = self._due[number]
        if not due:
            self.unannounced += 1
            return
        self._due[number] = self._queues[number].popleft() if number in self._queues else 0
        if not self._queues.get(number, True):
            del self._queues[number]
        if due >= self.population.end:
            return
        self.started += 1
        if now < due:
            self.early += 1
        else:
            self.lateness[self.population.is_cron(number)].add(now - due)

    def take_lateness(self) -> tuple[Histogram, Histogram]:
        """Give how late runs began, and begin to count anew."""
        taken, self.lateness = self.lateness, (Histogram(), Histogram())
        return taken

    def account(self) -> dict[str, Any]:
        """Say what became of all runs, as JSON values; O(jobs). ``ok`` is that nothing is amiss."""
        population = self.population
        missing = sum(
            population.count(number, self._expected[number], population.end)
            for number in range(population.jobs)
        )
        found: dict[str, Any] = {
            "expected": population.runs,
            "submitted": self.submitted,
            "started": self.started,
            "lost": self.lost + missing,
            "doubled": self.doubled,
            "stray": self.stray,
            "not_started": self.submitted + self.doubled + self.stray - self.started,
            "unannounced": self.unannounced,
            "early": self.early,
            "troubles": dict(self.troubles),
        }
        amiss = ("lost", "doubled", "stray", "not_started", "unannounced", "early", "troubles")
        found["ok"] = population.runs == self.submitted and not any(found[each] for each in amiss)
        return found

    def _note_submission(self, event: JobSubmissionEvent) -> None:
        number = int(event.job_id)
        for moment in event.scheduled_run_times:
            due = round(moment.timestamp() * 1_000_000)
            if due < self.population.end:
                if due == self._expected[number]:
                    self.submitted += 1
                    self._expected[number] = self.population.after(number, due)
                else:
                    self._note_deviation(number, due)
            if self._due[number]:
                self._queues[number].append(due)
            else:
                self._due[number] = due

    def _note_deviation(self, number: int, due: int) -> None:
        """Take note of a run that is not the one which follows the job's last run."""
        population = self.population
        if not population.has(number, due):
            self.stray += 1
        elif due < self._expected[number]:
            self.doubled += 1
        else:
            self.lost += population.count(number, self._expected[number], due)
            self.submitted += 1
            self._expected[number] = population.after(number, due)

    def _note_trouble(self, event: SchedulerEvent) -> None:
        self.troubles[NAMES[event.code]] += 1
