"""How a persistent store writes its jobs down, and what it takes back: ``docs/records.md``."""

from __future__ import annotations

import hmac
import io
import json
import marshal
import os
import pickle
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from types import FunctionType
from typing import Any

from tocsin.callables import Restricted, ref_to_obj
from tocsin.compact import encode
from tocsin.job import Job, Rules
from tocsin.parts import Parts
from tocsin.records import Form, checked_reference, from_record, path_of, record_text
from tocsin.triggers.base import BaseTrigger, Trigger
from tocsin.triggers.limits import check_limits
from tocsin.values import PICKLE, STANDARD, Values, checked, shown

__all__ = ["Codec"]

#: The default of the longest text, in bytes of UTF-8. Eight of them fit into ZooKeeper's limit
#: of what one request may hold, and MongoDB's of a document is far away.
LARGEST = 512 * 1024
#: The longest text of a trigger. The longest expression that says something is a tenth of it.
LARGEST_TRIGGER = 16 * 1024
#: So many triggers, and rules of jobs, are kept as text, and so many texts as triggers.
MOST_TRIGGERS = 1024
#: The fewest bytes of a key.
SHORTEST_KEY = 16

_decode = json.JSONDecoder().decode
_SIGNED = ("$", "key", "mac", "value")


class Codec(Form):
    """Turns jobs into text and back; the options are those of every persistent store.

    The text is the job's record as compact JSON, without ``next_run``: stores keep that beside
    it, with an index. Reading a text imports and calls nothing, but for pickles whose signature
    is right. Triggers are values: the same text gives the same object, as long as it is cached.

    ``allowed_modules`` are the modules that callables may come from, with their submodules, as
    an iterable or separated by commas; None for any. ``value_codecs`` has, by type, a tag and
    the functions that turn a value into one that records can hold and back; or it is the
    reference of such a mapping. ``pickle_key`` has arguments pickled that records can't hold
    otherwise: a key, or several of which the first signs and all verify. A key is at least 16
    bytes or characters, or a text ``env:NAME`` or ``file:PATH`` that says where it is.
    ``max_bytes`` is the size of the longest record.

    Raises ValueError and TypeError that name the option, LookupError for a reference that leads
    nowhere, OSError for a file that can't be read. Safe to use from any thread.
    """

    def __init__(
        self,
        *,
        allowed_modules: Iterable[str] | str | None = None,
        value_codecs: ValueCodecs | str | None = None,
        pickle_key: bytes | str | Iterable[bytes | str] | None = None,
        max_bytes: int = LARGEST,
    ) -> None:
        super().__init__(
            Values(
                STANDARD,
                "give the store a codec for its type (value_codecs), or a pickle_key, with which it"
                " is pickled and signed",
            )
        )
        codecs = ref_to_obj(value_codecs) if isinstance(value_codecs, str) else value_codecs
        for kind, (tag, write, read) in (codecs or {}).items():
            self.values.register(tag, kind, write, read)
        self._allowed = None if allowed_modules is None else _modules(allowed_modules)
        self._keys = {} if pickle_key is None else _keys(pickle_key)
        if isinstance(max_bytes, bool) or not isinstance(max_bytes, int) or max_bytes < 1024:
            raise ValueError(f"max_bytes: a number of bytes from 1024 on is needed: {max_bytes!r}")
        self._largest = max_bytes
        # What jobs have in common, by identity or likeness, each with the object, which so keeps
        # its identity.
        self._texts: dict[Any, tuple[object, str]] = {}
        self._triggers = lru_cache(MOST_TRIGGERS)(self._thawed)
        self._references = lru_cache(MOST_TRIGGERS)(self._restricted)
        self._parts = Parts(self)

    def __repr__(self) -> str:
        allowed = None if self._allowed is None else sorted(self._allowed)
        return f"<Codec allowed_modules={allowed} pickle_keys={len(self._keys)}>"

    def dumps(self, job: Job) -> str:
        """Write a job down, in time linear in the size of its arguments.

        Raises ValueError that names what has no record and what to do about it: an argument, by
        its path, the callable, the trigger, the size.
        """
        text = record_text(job, self)
        self._check_size(text)
        return text

    def loads(self, text: str | bytes, next_run: int | None) -> Job:
        """Make the job of a text, without a scheduler.

        Raises ValueError that names the fault, whatever the text holds.
        """
        if not isinstance(text, (str, bytes)):
            raise ValueError(f"a record is a text, not {shown(text)}")
        self._check_size(text)
        try:
            decoded = text if isinstance(text, str) else text.decode()
        except ValueError as error:
            raise _no_json(error) from error
        job = self._parts.read(decoded, next_run)
        if job is not None:
            return job
        try:
            record = _decode(decoded)
        except ValueError as error:
            raise _no_json(error) from error
        except RecursionError:
            raise ValueError("the record is no JSON that we read: nested too deeply") from None
        if type(record) is dict:
            if "next_run" in record:
                raise ValueError("'next_run': unknown in the record of a store, which has it apart")
            record["next_run"] = next_run
        return from_record(record, self)

    def check_callable(self, reference: str) -> None:
        """Refuse with ValueError the callable of a module that is not allowed; imports nothing."""
        self.read_callable(reference)

    def resolve(self, reference: str) -> Any:
        """Import the callable of a reference.

        Raises ValueError for one that is not allowed or reaches through an allowed module into
        another one, LookupError for one that leads nowhere.
        """
        return ref_to_obj(self.read_callable(reference))

    def write_callable(self, func: Any) -> str:
        """Give the reference of a callable, of which the whole has to be allowed."""
        reference = super().write_callable(func)
        if self._allowed is not None:
            restricted = self._references(reference)
            if not isinstance(func, str):
                restricted.check(getattr(func, "__module__", None))
        return reference

    def read_callable(self, reference: str) -> str:
        """Check a reference, and have it be checked again when it is imported."""
        return self._references(reference) if self._allowed else checked_reference(reference)

    def write_argument(self, job_id: str, name: int | str, value: Any) -> Any:
        """Turn an argument into what JSON has, or all of it into a signed pickle."""
        try:
            return super().write_argument(job_id, name, value)
        except ValueError:
            if not self._keys:
                raise
        try:
            file = io.BytesIO()
            _Pickler(file, protocol=5).dump(value)
        except Exception as error:  # whatever an object says
            path = path_of(name)
            raise ValueError(f"{path}: {shown(value)} can't be pickled: {error}") from error
        data = file.getvalue()
        key_id, key = next(iter(self._keys.items()))
        return {
            "$": PICKLE,
            "key": key_id,
            "mac": _signature(key, job_id, name, data).hex(),
            "value": b64encode(data).decode(),
        }

    def read_argument(self, job_id: str, name: int | str, value: Any) -> Any:
        """Turn back what `write_argument` made; a pickle after its signature was found right."""
        if type(value) is not dict or value.get("$") != PICKLE:
            return super().read_argument(job_id, name, value)
        path = path_of(name)
        if not self._keys:
            raise ValueError(
                f"{path}: a pickle, which can run any code: it is read only by a store that was"
                " given the pickle_key that signed it"
            )
        if value.keys() != set(_SIGNED):
            raise ValueError(f"{path}: a signed pickle has the members {', '.join(_SIGNED)}")
        key = self._keys.get(checked(value["key"], str, f"{path}: key"))
        if key is None:
            raise ValueError(
                f"{path}: a pickle signed with the key {shown(value['key'])}, which is none of"
                f" this store's pickle_key: {', '.join(self._keys)}"
            )
        try:
            data = b64decode(checked(value["value"], str, "value"), validate=True)
            signature = bytes.fromhex(checked(value["mac"], str, "mac"))
        except ValueError as error:
            raise ValueError(f"{path}: a malformed signed pickle: {error}") from error
        if not hmac.compare_digest(signature, _signature(key, job_id, name, data)):
            raise ValueError(
                f"{path}: the signature of the pickle is wrong; it was not unpickled. It holds"
                " for one argument of one job: whatever changed these has to write them anew"
            )
        try:
            return pickle.loads(data)  # noqa: S301 # signed
        except Exception as error:
            reason = f"{type(error).__name__}: {str(error)[:200]}"
            raise ValueError(f"{path}: the pickle can't be restored: {reason}") from error

    def write_trigger(self, trigger: BaseTrigger) -> dict[str, Any]:
        """Give the record of a trigger, unless that is too long, or the trigger makes much work."""
        record = super().write_trigger(trigger)
        _short_text(record)
        _check_work(trigger)
        return record

    def read_trigger(self, record: Any) -> Trigger:
        """Make the trigger of a record, or give one that was made of the same."""
        try:
            frozen = marshal.dumps(record, 2)
        except ValueError:
            raise ValueError("trigger: nested too deeply") from None
        return self._triggers(frozen)

    def _thawed(self, frozen: bytes) -> Trigger:
        record = marshal.loads(frozen)  # noqa: S302 # what `read_trigger` has frozen
        _short_text(record)  # first, for what is parsed takes time
        trigger = super().read_trigger(record)
        _check_work(trigger)
        return trigger

    def trigger_text(self, trigger: BaseTrigger) -> str:
        """Give the text of a trigger, which is made once while it is cached."""
        likeness = trigger._likeness()
        known = self._texts.get(likeness)
        if known is not None:
            return known[1]
        text = _short_text(super().write_trigger(trigger))
        _check_work(trigger)
        self._keep_text(likeness, trigger, text)
        return text

    def rules_text(self, rules: Rules) -> str:
        """Give the text of rules, which is made once while it is cached."""
        known = self._texts.get(id(rules))
        if known is not None:
            return known[1]
        text = super().rules_text(rules)
        self._keep_text(id(rules), rules, text)
        return text

    def _keep_text(self, likeness: Any, shared: object, text: str) -> None:
        if len(self._texts) >= MOST_TRIGGERS:
            self._texts.clear()
        self._texts[likeness] = (shared, text)

    def _restricted(self, reference: str) -> Restricted:
        return Restricted(checked_reference(reference), self._allowed or frozenset())

    def _check_size(self, text: str | bytes) -> None:
        size = len(text)
        if isinstance(text, str) and size <= self._largest < 4 * size and not text.isascii():
            size = len(text.encode(errors="surrogatepass"))
        if size > self._largest:
            raise ValueError(
                f"the record is {size:,} bytes long, at most {self._largest:,} may be; give the"
                " job the key of its data as an argument instead of the data, or raise max_bytes"
            )


def _no_json(error: ValueError) -> ValueError:
    return ValueError(f"the record is no JSON: {str(error)[:200]}")


def _short_text(record: object) -> str:
    """Write the record of a trigger, unless that is too long."""
    try:
        text = encode(record)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"trigger: {shown(record)} is no JSON value: {error}") from None
    if len(text) > LARGEST_TRIGGER:
        raise ValueError(
            f"trigger: its record is {len(text):,} characters long, at most {LARGEST_TRIGGER:,}"
            " may be; make several jobs of it"
        )
    return text


def _check_work(trigger: BaseTrigger) -> None:
    try:
        check_limits(trigger)
    except ValueError as error:
        raise ValueError(f"trigger: {error}") from error


class _Pickler(pickle.Pickler):
    """Refuses what another process can't find again."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, (type, FunctionType)) and obj.__module__ == "__main__":
            raise ValueError(
                f"{obj.__qualname__} belongs to the program that happens to run, and another one"
                " can't find it; move it to a module"
            )
        return NotImplemented


def _modules(names: Iterable[str] | str) -> frozenset[str]:
    parts = names.split(",") if isinstance(names, str) else names
    modules = frozenset(part.strip() for part in parts)
    for module in modules:
        if not all(part.isidentifier() for part in module.split(".")):
            raise ValueError(
                f"allowed_modules: {module!r} is no name of a module; names such as 'shop' or"
                " 'shop.jobs' are needed, or None to allow all"
            )
    if not modules:
        raise ValueError("allowed_modules: no module is named; give None to allow all")
    return modules


def _keys(given: bytes | str | Iterable[bytes | str]) -> dict[str, hmac.HMAC]:
    """Read keys; what holds one now shows it in no repr and no traceback."""
    if isinstance(given, str) and given.startswith(("env:", "file:")):
        given = [part.strip() for part in given.split(",")]
    keys = {}
    for each in [given] if isinstance(given, (bytes, str)) else given:
        secret = _secret(each)
        if len(secret) < SHORTEST_KEY:
            raise ValueError(
                f"pickle_key: a key is shorter than {SHORTEST_KEY} bytes; make one with"
                " secrets.token_hex(32)"
            )
        key = hmac.new(secret, digestmod="sha256")
        keys[_digest(key, b"the name of this key")[:4].hex()] = key
    if not keys:
        raise ValueError("pickle_key: no key is given; give None for no pickles")
    return keys


def _secret(given: object) -> bytes:
    if isinstance(given, bytes):
        return given
    if not isinstance(given, str):
        raise TypeError(f"pickle_key: bytes or a text is needed, not {type(given).__name__}")
    place, _, name = given.partition(":")
    if place == "env":
        if not os.environ.get(name):
            raise ValueError(f"pickle_key: the environment variable {name!r} is not set")
        return os.environ[name].encode(errors="surrogateescape")
    return Path(name).read_bytes().strip() if place == "file" else given.encode()


def _signature(key: hmac.HMAC, job_id: str, name: int | str, data: bytes) -> bytes:
    """Sign a pickle for one argument of one job: JSON has no zero byte, so nothing is moved."""
    return _digest(key, json.dumps([job_id, name]).encode() + b"\0" + data)


def _digest(key: hmac.HMAC, message: bytes) -> bytes:
    mac = key.copy()
    mac.update(message)
    return mac.digest()


#: By type: the tag, and the functions that turn a value into one that records can hold, and back.
ValueCodecs = Mapping[type, "tuple[str, Callable[[Any], Any], Callable[[Any], Any]]"]
