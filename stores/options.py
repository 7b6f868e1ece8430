"""The options that stores have in common, told from those of their clients."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from typing import Any

from tocsin.errors import suggestion
from tocsin.stores.shared import SharedJobStore

__all__ = ["SHARED_OPTIONS", "split_options", "take_shared"]

#: The options that all stores have which are shared, and those on shards.
SHARED_OPTIONS = tuple(signature(SharedJobStore).parameters)
_ON_SHARDS = frozenset((*SHARED_OPTIONS, "shards"))


def take_shared(options: dict[str, Any]) -> dict[str, Any]:
    """Take the options of `SharedJobStore` out of all that a store was given, and give them."""
    return {name: options.pop(name) for name in SHARED_OPTIONS if name in options}


def split_options(
    store: str, client_class: type, client: Any, path: Any, options: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Tell the options of a store on shards from the arguments of a client to be made.

    Raises TypeError for a name that neither has, and for arguments beside a ``client`` that is
    there already, ValueError for an empty path.
    """
    if not path or not isinstance(path, str):
        raise ValueError('The "path" parameter must not be empty')
    accepted = set(signature(client_class).parameters) - {"kwargs"}
    own, arguments = {}, {}
    for name, value in options.items():
        if name in _ON_SHARDS:
            own[name] = value
        elif name in accepted:
            arguments[name] = value
        elif name != "pickle_protocol":  # APScheduler's; taken so that a configuration goes on
            article = "an" if store[0] in "AEIOU" else "a"
            raise TypeError(
                f"{name}: unknown{suggestion(name, accepted)}; besides its own options {article}"
                f" {store} takes those of {client_class.__name__}: {', '.join(sorted(accepted))}"
            )
    if client is not None and arguments:
        raise TypeError(f"{', '.join(arguments)}: not with client, which is connected")
    return own, arguments
