"""Configurations as mappings: keys with a prefix, keys with dots, one mapping over another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tocsin.errors import ConfigError

__all__ = ["chosen", "merged", "nested"]


def chosen(
    gconfig: Mapping[str, Any], prefix: str | tuple[str, ...] | None, known: list[str]
) -> list[tuple[str, Any]]:
    """Give the items whose keys have a prefix, without it."""
    if not isinstance(gconfig, Mapping):
        raise ConfigError("gconfig", f"a mapping is needed, not {gconfig!r}")
    if not prefix:
        return list(gconfig.items())
    prefixes = (prefix,) if isinstance(prefix, str) else prefix
    found: list[tuple[str, Any]] = []
    for key, value in gconfig.items():
        if f"{key}." in prefixes and isinstance(value, Mapping):  # {"tocsin": {...}}
            found.extend(value.items())
        elif isinstance(key, str) and key.startswith(prefixes):
            length = max(len(each) for each in prefixes if key.startswith(each))
            found.append((key[length:], value))
    if not found:
        # Other keys are other programs' business, unless they look like ours.
        for key in gconfig:
            if str(key).partition(".")[0] in known:
                expected = " or ".join(map(repr, prefixes))
                raise ConfigError(
                    key, f"it lacks the prefix {expected}; with prefix=None all keys are read"
                )
    return found


def nested(items: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Turn keys with dots into mappings in mappings."""
    tree: dict[str, Any] = {}
    for key, value in items:
        if not isinstance(key, str):
            raise ConfigError(str(key), f"a key is a text, not {key!r}")
        for part in reversed(key.split(".")):
            value = {part: value}
        tree = merged(tree, value, refuse=True)
    return tree


def merged(
    base: Mapping[str, Any], over: Mapping[str, Any], refuse: bool = False, path: str = ""
) -> dict[str, Any]:
    """Lay one mapping over another at every depth, or ``refuse`` what they have in common."""
    both = dict(base)
    for key, value in over.items():
        old = both.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            value = merged(old, value, refuse, f"{path}{key}.")
        elif refuse and key in both:
            raise ConfigError(f"{path}{key}", "given twice")
        both[key] = value
    return both
