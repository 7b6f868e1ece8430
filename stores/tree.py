"""A tree of small nodes on a server that is changed in transactions: ZooKeeper's, or etcd's."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple

__all__ = ["Check", "Create", "Delete", "Node", "Op", "Set", "Tree", "Unavailable", "size_of"]

#: Bytes of an operation in a transaction besides its data and its path.
_OVERHEAD = 64


class Unavailable(ConnectionError):
    """The server was not reached, or its answer was not: what was asked may have been done."""


class Node(NamedTuple):
    """A node that was read."""

    data: bytes
    version: int


class Check(NamedTuple):
    """Refuse the transaction unless a node has this version."""

    path: str
    version: int


class Set(NamedTuple):
    """Write a node of this version, any if it is None; the version grows by one."""

    path: str
    data: bytes
    version: int | None


class Create(NamedTuple):
    """Make a node that is not there; an ephemeral one goes when our session ends."""

    path: str
    data: bytes
    ephemeral: bool = False


class Delete(NamedTuple):
    """Take a node out that is there."""

    path: str


Op = Check | Set | Create | Delete


class Tree(ABC):
    """A tree of small nodes with versions, on a server, that is changed in transactions.

    Paths are below the path of the store. Every call raises `Unavailable` when the server can't
    be reached; requests of one client take effect in their order.
    """

    #: The limits of one transaction.
    most_bytes: int
    most_ops: int
    #: Whether a node needs one above it.
    has_folders: bool
    #: Whether `enter` tells the time.
    has_clock: bool
    #: Whether every transaction that takes effect prolongs the session, as `enter` does.
    prolongs: bool
    #: Grows when the session has ended, and with it all that was ephemeral.
    session: int = 0
    #: Grows when the connection has broken: watches are gone, and transactions are in doubt.
    connection: int = 0

    @property
    @abstractmethod
    def connected(self) -> bool:
        """Whether the server can be asked at this moment."""

    @abstractmethod
    def open(self, changed: Callable[[str | None], None]) -> None:
        """Connect; ``changed`` is called with the path of a node that was watched, once.

        It is called without a path when the connection has broken or is back.
        """

    @abstractmethod
    def close(self) -> None:
        """Disconnect."""

    @abstractmethod
    def make_root(self) -> None:
        """Make the path of the store, if it is not there."""

    @abstractmethod
    def read(self, paths: Sequence[str], watch: bool = False) -> list[Node | None]:
        """Read nodes, None for those that are not there, in one round trip."""

    @abstractmethod
    def names(self, paths: Sequence[str], watch: bool = False) -> list[list[str]]:
        """List the names below nodes, in one round trip."""

    @abstractmethod
    def commit(self, transactions: Sequence[Sequence[Op]]) -> list[int | None]:
        """Commit transactions one after the other, in one round trip.

        Tell of each which of its operations was refused, None if it took effect.
        """

    @abstractmethod
    def enter(self, path: str, data: bytes) -> tuple[int | None, bool]:
        """Write an ephemeral node.

        Give the instant by the server's clock, if it has one, and whether the node was there.
        """

    @abstractmethod
    def catch_up(self) -> None:
        """Wait until ``changed`` was called for all that had changed by now."""

    @abstractmethod
    def wait(self, seconds: float) -> bool:
        """Wait until the server can be asked; false if it can't within so many seconds."""


def size_of(op: Op) -> int:
    """Give about how many bytes an operation takes in a transaction."""
    data = op.data if isinstance(op, (Set, Create)) else b""
    return len(op.path) + len(data) + _OVERHEAD
