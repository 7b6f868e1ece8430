"""What users test with: a clock that they set, a scheduler that follows it, and compliance suites.

The suites are classes of tests for plug-ins of third parties, written for pytest.
"""

from __future__ import annotations

import sys

if "pytest" in sys.modules:  # have it show what the asserts of the suites compared
    sys.modules["pytest"].register_assert_rewrite(
        *(f"{__name__}.{suite}" for suite in ("executors", "stores", "stores_shared", "triggers"))
    )

from tocsin.testing.clock import FakeClock
from tocsin.testing.executors import ExecutorCompliance, PoolCompliance
from tocsin.testing.scheduler import FakeScheduler
from tocsin.testing.stores import JobStoreCompliance
from tocsin.testing.stores_shared import SharedStoreCompliance
from tocsin.testing.triggers import TriggerCompliance

__all__ = [
    "ExecutorCompliance",
    "FakeClock",
    "FakeScheduler",
    "JobStoreCompliance",
    "PoolCompliance",
    "SharedStoreCompliance",
    "TriggerCompliance",
]
