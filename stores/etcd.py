"""Jobs in etcd."""

from __future__ import annotations

import json
import threading
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from contextlib import suppress
from math import ceil
from typing import Any

from tocsin.callables import ref_to_obj
from tocsin.convert import as_bool, as_number
from tocsin.stores.options import split_options
from tocsin.stores.shards import ShardJobStore
from tocsin.stores.tree import Check, Create, Delete, Node, Op, Set, Tree, Unavailable

try:
    import requests
    from etcd3gw.client import Etcd3Client
    from etcd3gw.exceptions import Etcd3Exception
    from requests.auth import AuthBase
except ImportError as error:
    raise ImportError(
        f"this needs etcd3gw, which can't be imported ({error}): pip install tocsin[etcd]"
    ) from error

__all__ = ["EtcdJobStore"]

#: What the server is asked for waits so long at the most, in seconds.
_PATIENCE = 10.0
#: What etcd says to whoever has no token, or one that it does not know, and with which status.
_UNKNOWN = (b"user name is empty", b"invalid auth token")
_REFUSALS = (400, 401)


class EtcdJobStore(ShardJobStore):
    """Keep jobs in etcd 3.4 or later, by its JSON gateway, for any number of schedulers.

    ``path`` is the prefix of all keys. ``user`` and ``password`` are those of a user of etcd.
    ``client`` is an `etcd3gw.Etcd3Client`, or the reference of one, to use instead of one of the
    store's own; whose session may have ``auth``, where users are asked for.
    ``close_connection_on_exit`` has its connections closed. Other arguments are those of
    `Etcd3Client`, such as ``host``, ``port``, ``protocol`` and ``ca_cert``. ``shards`` is how
    many schedulers can share the work at most; it holds for a new store. ``lease`` is that of
    etcd, in whole seconds, of which the server wants two or more. etcd tells no time: the
    schedulers' clocks decide, whatever ``clock`` is.
    The others are those of `SharedJobStore`.
    """

    python_sockets = True

    def __init__(
        self,
        path: str = "/tocsin",
        client: Any = None,
        close_connection_on_exit: bool | str = False,
        *,
        user: str | None = None,
        password: str | None = None,
        **options: Any,
    ) -> None:
        if (user is None) != (password is None):
            raise ValueError("user, password: give both, or neither")
        if user is not None and client is not None:
            raise TypeError("user, password: not with client, whose session has its own")
        own, connect_args = split_options("EtcdJobStore", Etcd3Client, client, path, options)
        for name in ("port", "timeout"):
            if isinstance(connect_args.get(name), str):
                connect_args[name] = as_number(json.loads(connect_args[name]), name)
        self.path = path.rstrip("/")
        if client is None:
            self.client = Etcd3Client(**{"timeout": _PATIENCE, **connect_args})
        else:
            self.client = ref_to_obj(client) if isinstance(client, str) else client
        self.close_connection_on_exit = as_bool(close_connection_on_exit)
        tree = _EtcdTree(self.path, self.client, client is None or self.close_connection_on_exit)
        if user is not None and password is not None:
            tree.login = self.client.session.auth = _Login(self.client, user, password)
        super().__init__(tree, **own)
        # What is granted is in whole seconds; ours must not end later.
        tree.ttl = ceil(self.lease)

    def __repr__(self) -> str:
        return f"<EtcdJobStore {self._tree} {self.path}>"


class _Login(AuthBase):
    """Gives each request of a client a token of etcd, and has a new one made when it is refused.

    Tokens are forgotten when the server restarts, or when they have not been used for minutes.
    """

    def __init__(self, client: Any, user: str, password: str) -> None:
        self._client = client
        self._credentials = {"name": user, "password": password}
        self._token: str | None = None
        self._lock = threading.Lock()

    def __call__(self, request: Any) -> Any:
        """Give a request the token, and see what becomes of it."""
        if self._token is not None:
            request.headers["Authorization"] = self._token
        request.register_hook("response", self._answered)
        return request

    def _answered(self, response: Any, **options: Any) -> Any:
        """Send a request again whose token was unknown, with a new one."""
        if response.status_code not in _REFUSALS or not any(
            each in response.content for each in _UNKNOWN
        ):
            return response
        self.renew(response.request.headers.get("Authorization"))
        response.close()
        again = response.request.copy()
        again.headers["Authorization"] = self._token
        answer = response.connection.send(again, **options)
        answer.history.append(response)
        return answer

    def renew(self, old: str | None) -> None:
        """Have a token made, unless another thread has, that is not ``old``; Etcd3Exception."""
        with self._lock:
            if self._token == old:
                where = self._client.get_url("/auth/authenticate")
                with self._client.session.post(
                    where, json=self._credentials, auth=_nobody, timeout=_PATIENCE
                ) as answer:
                    if answer.status_code != requests.codes.ok:
                        raise Etcd3Exception(answer.text, answer.reason)
                    self._token = answer.json()["token"]

    @property
    def token(self) -> str | None:
        """The token, once there is one."""
        return self._token


def _nobody(request: Any) -> Any:
    """Give a request no token: it asks for one."""
    return request


class _EtcdTree(Tree):
    """Keys of etcd, by way of its JSON gateway; a thread hears what happens below ``news/``.

    The version of a node is that of its key: 0 when it is not there.
    """

    # The server takes 1.5 MB, of base64, and so many operations of a kind.
    most_bytes = 700_000
    most_ops = 120
    has_folders = False
    has_clock = False
    prolongs = False

    def __init__(self, path: str, client: Any, closes: bool) -> None:
        self.path = path
        self.ttl = 0
        self._client = client
        self._closes = closes
        self._changed: Callable[[str | None], None] | None = None
        self._ready = threading.Event()
        self._lease: int | None = None
        # Our keys that end with our lease.
        self._ephemeral: set[str] = set()
        self._heard = threading.Condition()
        self._revision = 0
        self._listener: threading.Thread | None = None
        self._response: Any = None
        self.login: _Login | None = None

    def __str__(self) -> str:
        return str(self._client.base_url)

    @property
    def connected(self) -> bool:
        """Whether the server can be asked at this moment."""
        return self._ready.is_set()

    def open(self, changed: Callable[[str | None], None]) -> None:
        """Connect; see `Tree`."""
        self._changed = changed
        self._lease = None
        self._ephemeral = set()
        (answer,) = self._post_all([("/kv/range", {"key": self._key("meta"), "keys_only": True})])
        self._revision = int(answer["header"]["revision"])
        self.connection += 1
        self._listener = threading.Thread(
            target=self._listen, args=(changed,), name="tocsin-etcd", daemon=True
        )
        self._listener.start()
        self._ready.wait(_PATIENCE)

    def close(self) -> None:
        """Disconnect; see `Tree`."""
        listener, self._listener, self._changed = self._listener, None, None
        lease, self._lease = self._lease, None
        if lease is not None:
            with suppress(Unavailable):
                self._post("/lease/revoke", {"ID": lease})
        self._hang_up()
        if listener is not None:
            listener.join(_PATIENCE)
        self._ready.clear()
        if self._closes:
            self._client.session.close()

    def _hang_up(self) -> None:
        """Have the listener see that it is to end, or to call again."""
        response = self._response
        if response is not None:
            with suppress(Exception):
                response.raw._fp.fp.raw._sock.shutdown(2)

    def wait(self, seconds: float) -> bool:
        """Wait until the server can be asked; see `Tree`."""
        return self._ready.wait(seconds)

    def make_root(self) -> None:
        """There are no folders."""

    def read(self, paths: Sequence[str], watch: bool = False) -> list[Node | None]:
        """Read nodes; see `Tree`."""
        found: list[Node | None] = []
        for start in range(0, len(paths), self.most_ops):
            some = paths[start : start + self.most_ops]
            ranges = [{"request_range": {"key": self._key(path)}} for path in some]
            answer = self._post("/kv/txn", {"success": ranges})
            for each in answer["responses"]:
                pairs = each["response_range"].get("kvs")
                if pairs:
                    data = b64decode(pairs[0].get("value", ""))
                    found.append(Node(data, int(pairs[0]["version"])))
                else:
                    found.append(None)
        return found

    def names(self, paths: Sequence[str], watch: bool = False) -> list[list[str]]:
        """List the names below nodes; see `Tree`."""
        found = []
        for start in range(0, len(paths), self.most_ops):
            some = paths[start : start + self.most_ops]
            ranges = [{"request_range": {**self._below(path), "keys_only": True}} for path in some]
            answer = self._post("/kv/txn", {"success": ranges})
            for path, each in zip(some, answer["responses"], strict=True):
                cut = len(f"{self.path}/{path}/" if path else f"{self.path}/")
                keys = [b64decode(pair["key"]) for pair in each["response_range"].get("kvs", ())]
                found.append([key.decode()[cut:] for key in keys])
        return found

    def commit(self, transactions: Sequence[Sequence[Op]]) -> list[int | None]:
        """Commit transactions; see `Tree`."""
        return [self._commit(ops) for ops in transactions]

    def _commit(self, ops: Sequence[Op]) -> int | None:
        compare, success, failure = [], [], []
        made = set()
        for op in ops:
            key = self._key(op.path)
            there = {"key": key, "target": "VERSION", "result": "GREATER", "version": 0}
            if isinstance(op, (Check, Set)) and op.version is not None:
                there.update(result="EQUAL", version=op.version)
            elif isinstance(op, Create):
                there["result"] = "EQUAL"
            compare.append(there)
            failure.append({"request_range": {"key": key, "keys_only": True}})
            if isinstance(op, Delete):
                self._ephemeral.discard(op.path)
                success.append({"request_delete_range": {"key": key}})
            elif not isinstance(op, Check):
                put = {"key": key, "value": b64encode(op.data).decode()}
                if isinstance(op, Create) and op.ephemeral:
                    put["lease"] = str(self._lease or 0)
                    made.add(op.path)
                success.append({"request_put": put})
        body = {"compare": compare, "success": success, "failure": failure}
        answer = self._post("/kv/txn", body)
        if answer.get("succeeded"):
            self._ephemeral |= made
            return None
        for place, (wanted, each) in enumerate(zip(compare, answer["responses"], strict=True)):
            pairs = each["response_range"].get("kvs")
            version = int(pairs[0]["version"]) if pairs else 0
            equal = version == wanted["version"]
            if equal != (wanted["result"] == "EQUAL"):
                return place
        return 0

    def enter(self, path: str, data: bytes) -> tuple[int | None, bool]:
        """Write an ephemeral node; see `Tree`."""
        if self._lease is not None:
            answer = self._post("/lease/keepalive", {"ID": self._lease})
            if int(answer.get("result", {}).get("TTL", 0)) <= 0:
                self._end_session()
        if self._lease is None:
            self._lease = int(self._post("/lease/grant", {"TTL": self.ttl, "ID": 0})["ID"])
        known = self._commit([Create(path, data, ephemeral=True)]) is not None
        return None, known

    def catch_up(self) -> None:
        """Wait until all news were handed on; see `Tree`."""
        key = self._key("news/mark")
        answer = self._post("/kv/put", {"key": key, "value": ""})
        revision = int(answer["header"]["revision"])
        with self._heard:
            if not self._heard.wait_for(lambda: self._revision >= revision, _PATIENCE):
                raise Unavailable(f"no news of etcd at {self}")

    # News

    def _listen(self, changed: Callable[[str | None], None]) -> None:
        """Hear what happens below ``news/``, without a gap; in a thread of its own."""
        wait = threading.Event()
        failures = 0
        while self._changed is changed:
            try:
                self._hear(changed)
                failures = 0
            except Exception:  # whatever requests, urllib3 and sockets raise when they break
                failures += 1
            self._break(changed)
            wait.wait(min(0.05 * 2 ** min(failures, 5), 1.0))

    def _hear(self, changed: Callable[[str | None], None]) -> None:
        token = None if self.login is None else self.login.token
        request = {**self._below("news"), "start_revision": str(self._revision + 1)}
        # Nothing may be said for long. That the server is gone is seen by what it is asked.
        with self._client.session.post(
            self._client.get_url("/watch"),
            json={"create_request": request},
            stream=True,
            timeout=(_PATIENCE, None),
        ) as response:
            self._response = response
            for line in response.iter_lines(chunk_size=None):
                if self._changed is not changed:
                    return
                told = json.loads(line)["result"] if line.strip() else {}
                if told.get("canceled") and not told.get("compact_revision"):
                    # A watch is not refused with a status, as other requests are.
                    if self.login is not None:
                        self.login.renew(token)
                    raise Unavailable(f"etcd at {self}: {told.get('cancel_reason')}")
                if told.get("created") and not self._ready.is_set():
                    self._ready.set()
                    changed(None)
                if told.get("compact_revision"):
                    # What we have missed is gone; all is looked at anew.
                    self._revision = int(told["header"]["revision"])
                    return
                for event in told.get("events", ()):
                    self._tell(event, changed)
                if told.get("events"):
                    with self._heard:
                        self._revision = int(told["header"]["revision"])
                        self._heard.notify_all()

    def _tell(self, event: Any, changed: Callable[[str | None], None]) -> None:
        key = b64decode(event["kv"]["key"]).decode()
        path = key[len(self.path) + 1 :]
        gone = event.get("type") == "DELETE"
        if gone and path in self._ephemeral:
            self._end_session()
            changed(None)
        _, kind, *_ = path.split("/")
        if kind in ("members", "leaders"):
            if gone or event["kv"].get("version") == "1":
                changed(f"news/{kind}")
        elif gone if kind == "owners" else kind == "inboxes":
            changed(path)

    def _end_session(self) -> None:
        self._lease = None
        self._ephemeral = set()
        self.session += 1

    def _break(self, changed: Callable[[str | None], None]) -> None:
        """Take note that the connection has broken."""
        self.connection += 1
        if self._ready.is_set():
            self._ready.clear()
            if self._changed is changed:
                changed(None)

    # Requests

    def _key(self, path: str) -> str:
        return b64encode(f"{self.path}/{path}".encode()).decode()

    def _below(self, path: str) -> dict[str, str]:
        prefix = f"{self.path}/{path}/" if path else f"{self.path}/"
        end = prefix[:-1] + "0"  # what comes after a slash
        return {
            "key": b64encode(prefix.encode()).decode(),
            "range_end": b64encode(end.encode()).decode(),
        }

    def _post(self, where: str, body: Any) -> Any:
        if not self._ready.is_set() and self._listener is not None:
            self._ready.wait(0.2)  # the listener may be about to hear again
        return self._post_all([(where, body)])[0]

    def _post_all(self, asked: Sequence[tuple[str, Any]]) -> list[Any]:
        answers = []
        for where, body in asked:
            try:
                answers.append(self._client.post(self._client.get_url(where), json=body))
            except (Etcd3Exception, requests.exceptions.RequestException, ValueError) as error:
                self.connection += 1
                self._ready.clear()
                self._hang_up()
                why = f"{type(error).__name__} {error} {getattr(error, 'detail_text', None) or ''}"
                raise Unavailable(f"etcd at {self} did not answer: {why}") from error
        return answers
