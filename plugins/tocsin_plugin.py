"""Tell ``twistd`` of tocsin: this folder is installed as a part of ``twisted.plugins``."""

from __future__ import annotations

from twisted.application.service import ServiceMaker

tocsin = ServiceMaker("tocsin", "tocsin.adapters.twistd", "A scheduler of jobs.", "tocsin")
