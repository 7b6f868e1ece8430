"""The ledger tells what it is asked about: a check that can't fail would prove nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from faults.ledger import Cluster
from faults.test_faults import check_at_least_once, check_at_most_once

_PERIOD = 1_000_000
_RUNS = [("JOB_STARTED", time) for time in range(8)] + [("JOB_EXECUTED", time) for time in range(8)]


def ledger(tmp_path: Path, entries: list[tuple[str, int]], *others: tuple[str, int]) -> Cluster:
    """Make the ledger of a process, and of another one."""
    cluster = Cluster(tmp_path, {})
    lines = [
        f"{time + 0.25} {process} {event} job {time * _PERIOD}\n"
        for process, some in ((7, entries), (8, others))
        for event, time in some
    ]
    cluster.path.write_text("0.5 7 READY - 0\n" + "".join(lines))
    cluster.close()
    return cluster


def test_all_is_well(tmp_path: Path) -> None:
    account = ledger(tmp_path, _RUNS).account()
    check_at_most_once(account)
    check_at_least_once(account)
    assert account.expected(_PERIOD) == {("job", time * _PERIOD) for time in range(6)}
    assert account.late() == 0.25
    assert account.overdue(lease=3, patience=2) == 0.25 - 2
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


def test_a_loss_that_is_reported_twice_by_one_is_seen(tmp_path: Path) -> None:
    account = ledger(tmp_path, [*_RUNS, ("JOB_LOST", 3), ("JOB_LOST", 3)]).account()
    with pytest.raises(AssertionError):
        check_at_most_once(account)


def test_a_loss_may_be_reported_by_several(tmp_path: Path) -> None:
    account = ledger(tmp_path, [*_RUNS, ("JOB_LOST", 3)], ("JOB_LOST", 3)).account()
    check_at_most_once(account)
    assert account.lost == {("job", 3 * _PERIOD): 2}


def late(tmp_path: Path, seconds: float, *kills: float) -> float:
    """Give by how much a run is overdue that was due at 10 s and began so many seconds later."""
    cluster = Cluster(tmp_path, {})
    began = f"{10 + seconds} 7 JOB_STARTED job {10 * _PERIOD}\n"
    killed = "".join(f"{kill} 7 KILLED - 0\n" for kill in kills)
    cluster.path.write_text(f"0.5 7 READY - 0\n{began}{killed}")
    cluster.close()
    return cluster.account().overdue(lease=3, patience=2)


def test_a_run_that_began_late_is_seen(tmp_path: Path) -> None:
    assert late(tmp_path, 2.5) == 0.5
    # Whose member was killed before, or when it was to begin, but not so long ago.
    assert late(tmp_path, 2.5, 9) == -1.5
    assert late(tmp_path, 2.5, 4) == 0.5
    assert late(tmp_path, 7, 11) == 1
    # Whose next member was killed as well, but not when it should have begun by then.
    assert late(tmp_path, 9, 11, 15) == -1
    assert late(tmp_path, 9, 11, 17) == 3
    assert late(tmp_path, 9, 12.5) == 7


def test_the_share_of_runs_that_began_late_is_told(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, {})
    runs = [f"{n + n / 100} 7 JOB_STARTED job {n * _PERIOD}\n" for n in range(1, 101)]
    cluster.path.write_text("0.5 7 READY - 0\n" + "".join(runs))
    cluster.close()
    account = cluster.account()
    assert [round(account.late(share), 2) for share in (0.5, 0.99, 1)] == [0.51, 1.0, 1.0]
