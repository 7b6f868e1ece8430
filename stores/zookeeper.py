"""Jobs in ZooKeeper."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from tocsin.callables import ref_to_obj
from tocsin.convert import as_bool, as_number
from tocsin.stores.options import split_options
from tocsin.stores.shards import ShardJobStore
from tocsin.stores.tree import Check, Create, Node, Op, Set, Tree, Unavailable

try:
    from kazoo.client import KazooClient, _prefix_root
    from kazoo.exceptions import (
        EXCEPTIONS,
        KazooException,
        NodeExistsError,
        NoNodeError,
        RolledBackError,
        RuntimeInconsistency,
        UnimplementedError,
    )
    from kazoo.handlers.threading import KazooTimeoutError
    from kazoo.protocol import serialization
    from kazoo.protocol.serialization import (
        GetChildren,
        GetData,
        MultiHeader,
        int_struct,
        read_buffer,
        read_string,
        stat_struct,
    )
    from kazoo.protocol.states import Callback, KazooState, WatchedEvent, ZnodeStat
    from kazoo.security import OPEN_ACL_UNSAFE
except ImportError as error:
    raise ImportError(
        f"this needs kazoo, which can't be imported ({error}): pip install tocsin[zookeeper]"
    ) from error

__all__ = ["ZooKeeperJobStore"]

#: So many nodes are asked for in one request: pages of 200 kB make a dozen megabytes.
_AT_ONCE = 64


class ZooKeeperJobStore(ShardJobStore):
    """Keep jobs in ZooKeeper 3.5 or later, for any number of schedulers.

    ``path`` is the node that all is below. ``client`` is a `kazoo.client.KazooClient`, or the
    reference of one, to use instead of a connection of the store's own; it is closed only with
    ``close_connection_on_exit``. Other arguments are those of `KazooClient`, such as ``hosts``,
    ``auth_data`` and ``use_ssl``. ``shards`` is how many schedulers can share the work at most;
    it holds for a new store. ``lease`` is the timeout of the session, which the server bounds
    by its own settings. The others are those of `SharedJobStore`.
    """

    def __init__(
        self,
        path: str = "/tocsin",
        client: Any = None,
        close_connection_on_exit: bool | str = False,
        **options: Any,
    ) -> None:
        own, connect_args = split_options("ZooKeeperJobStore", KazooClient, client, path, options)
        self.path = "/" + path.strip("/")
        self.client = ref_to_obj(client) if isinstance(client, str) else client
        if self.client is not None:
            # Whoever made the session has said how long it lasts.
            own["lease"] = self.client._session_timeout / 1000
        elif "timeout" in connect_args:
            timeout = connect_args["timeout"]
            own["lease"] = (
                float(timeout) if isinstance(timeout, str) else as_number(timeout, "timeout")
            )
        for name in ("read_only", "randomize_hosts", "use_ssl", "verify_certs", "check_hostname"):
            if name in connect_args:
                connect_args[name] = as_bool(connect_args[name])
        tree = _ZooKeeperTree(
            self.path, self.client, as_bool(close_connection_on_exit), connect_args
        )
        super().__init__(tree, **own)
        if self.client is None:
            tree.options["timeout"] = self.lease
            # kazoo would double its pauses up to an hour, and need as long again as an outage was.
            retry = {"max_tries": -1, "max_delay": self.lease / 3}
            if connect_args.get("handler") is not None:
                retry["sleep_func"] = connect_args["handler"].sleep_func
            tree.options.setdefault("connection_retry", retry)
        self.close_connection_on_exit = tree.closes

    def __repr__(self) -> str:
        return f"<ZooKeeperJobStore {self._tree} {self.path}>"


class _ZooKeeperTree(Tree):
    """Nodes of ZooKeeper, by way of kazoo; requests go out together and are answered in order.

    None of kazoo's recipes is used: its locks go on saying that they are held when the session
    has ended, and it does not tell a loss while no server can be reached.
    """

    # ZooKeeper drops the connection of whoever sends more than a megabyte at once.
    most_bytes = 480_000
    most_ops = 4000
    has_folders = True
    has_clock = True
    prolongs = True

    def __init__(self, path: str, client: Any, closes: bool, options: dict[str, Any]) -> None:
        self.path = path
        self.options = options
        self.closes = closes or client is None
        self._given = client
        self._client: Any = client
        self._changed: Callable[[str | None], None] | None = None
        self._ready = threading.Event()
        self._asks_many = True

    def __str__(self) -> str:
        if self._given is not None:
            return ",".join(f"{host}:{port}" for host, port in self._given.hosts)
        return str(self.options.get("hosts", "127.0.0.1:2181"))

    @property
    def connected(self) -> bool:
        """Whether the server can be asked at this moment."""
        # Its state says so somewhat later than `start`, which returns as soon as this is true.
        return self._client is not None and bool(self._client.connected)

    def open(self, changed: Callable[[str | None], None]) -> None:
        """Connect; see `Tree`."""
        self._changed = changed
        client = self._given if self._given is not None else KazooClient(**self.options)
        self._client = client
        client.add_listener(self._listen)
        if not client.connected:
            try:
                client.start(timeout=self._patience())
            except (KazooTimeoutError, KazooException) as error:
                self.close()
                raise Unavailable(f"ZooKeeper at {self} can't be reached: {error}") from error
        self._ready.set()
        self.connection += 1

    def close(self) -> None:
        """Disconnect; see `Tree`."""
        client, self._changed = self._client, None
        if client is None:
            return
        client.remove_listener(self._listen)
        self._client = self._given
        if self.closes:
            client.stop()
            client.close()

    def _listen(self, state: str) -> None:
        """Take note of the state of the connection; in kazoo's thread, which must not wait."""
        if state == KazooState.CONNECTED:
            self._ready.set()
        else:
            self._ready.clear()
            self.connection += 1
            if state == KazooState.LOST:
                self.session += 1
        changed = self._changed
        if changed is not None:
            changed(None)

    def _told(self, event: WatchedEvent) -> None:
        """Hand on that a node has changed. kazoo drops all watches when the connection breaks."""
        changed = self._changed
        if changed is not None and event.path is not None and event.type != "NONE":
            changed(event.path[len(self.path) + 1 :])

    def wait(self, seconds: float) -> bool:
        """Wait until the server can be asked; see `Tree`."""
        return self._ready.wait(seconds)

    def make_root(self) -> None:
        """Make the path of the store."""
        self._answers([self._client.ensure_path_async(self.path)])

    def read(self, paths: Sequence[str], watch: bool = False) -> list[Node | None]:
        """Read nodes; see `Tree`."""
        if watch:
            answers = self._ask(lambda path: self._client.get_async(path, self._told), paths)
        else:
            answers = self._many(GetData, paths)
        return [
            None if answer is None else Node(answer[0], answer[1].version) for answer in answers
        ]

    def names(self, paths: Sequence[str], watch: bool = False) -> list[list[str]]:
        """List the names below nodes; see `Tree`."""
        if watch:
            client = self._client
            answers = self._ask(lambda path: client.get_children_async(path, self._told), paths)
        else:
            answers = self._many(GetChildren, paths)
        return [answer or [] for answer in answers]

    def commit(self, transactions: Sequence[Sequence[Op]]) -> list[int | None]:
        """Commit transactions; see `Tree`."""
        self._check()
        client, asked = self._client, []
        root = _prefix_root(client.chroot, self.path)
        acl = client.default_acl or OPEN_ACL_UNSAFE
        # What is at the end of a request to make a node, by whether it is ephemeral.
        rights = [
            bytes(serialization.Create("", b"", acl, flags).serialize())[8:] for flags in (0, 1)
        ]
        for ops in transactions:
            # kazoo's builder of transactions checks each path: three times the work.
            requests: list[Any] = []
            for op in ops:
                path = f"{root}/{op.path}"
                if isinstance(op, Set):
                    version = -1 if op.version is None else op.version
                    requests.append(serialization.SetData(path, op.data, version))
                elif isinstance(op, Check):
                    requests.append(serialization.CheckVersion(path, op.version))
                elif isinstance(op, Create):
                    requests.append(_Creation(path, op.data, rights[op.ephemeral]))
                else:
                    requests.append(serialization.Delete(path, -1))
            result = client.handler.async_result()
            client._call(serialization.Transaction(requests), result)
            asked.append(result)
        return [_refused(results) for results in self._answers(asked)]

    def enter(self, path: str, data: bytes) -> tuple[int | None, bool]:
        """Write an ephemeral node; see `Tree`."""
        self._check()
        full = self._full(path)
        known = True
        for _ in range(3):
            (stat,) = self._answers([self._client.set_async(full, data)])
            if stat is not None:
                return stat.mtime * 1000, known
            known = False
            with suppress(NodeExistsError):
                self._answers([self._client.create_async(full, data, ephemeral=True)])
        raise Unavailable(f"{full} of ZooKeeper at {self} can't be made")

    def catch_up(self) -> None:
        """Wait until all news were handed on; see `Tree`."""
        self._check()
        self._answers([self._client.sync_async(self.path)])
        done = threading.Event()
        # News and this go through one queue of kazoo's.
        self._client.handler.dispatch_callback(Callback("watch", done.set, ()))
        if not done.wait(self._patience()):
            raise Unavailable(f"no news of ZooKeeper at {self}")

    def _full(self, path: str) -> str:
        return f"{self.path}/{path}" if path else self.path

    def _check(self) -> None:
        # kazoo would keep what it is asked until it is connected again.
        if not self.connected:
            raise Unavailable(f"ZooKeeper at {self} can't be reached")

    def _ask(self, ask: Callable[[str], Any], paths: Sequence[str]) -> list[Any]:
        self._check()
        return self._answers([ask(self._full(path)) for path in paths])

    def _many(self, kind: Any, paths: Sequence[str]) -> list[Any]:
        """Ask for many nodes in few requests, which costs a tenth of one for each."""
        self._check()
        client = self._client
        if not self._asks_many:
            if kind is GetData:
                return self._ask(client.get_async, paths)
            return self._ask(client.get_children_async, paths)
        asked = []
        for start in range(0, len(paths), _AT_ONCE):
            some = paths[start : start + _AT_ONCE]
            result = client.handler.async_result()
            full = [_prefix_root(client.chroot, self._full(path)) for path in some]
            client._call(_Reads([kind(path, None) for path in full]), result)
            asked.append(result)
        try:
            return [answer for answers in self._answers(asked) for answer in answers]
        except Unavailable as error:
            if not isinstance(error.__cause__, UnimplementedError):
                raise
        self._asks_many = False
        return self._many(kind, paths)

    def _answers(self, asked: Sequence[Any]) -> list[Any]:
        """Wait for answers, None for nodes that are not there."""
        answers: list[Any] = []
        try:
            for each in asked:
                try:
                    answers.append(each.get(timeout=self._patience()))
                except NoNodeError:
                    answers.append(None)
        except NodeExistsError:
            raise
        except (KazooException, KazooTimeoutError) as error:
            name = type(error).__name__
            raise Unavailable(f"ZooKeeper at {self} did not answer: {name} {error}") from error
        return answers

    def _patience(self) -> float:
        return float(self.options.get("timeout", 15.0))


class _Creation:
    """A request to make a node; adding jobs in bulk is made of these."""

    type = serialization.Create.type

    def __init__(self, path: str, data: bytes, rights: bytes) -> None:
        self._told = (path, data, rights)

    def serialize(self) -> bytes:
        """Give what is sent."""
        path, data, rights = self._told
        name = path.encode()
        pack = int_struct.pack
        return b"".join((pack(len(name)), name, pack(len(data)), data, rights))


class _Reads:
    """A request for many nodes: ``multiRead`` of ZooKeeper 3.6, which kazoo does not know."""

    type = 22

    def __init__(self, operations: Sequence[Any]) -> None:
        self.serialize = serialization.Transaction(operations).serialize

    def deserialize(self, answer: bytes, offset: int) -> list[Any]:
        """Give data and stat, or names, for each node, None for those that are not there."""
        results: list[Any] = []
        while True:
            header, offset = MultiHeader.deserialize(answer, offset)
            if header.done:
                return results
            if header.type == GetData.type:
                data, offset = read_buffer(answer, offset)
                stat = ZnodeStat._make(stat_struct.unpack_from(answer, offset))
                offset += stat_struct.size
                results.append((data, stat))
            elif header.type == GetChildren.type:
                (count,) = int_struct.unpack_from(answer, offset)
                offset += int_struct.size
                names = []
                for _ in range(max(count, 0)):
                    name, offset = read_string(answer, offset)
                    names.append(name)
                results.append(names)
            else:
                (code,) = int_struct.unpack_from(answer, offset)
                offset += int_struct.size
                if code != NoNodeError.code:
                    raise EXCEPTIONS[code]()
                results.append(None)


def _refused(results: Sequence[Any]) -> int | None:
    """Give the place of the operation that was refused, of the results of a transaction."""
    for place, result in enumerate(results):
        if isinstance(result, Exception) and not isinstance(
            result, (RolledBackError, RuntimeInconsistency)
        ):
            return place
    return None
