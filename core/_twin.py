"""Choose between the compiled engine and the same source interpreted, before it is imported."""

from __future__ import annotations

import os
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

#: The compiled modules of `tocsin.engine`, each after those that it imports.
MODULES = ("civil", "zone", "schedule", "cron", "periodic", "heap", "table")
_FOLDER = Path(__file__).parent / "engine"


def select() -> bool:
    """Load the engine that the environment asks for; tell whether it is compiled.

    Raises CompiledEngineMissing when ``TOCSIN_REQUIRE_COMPILED`` is set and it is not.
    """
    pure, required = _flag("TOCSIN_PURE"), _flag("TOCSIN_REQUIRE_COMPILED")
    missing = [name for name in MODULES if not _has_extension(name)]
    if required and (pure or missing):
        from tocsin.errors import CompiledEngineMissing

        why = "TOCSIN_PURE=1 forbids it" if pure else f"no extension for {', '.join(missing)}"
        raise CompiledEngineMissing(
            f"TOCSIN_REQUIRE_COMPILED=1 asks for the compiled engine, but {why};"
            " install tocsin with a C compiler present, or unset the variable"
        )
    # All or none: the modules share C types. Without any, the source is what import finds,
    # wherever it is: in a zip file or a frozen application it is no file.
    if (pure or missing) and len(missing) < len(MODULES):
        for name, module in load_interpreted().items():
            sys.modules[name] = module
    return not (pure or missing)


def load_interpreted() -> dict[str, ModuleType]:
    """Load the source of the engine's modules beside whatever is imported already."""
    loaded: dict[str, ModuleType] = {}
    kept = {name: module for name, module in sys.modules.items() if _is_engine(name)}
    package = sys.modules.get("tocsin.engine")
    attributes = dict(vars(package)) if package else {}
    try:
        for short in MODULES:
            name = f"tocsin.engine.{short}"
            spec = spec_from_file_location(name, _FOLDER / f"{short}.py")
            if spec is None or spec.loader is None or not (_FOLDER / f"{short}.py").exists():
                raise ImportError(
                    f"{name} has no source in {_FOLDER}, so the engine can't be interpreted;"
                    " unset TOCSIN_PURE, or bundle the source with the application",
                    name=name,
                )
            module = module_from_spec(spec)
            sys.modules[name] = loaded[name] = module
            import tocsin.engine

            setattr(tocsin.engine, short, module)
            spec.loader.exec_module(module)
    finally:
        for name in loaded:
            sys.modules.pop(name, None)
        sys.modules.update(kept)
        if package:
            for short in MODULES:
                if short in attributes:
                    setattr(package, short, attributes[short])
    return loaded


def _is_engine(name: str) -> bool:
    return name.startswith("tocsin.engine.") and name.rpartition(".")[2] in MODULES


def _has_extension(name: str) -> bool:
    return any((_FOLDER / f"{name}{suffix}").exists() for suffix in EXTENSION_SUFFIXES)


def _flag(name: str) -> bool:
    return os.environ.get(name, "0") not in ("", "0")
