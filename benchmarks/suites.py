"""The suites of `make bench`, what of the report each fills, and how to run some of them.

    python -m benchmarks.suites --results FOLDER SUITE...

A result is FOLDER/DATE-SUITE.json. Nothing is imported here that a suite needs.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Suite:
    """Modules that are measured in one run, and what the report shows of them."""

    title: str
    modules: tuple[str, ...]
    #: What is shown of it beside the table; see `plotting.py`.
    plots: tuple[str, ...] = ()


SUITES: dict[str, Suite] = {
    "engine": Suite("The next fire time", ("test_engine_cron",)),
    "heap": Suite("The heap of due jobs", ("test_engine_heap",), ("cost-heap",)),
    "scheduler": Suite("A scheduler of 100,000 jobs", ("test_scheduler", "test_scheduler_scale")),
    "sizes": Suite(
        "A job among 1,000 to 1,000,000",
        ("test_scheduler_sizes",),
        ("cost-dispatch", "cost-add", "cost-add-in-bulk", "cost-remove", "memory"),
    ),
    "adapters": Suite("The schedulers of frameworks", ("test_adapters",), ("lateness",)),
    "stores-sql": Suite("The SQL store", ("test_stores",)),
    "store-redis": Suite("The Redis store", ("test_store_redis",)),
    "store-mongodb": Suite("The MongoDB store", ("test_store_mongodb",)),
    "store-zookeeper": Suite("The ZooKeeper store", ("test_store_zookeeper",)),
    "store-etcd": Suite("The etcd store", ("test_store_etcd",)),
    "sharing": Suite("Schedulers that share a store", ("test_sharing",), ("claims",)),
}


def run(name: str, results: Path) -> int:
    """Run a suite, which prints its table, and keep its result; give pytest's exit code."""
    today = datetime.now(timezone.utc).date()
    result = results / f"{today}-{name}.json"
    command = [sys.executable, "-m", "pytest", "-q", "--timeout=0", f"--benchmark-json={result}"]
    modules = [str(HERE / f"{module}.py") for module in SUITES[name].modules]
    return subprocess.run([*command, *modules], cwd=HERE.parent, check=False).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description="Run suites of benchmarks, one after the other.")
    parser.add_argument("suites", nargs="*", metavar="SUITE", help="all, if none is given")
    parser.add_argument("--results", type=Path, required=True, help="the folder for results")
    options = parser.parse_args()
    if unknown := set(options.suites) - set(SUITES):
        parser.error(f"no suite {', '.join(sorted(unknown))}; there are {', '.join(SUITES)}")
    options.results.mkdir(parents=True, exist_ok=True)
    failed = [name for name in options.suites or SUITES if run(name, options.results)]
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
