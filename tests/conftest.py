"""One suite for both builds of the engine.

The whole suite runs twice: as installed, and with ``TOCSIN_PURE=1`` on the interpreted engine.
Tests marked ``compiled`` compare the two builds and belong to the compiled run alone.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

import tocsin

PURE = os.environ.get("TOCSIN_PURE", "0") not in ("", "0")

# The size of a run is bounded by its number of examples, never by the clock: a busy machine
# must not turn a right answer into a failure. HYPOTHESIS_PROFILE=thorough looks harder.
_COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow], "print_blob": True}
settings.register_profile("ci", max_examples=100, derandomize=True, database=None, **_COMMON)
settings.register_profile("thorough", max_examples=3000, **_COMMON)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "compiled: compares the compiled engine with its source")


def pytest_report_header() -> str:
    return f"tocsin engine: {'compiled' if tocsin.COMPILED else 'interpreted'}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not PURE:
        return
    dropped = [item for item in items if item.get_closest_marker("compiled")]
    config.hook.pytest_deselected(items=dropped)
    items[:] = [item for item in items if item not in dropped]
