"""Job stores, one module for each backend; each imports its driver on use."""

from __future__ import annotations

from tocsin.stores.base import BaseJobStore
from tocsin.stores.memory import MemoryJobStore

__all__ = ["BaseJobStore", "MemoryJobStore"]
