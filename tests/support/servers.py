"""Real servers for the tests, each a private one on loopback, on ports of its own.

    with PostgreSQL(tmp_path / "postgresql") as server:
        create_engine(server.url)

A server is ready when `start` returns. It keeps its data and its ports when it is stopped, killed
and started again; leaving the ``with`` block ends it. It never outlives the process that made it.
Tests that only need some server use the fixtures of ``tests/conftest.py``, which share one of each
kind for the whole run; those must not be stopped, killed or paused.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pwd
import random
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from base64 import b64encode
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import psutil

if TYPE_CHECKING:
    from typing_extensions import Self

HOST = "127.0.0.1"
_PATIENCE = 60.0  # seconds; servers take one or two, on a busy machine many more


class ServerMissing(Exception):
    """The program of a server is not installed; the message says how to install it."""


class Port:
    """A free TCP port of loopback, kept free until it is released or this process ends.

    A UDP socket of the same number keeps it, also while the server is down. The number is not one
    that the system gives to outgoing connections: one could take the server's place, or even
    connect to itself.
    """

    def __init__(self) -> None:
        while True:
            self._keeper = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.number = random.randint(15000, 32000)
            try:
                self._keeper.bind((HOST, self.number))
                with socket.socket() as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind((HOST, self.number))
            except OSError:
                self._keeper.close()
            else:
                break

    def release(self) -> None:
        self._keeper.close()


def find_program(name: str, *folders: str | Path) -> str | None:
    """Give the path of a program in these folders or on the PATH."""
    path = os.pathsep.join([*map(str, folders), os.environ.get("PATH", ""), "/usr/sbin"])
    return shutil.which(name, path=path)


class Server:
    """A server process. Subclasses say its command and how to ask whether it is ready.

    Settings are cheap unless ``durable``: data survive SIGKILL of the server, but not a crash of
    the machine. ``owner`` is the process whose end ends the server, by default this one.
    """

    programs: ClassVar[tuple[str, ...]]  # the server, and what it needs
    packages: ClassVar[tuple[str, ...]] = ()  # of Debian
    ports_needed: ClassVar[int] = 1

    def __init__(self, folder: Path, *, durable: bool = False, owner: int | None = None) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.log = folder / "log"
        self.durable = durable
        self.pid = 0
        self._owner = owner or os.getpid()
        self._reserved: list[Port] = []
        folder.mkdir(parents=True, exist_ok=True)
        try:
            self.ports = [int(word) for word in (folder / "ports").read_text().split()]
        except FileNotFoundError:
            self._reserved = [Port() for _ in range(self.ports_needed)]
            self.ports = [port.number for port in self._reserved]
            (folder / "ports").write_text(" ".join(map(str, self.ports)))

    @property
    def port(self) -> int:
        return self.ports[0]

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def url(self) -> str:
        """What a client connects to."""
        raise NotImplementedError

    @classmethod
    def find(cls) -> str:
        """Give the path of the program."""
        paths = [find_program(name, *cls.folders()) for name in cls.programs]
        for name, path in zip(cls.programs, paths, strict=True):
            if path is None:
                raise cls.missing(name)
        return str(paths[0])

    @classmethod
    def missing(cls, what: str) -> ServerMissing:
        """Give the error that says how to install what was not found."""
        others = f", or install the Debian packages {' '.join(cls.packages)}" * bool(cls.packages)
        return ServerMissing(
            f"{cls.__name__} is not installed: there is no {what}; run `make services`{others}"
        )

    @classmethod
    def folders(cls) -> list[Path]:
        """List where the program may be besides the PATH."""
        return []

    def prepare(self) -> None:
        """Make the data folder."""
        self.data.mkdir()

    def command(self) -> list[str]:
        """Give the command line of the server, which must stay in the foreground."""
        raise NotImplementedError

    def check(self) -> None:
        """Ask the server something; raise when it does not answer."""
        raise NotImplementedError

    def start(self) -> Self:
        """Start the server, for the first time or on its old data, and wait until it is ready."""
        self.launch()
        self.wait_ready()
        return self

    def launch(self) -> None:
        """Start the server and do not wait until it is ready."""
        if self.is_running():
            raise RuntimeError(f"{type(self).__name__} is running already, as process {self.pid}")
        if not self.data.exists():
            try:
                self.prepare()
            except BaseException:
                shutil.rmtree(self.data, ignore_errors=True)
                raise
        with self.log.open("ab") as log:
            keeper = subprocess.run(
                [sys.executable, "-I", _KEEPER, str(self._owner), str(self.data), *self.command()],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.pid = int(keeper.stdout or 0)
        (self.folder / "pid").write_text(str(self.pid))

    def wait_ready(self, patience: float = _PATIENCE) -> None:
        """Ask the server until it answers; raise with the end of its log when it does not."""
        deadline = time.monotonic() + patience
        while True:
            try:
                self.check()
            except Exception as error:
                if self.is_running() and time.monotonic() < deadline:
                    time.sleep(0.01)
                    continue
                ended = "did not answer in time" if self.is_running() else "ended"
                log = self.log.read_text(errors="replace")[-3000:]
                raise RuntimeError(
                    f"{type(self).__name__} {ended}: {error!r}; its log:\n{log}"
                ) from error
            return

    def attach(self) -> None:
        """Take over the server that another process started in this folder."""
        self.pid = int((self.folder / "pid").read_text())

    def detach(self) -> None:
        """Leave the server running, and its ports to it, until its owner ends."""
        for port in self._reserved:
            port.release()

    def is_running(self) -> bool:
        return self.pid != 0 and _alive(self.pid)

    def stop(self) -> None:
        """End the server in an orderly way."""
        self._end(self.stop_signal)

    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def kill(self) -> None:
        """End all processes of the server at once, without a warning."""
        self._end(signal.SIGKILL)

    def restart(self) -> Self:
        """Stop the server and start it again on its data."""
        self.stop()
        return self.start()

    def pause(self) -> None:
        """Stop all processes of the server with SIGSTOP: its connections stay, and are silent."""
        for process in self._freeze()[1:]:
            _suspend(process)

    def resume(self) -> None:
        """Let the processes of a paused server go on."""
        for process in _tree(self.pid):
            process.resume()

    def close(self) -> None:
        """End the server, release its ports and delete its data."""
        self.kill()
        self.detach()
        shutil.rmtree(self.data, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            return self if self.is_running() else self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()

    def _freeze(self) -> list[psutil.Process]:
        """Stop the first process, so that it makes no more, and list all."""
        for first in _tree(self.pid)[:1]:
            _suspend(first)
        return _tree(self.pid)

    def _end(self, number: signal.Signals) -> None:
        if self.is_running():
            if number is signal.SIGKILL:
                processes = self._freeze()
                for process in processes:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        process.kill()
            else:
                processes = _tree(self.pid)
                os.kill(self.pid, number)
            deadline = time.monotonic() + _PATIENCE
            for process in processes:
                _wait_ended(process.pid, deadline)


_KEEPER = str(Path(__file__).with_name("keeper.py"))


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _tree(pid: int) -> list[psutil.Process]:
    try:
        first = psutil.Process(pid)
        return [first, *first.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _suspend(process: psutil.Process) -> None:
    """Stop a process, and wait until it has stopped or is gone."""
    deadline = time.monotonic() + _PATIENCE
    with contextlib.suppress(psutil.NoSuchProcess):
        process.suspend()
        while process.status() not in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE):
            if time.monotonic() > deadline:
                raise TimeoutError(f"process {process.pid} of a server does not stop")
            time.sleep(0.001)


def _wait_ended(pid: int, deadline: float) -> None:
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if not select.select([handle], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise TimeoutError(f"process {pid} of a server does not end")
    finally:
        os.close(handle)


class PostgreSQL(Server):
    programs = ("postgres",)
    packages = ("postgresql",)
    stop_signal = signal.SIGINT  # fast: do not wait until the clients have gone

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://postgres@{self.address}/postgres"

    @classmethod
    def folders(cls) -> list[Path]:
        versions = Path("/usr/lib/postgresql").glob("*/bin")
        return sorted(versions, key=lambda folder: float(folder.parent.name), reverse=True)

    def prepare(self) -> None:
        self.data.mkdir(mode=0o700)
        if os.geteuid() == 0:
            shutil.chown(self.data, "postgres", "postgres")
        initdb = str(Path(self.find()).resolve().with_name("initdb"))
        _run(
            [
                *(*self._user(), initdb, "-D", str(self.data), "-A", "trust", "-U", "postgres"),
                *("-E", "UTF8", "--locale=C.UTF-8", "--no-sync"),
            ],
            self.log,
        )

    def command(self) -> list[str]:
        settings = {
            "listen_addresses": HOST,
            "unix_socket_directories": "",
            "max_connections": "300",
            "shared_buffers": "64MB",
        }
        if not self.durable:
            settings |= {"fsync": "off", "full_page_writes": "off"}
        options = [word for item in settings.items() for word in ("-c", "=".join(item))]
        postgres = [self.find(), "-D", str(self.data), "-p", str(self.port)]
        return [*self._user(), *postgres, *options]

    def check(self) -> None:
        import psycopg

        with psycopg.connect(
            host=HOST, port=self.port, user="postgres", dbname="postgres", connect_timeout=5
        ) as connection:
            connection.execute("SELECT 1")

    @staticmethod
    def _user() -> list[str]:
        """Give up root, which PostgreSQL refuses, but for the right to enter root's folders."""
        if os.geteuid() != 0:
            return []
        user = pwd.getpwnam("postgres")
        capability = "+dac_override"
        return [
            *("setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"),
            *(f"--inh-caps={capability}", f"--ambient-caps={capability}", "--"),
        ]


def _run(command: list[str], log: Path) -> None:
    with log.open("ab") as output:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    if done.returncode:
        text = log.read_text(errors="replace")[-3000:]
        raise RuntimeError(f"{command} ended with {done.returncode}:\n{text}")


class MariaDB(Server):
    programs = ("mariadbd", "mariadb-install-db", "my_print_defaults")
    packages = ("mariadb-server-core", "mariadb-client-core")

    @property
    def url(self) -> str:
        return f"mysql+pymysql://root@{self.address}/tocsin?charset=utf8mb4"

    def prepare(self) -> None:
        _run(
            [
                *("mariadb-install-db", "--no-defaults", f"--datadir={self.data}", *self._user()),
                *("--auth-root-authentication-method=normal", "--skip-name-resolve"),
                *("--skip-test-db", "--innodb-flush-method=nosync", "--innodb-log-file-size=16M"),
            ],
            self.log,
        )

    def command(self) -> list[str]:
        cheap = ["--innodb-flush-log-at-trx-commit=2", "--innodb-log-file-size=16M"]
        return [
            *(self.find(), "--no-defaults", *self._user()),
            *(f"--datadir={self.data}", f"--port={self.port}", f"--bind-address={HOST}"),
            *(f"--socket={self.data}/socket", f"--pid-file={self.data}/pid"),
            *("--skip-name-resolve", "--max-connections=300", "--performance-schema=off"),
            *([] if self.durable else cheap),
        ]

    def check(self) -> None:
        import pymysql

        with pymysql.connect(
            host=HOST, port=self.port, user="root", connect_timeout=5
        ) as connection:
            connection.cursor().execute("CREATE DATABASE IF NOT EXISTS tocsin")

    @staticmethod
    def _user() -> list[str]:
        return ["--user=root"] if os.geteuid() == 0 else []


class Redis(Server):
    programs = ("redis-server",)
    packages = ("redis-server",)

    @property
    def url(self) -> str:
        return f"redis://{self.address}/0"

    def command(self) -> list[str]:
        return [
            *(self.find(), "--port", str(self.port), "--bind", HOST, "--dir", str(self.data)),
            *("--save", "", "--appendonly", "yes"),
            *("--appendfsync", "always" if self.durable else "no"),
        ]

    def check(self) -> None:
        import redis

        with redis.Redis(host=HOST, port=self.port, socket_timeout=5) as client:
            client.ping()


class ZooKeeper(Server):
    """A ZooKeeper: alone, or a member of a `ZooKeeperEnsemble`.

    Ticks are short, so that sessions may be: from 1 s.
    """

    programs = ("java",)
    packages = ("libzookeeper-java", "default-jre-headless")
    ports_needed = 3
    jar = Path("/usr/share/java/zookeeper.jar")

    #: The ports of all members, when there are several, and which of them this is.
    members: tuple[tuple[int, ...], ...] = ()
    number = 1

    @property
    def url(self) -> str:
        return self.address

    @classmethod
    def find(cls) -> str:
        if not cls.jar.exists():
            raise cls.missing(str(cls.jar))
        return super().find()

    def prepare(self) -> None:
        self.data.mkdir()
        if self.members:
            (self.data / "myid").write_text(str(self.number))
        members = (
            f"server.{number}={HOST}:{peer}:{election}\n"
            for number, (_, peer, election) in enumerate(self.members, 1)
        )
        (self.folder / "zoo.cfg").write_text(
            f"""\
tickTime=500
initLimit=10
syncLimit=4
minSessionTimeout=1000
maxSessionTimeout=60000
dataDir={self.data}
clientPort={self.port}
clientPortAddress={HOST}
maxClientCnxns=0
admin.enableServer=false
4lw.commands.whitelist=*
{"".join(members)}"""
        )

    def command(self) -> list[str]:
        return [
            *(self.find(), "-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"),
            "-Dzookeeper.preAllocSize=4096",
            f"-Dzookeeper.forceSync={'yes' if self.durable else 'no'}",
            *("-cp", str(self.jar), "org.apache.zookeeper.server.quorum.QuorumPeerMain"),
            str(self.folder / "zoo.cfg"),
        ]

    def check(self) -> None:
        if not self.mode():
            raise ConnectionError("it has no mode yet")

    def mode(self) -> str:
        """Give what the server is: "standalone", "leader", "follower"; "" when without a quorum."""
        for line in self.ask("srvr").splitlines():
            if line.startswith("Mode: "):
                return line.removeprefix("Mode: ")
        return ""

    def ask(self, word: str) -> str:
        """Give the answer to one of ZooKeeper's four letter words."""
        with socket.create_connection((HOST, self.port), timeout=1) as connection:
            connection.sendall(word.encode())
            with connection.makefile() as answer:
                return answer.read()


class ZooKeeperEnsemble:
    """Three ZooKeepers that elect a leader. `members` are servers that can be killed each."""

    def __init__(self, folder: Path, *, durable: bool = False, owner: int | None = None) -> None:
        self.members = [
            ZooKeeper(folder / str(number), durable=durable, owner=owner) for number in (1, 2, 3)
        ]
        ports = tuple(tuple(member.ports) for member in self.members)
        for number, member in enumerate(self.members, 1):
            member.members = ports
            member.number = number

    @classmethod
    def find(cls) -> str:
        return ZooKeeper.find()

    @property
    def url(self) -> str:
        return ",".join(member.url for member in self.members)

    def start(self) -> Self:
        """Start the members that do not run, and wait until all follow a leader."""
        for member in self.members:
            if not member.is_running():
                member.launch()
        for member in self.members:
            member.wait_ready()
        return self

    def attach(self) -> None:
        for member in self.members:
            member.attach()

    def detach(self) -> None:
        for member in self.members:
            member.detach()

    def leader(self) -> ZooKeeper:
        """Give the member that leads, as soon as there is one."""
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            for member in self.members:
                with contextlib.suppress(OSError):
                    if member.is_running() and member.mode() == "leader":
                        return member
            time.sleep(0.01)
        raise TimeoutError("no ZooKeeper leads")

    def close(self) -> None:
        for member in self.members:
            member.close()

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()


class Etcd(Server):
    programs = ("etcd",)
    packages = ("etcd-server",)
    ports_needed = 2

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def command(self) -> list[str]:
        peer = f"http://{HOST}:{self.ports[1]}"
        return [
            *(self.find(), "--name", "tests", "--data-dir", str(self.data)),
            *("--listen-client-urls", self.url, "--advertise-client-urls", self.url),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
            *("--initial-cluster", f"tests={peer}", "--logger", "zap", "--log-level", "warn"),
        ]

    def prepare(self) -> None:
        self.data.mkdir(mode=0o700)

    def check(self) -> None:
        with urllib.request.urlopen(f"{self.url}/health", timeout=5) as answer:  # noqa: S310
            if b'"true"' not in answer.read():
                raise ConnectionError("it has no leader yet")


class EtcdWithUsers(Etcd):
    """An etcd that asks for users: "root", and "shop", who has what is below /shop/."""

    passwords: ClassVar = {"root": "xyzzy-root", "shop": "xyzzy-shop"}

    def start(self) -> Self:
        new = not self.data.exists()
        super().start()
        if new:
            for user, password in self.passwords.items():
                self._ask("user/add", name=user, password=password)
                self._ask("role/add", name=user)
                self._ask("user/grant", user=user, role=user)
            low, high = (b64encode(key).decode() for key in (b"/shop/", b"/shop0"))
            keys = {"permType": "READWRITE", "key": low, "range_end": high}
            self._ask("role/grant", name="shop", perm=keys)
            self._ask("enable")
        return self

    def _ask(self, where: str, **body: Any) -> None:
        request = urllib.request.Request(  # noqa: S310
            f"{self.url}/v3/auth/{where}", json.dumps(body).encode(), method="POST"
        )
        urllib.request.urlopen(request, timeout=5).close()  # noqa: S310


class _MongoDB(Server):
    @property
    def url(self) -> str:
        return f"mongodb://{self.address}/"

    @classmethod
    def folders(cls) -> list[Path]:
        return [Path(f"{sys.prefix}-{cls.__name__.lower()}", "bin")]

    def check(self) -> None:
        import pymongo

        with pymongo.MongoClient(
            HOST, self.port, directConnection=True, serverSelectionTimeoutMS=1000
        ) as client:
            client.admin.command("ping")


class SecantusDB(_MongoDB):
    """A server with MongoDB's protocol, over WiredTiger.

    It is under the GPL: a process of its own, in a virtual environment of its own, never imported.
    It says that it is a replica set, and its address; behind a `Proxy` a client needs
    ``directConnection=true``. Unless ``durable``, SIGKILL may lose the last writes.
    """

    programs = ("secantusd-py",)

    def command(self) -> list[str]:
        options = ["--sync-on-commit"] if self.durable else []
        return [
            *(self.find(), "--host", HOST, "--port", str(self.port)),
            *("--storage-path", str(self.data), "--log-level", "WARNING"),
            *("--cache-size", "128M", "--enable-test-commands", *options),
        ]


class NX27017(_MongoDB):
    """A server with MongoDB's protocol, over SQLite: no updates by pipelines, no replica set."""

    programs = ("nx-27017",)

    def command(self) -> list[str]:
        return [
            *(self.find(), "--host", HOST, "--port", str(self.port)),
            *("--data-dir", str(self.data)),
            *("--log-file", str(self.log), "--pid-file", str(self.folder / "own-pid")),
        ]


def missing_packages() -> list[str]:
    """List the Debian packages of the servers that are not installed."""
    packages: list[str] = []
    for kind in (PostgreSQL, MariaDB, Redis, ZooKeeper, Etcd):
        try:
            kind.find()
        except ServerMissing:
            packages += kind.packages
    return packages


class Proxy:
    """A TCP proxy before a server of loopback, whose connections can be held and cut.

    It has a port of its own, which it keeps, and runs in a thread of its own.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._reserved = Port()
        self.port = self._reserved.number
        self.address = f"{HOST}:{self.port}"
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._flowing = asyncio.Event()
        self._listener: asyncio.Server | None = None

    def hold(self) -> None:
        """Let no byte pass, in either direction: connections stay open, and silent."""
        self._call(self._hold())

    def cut(self) -> None:
        """Reset all connections, and refuse new ones."""
        self._call(self._cut())

    def resume(self) -> None:
        """Let held bytes pass, and accept connections again."""
        self._call(self._resume())

    def __enter__(self) -> Self:
        self._thread.start()
        self.resume()
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._reserved.release()

    def _call(self, work: Coroutine[None, None, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(_PATIENCE)

    async def _hold(self) -> None:
        self._flowing.clear()

    async def _cut(self) -> None:
        if self._listener is not None:
            # What is being accepted when a server of asyncio is closed is never closed itself:
            # accept no more, and let the rest come to `_accept`, which takes some turns.
            for listening in self._listener.sockets:
                self._loop.remove_reader(listening.fileno())
            for _ in range(3):
                await asyncio.sleep(0)
            self._listener.close()
            self._listener = None
        for writer in self._writers:
            peer = writer.get_extra_info("socket")
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _resume(self) -> None:
        self._flowing.set()
        if self._listener is None:
            self._listener = await asyncio.start_server(self._accept, HOST, self.port)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Here, for a task that is cancelled before it begins does nothing.
        self._writers.add(writer)
        task = self._loop.create_task(self._carry(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: self._writers.discard(writer))

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry the bytes of a connection, until both sides have ended it or one has failed."""
        writers = {writer}
        pumps: list[asyncio.Task[None]] = []
        try:
            await self._flowing.wait()
            there, back = await asyncio.open_connection(HOST, self._target)
            writers.add(back)
            self._writers.add(back)
            for source, sink in ((reader, back), (there, writer)):
                pumps.append(self._loop.create_task(self._pump(source, sink)))
            await asyncio.gather(*pumps)
        except OSError:
            pass
        finally:
            for pump in pumps:
                pump.cancel()
            for each in writers:
                each.close()
            self._writers -= writers

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while True:
            data = await source.read(65536)
            await self._flowing.wait()
            if not data:
                sink.write_eof()
                return
            sink.write(data)
            await sink.drain()
