"""The ledger tells what it is asked about: a check that can't fail would prove nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from faults.ledger import Cluster
from faults.test_faults import check_at_least_once, check_at_most_once

_PERIOD = 1_000_000
_RUNS = [("JOB_STARTED", time) for time in range(8)] + [("JOB_EXECUTED", time) for time in range(8)]


def ledger(tmp_path: Path, entries: list[tuple[str, int]]) -> Cluster:
    cluster = Cluster(tmp_path, {})
    lines = [f"{time + 0.25} 7 {event} job {time * _PERIOD}\n" for event, time in entries]
    cluster.path.write_text("0.5 7 READY - 0\n" + "".join(lines))
    cluster.close()
    return cluster


def test_all_is_well(tmp_path: Path) -> None:
    account = ledger(tmp_path, _RUNS).account()
    check_at_most_once(account)
    check_at_least_once(account)
    assert account.expected(_PERIOD) == {("job", time * _PERIOD) for time in range(6)}
    assert account.worst_lateness() == 0.25
    assert account.by_process == {7: 8}


def test_a_double_is_seen(tmp_path: Path) -> None:
    account = ledger(tmp_path, [*_RUNS, ("JOB_STARTED", 3)]).account()
    assert account.doubled() == [("job", 3 * _PERIOD)]
    with pytest.raises(AssertionError):
        check_at_most_once(account)
    check_at_least_once(account)


def test_a_run_that_is_missing_is_seen(tmp_path: Path) -> None:
    entries = [entry for entry in _RUNS if entry[1] != 3]
    account = ledger(tmp_path, entries).account()
    for check in (check_at_most_once, check_at_least_once):
        with pytest.raises(AssertionError):
            check(account)


def test_a_run_that_was_reported_lost_is_not_missing(tmp_path: Path) -> None:
    entries = [entry for entry in _RUNS if entry[1] != 3]
    account = ledger(tmp_path, [*entries, ("JOB_LOST", 3)]).account()
    check_at_most_once(account)
    with pytest.raises(AssertionError):
        check_at_least_once(account)


def test_a_run_that_did_not_end_is_seen(tmp_path: Path) -> None:
    entries = [entry for entry in _RUNS if entry != ("JOB_EXECUTED", 3)]
    account = ledger(tmp_path, entries).account()
    check_at_most_once(account)
    with pytest.raises(AssertionError):
        check_at_least_once(account)


def test_a_loss_that_is_reported_twice_is_seen(tmp_path: Path) -> None:
    account = ledger(tmp_path, [*_RUNS, ("JOB_LOST", 3), ("JOB_LOST", 3)]).account()
    with pytest.raises(AssertionError):
        check_at_most_once(account)
