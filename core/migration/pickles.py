"""Pickles as data: what a pickle would make is told, and nothing is imported, called or made."""

from __future__ import annotations

import io
import pickle
from typing import Any, ClassVar

__all__ = ["Made", "read"]

#: The names that modules of built-ins had in Python 2, and have in old protocols.
_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg"}


class Made:
    """What a pickle would make: by calling ``name`` with ``args``, then by what follows.

    ``name`` is ``module:name``, ``state`` what the object would be told of itself, ``items`` what
    would be put into it: values, or pairs of key and value. A subclass stands for the name
    itself, and an instance for what it would make, which may be called in turn.
    """

    __slots__ = ("args", "items", "state")

    name: ClassVar[str]

    args: tuple[Any, ...]
    state: Any
    items: list[Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> Made:
        self = super().__new__(cls)
        self.args = (*args, kwargs) if kwargs else args
        self.state = None
        self.items = []
        return self

    def __call__(self, *args: Any) -> Made:
        return _named(self._called())(*args)

    def _called(self) -> str:
        """Give the name of what this is, when it would be called: mostly a method of a class."""
        if self.name == "builtins:getattr" and len(self.args) == 2:
            owner, attribute = self.args
            if is_name(owner) and isinstance(attribute, str):
                return f"{owner.name}.{attribute}"
        return f"{self.name}()"

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def append(self, item: Any) -> None:
        """Note an item of a list."""
        self.items.append(item)

    add = append

    def extend(self, items: list[Any]) -> None:
        """Note items of a list."""
        self.items.extend(items)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items.append((key, value))

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise ValueError(f"{self.name[:100]} was read from a pickle, and was never made")


def is_name(value: Any) -> bool:
    """Tell whether a value that was read stands for a name, such as that of a class."""
    return isinstance(value, type) and issubclass(value, Made)


def read(data: bytes) -> Any:
    """Read a pickle of any protocol; ValueError for what is none.

    Numbers, texts, bytes, lists, tuples, sets and dictionaries are what they are, everything
    else is a `Made`. Whatever the pickle holds, no other code than this is run.
    """
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise ValueError(f"a pickle is bytes, not {type(data).__name__}")
    try:
        return _Unpickler(io.BytesIO(data)).load()
    except Exception as error:  # a broken pickle can raise anything
        reason = f"{type(error).__name__}: {str(error)[:200]}"
        raise ValueError(f"no pickle that can be read: {reason}") from error


# The one in Python, for a few bytes have the one in C take all memory there is: the number of a
# place in its memo.
class _Unpickler(pickle._Unpickler):
    """Look no name up, but have each stand for itself."""

    dispatch: ClassVar[Any] = dict(pickle._Unpickler.dispatch)

    def find_class(self, module: str, name: str) -> Any:
        return _named(f"{_MODULES.get(module, module)}:{name}")

    def persistent_load(self, pid: Any) -> Any:
        raise ValueError("it refers to an object outside of it")

    def _load_bytearray8(self: Any) -> None:
        size = int.from_bytes(self.read(8), "little")
        self.append(bytearray(self.read(size)))  # what is there, before it takes the memory

    dispatch[pickle.BYTEARRAY8[0]] = _load_bytearray8


def _named(name: str) -> type[Made]:
    # A class for each time it is met: whatever a pickle does to one, it does to that alone.
    return type("Named", (Made,), {"__slots__": (), "name": name})
