"""Read crontab files, with the meaning that crontab(5) gives them.

A line is a comment (its first character that is no blank is ``#``), an assignment
(``MAILTO = "ops"``), or an entry: five fields or a shortcut such as ``@daily``, in a system
crontab the user, then the command to the end of the line. An assignment holds for the entries
below it. ``CRON_TZ``, or failing that ``TZ``, is the time zone of the fields. In a command an
unescaped ``%`` ends it, and what follows is its standard input, with ``%`` for the line ends.

Nothing is skipped: a line that is none of these is an error, and all errors of a file are
reported at once, each with its line and position.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import tzinfo
from pathlib import Path
from types import MappingProxyType

from tocsin.convert import as_timezone
from tocsin.errors import CronError, TocsinError
from tocsin.triggers.cron import EXACTLY_ONCE, CronTrigger

_BLANKS = " \t"
_ASSIGNMENT = re.compile(r"""(["']?)([A-Za-z_][A-Za-z0-9_]*)\1[ \t]*=[ \t]*(.*)""")
_SHORTCUT = re.compile(r"@[^ \t]*")
_FIELDS = re.compile(r"[^ \t]+(?:[ \t]+[^ \t]+){4}")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]*\$?(?::[A-Za-z0-9_.-]+)?")
_ZONES = ("CRON_TZ", "TZ")  # the first one that is set counts
_STARTUP = "@reboot"


@dataclass(frozen=True)
class CrontabProblem:
    """What is wrong with a line: ``line`` and ``position`` count from 1."""

    source: str
    line: int
    position: int
    reason: str

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.position}: {self.reason}"


class CrontabError(TocsinError, ValueError):
    """A crontab file that is wrong: ``problems`` lists what and where, in order."""

    def __init__(self, problems: tuple[CrontabProblem, ...]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems

    def __reduce__(self) -> tuple[type[CrontabError], tuple[tuple[CrontabProblem, ...]]]:
        return CrontabError, (self.problems,)


@dataclass(frozen=True)
class CrontabEntry:
    """A job of a crontab file.

    ``trigger`` is None for ``@reboot``: the job runs once, when the scheduler starts. ``user``
    is None in a user's crontab. ``stdin`` is None if the command has no input of its own.
    """

    line: int
    expression: str
    trigger: CronTrigger | None
    user: str | None
    command: str
    stdin: str | None
    environment: Mapping[str, str]


def is_system_crontab(path: Path) -> bool:
    """Tell by its place whether a crontab has a column for the user."""
    place = path.absolute()
    return place == Path("/etc/crontab") or place.parent == Path("/etc/cron.d")


def read_crontab(
    path: Path,
    timezone: tzinfo | str | None = None,
    *,
    system: bool | None = None,
    dst: str = EXACTLY_ONCE,
) -> list[CrontabEntry]:
    """Read a crontab file; the arguments are those of `parse_crontab`.

    With ``system=None`` the place of the file decides: ``/etc/crontab`` and ``/etc/cron.d/*``
    have a user column. Raises OSError, and CrontabError, a ValueError.
    """
    source = str(path)
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        problem = CrontabProblem(
            source,
            before.count(b"\n") + 1,
            len(before) - before.rfind(b"\n"),
            f"the byte 0x{data[error.start]:02x} is not UTF-8; save the file as UTF-8",
        )
        raise CrontabError((problem,)) from error
    if system is None:
        system = is_system_crontab(path)
    return parse_crontab(text, timezone, system=system, dst=dst, source=source)


def parse_crontab(
    text: str,
    timezone: tzinfo | str | None = None,
    *,
    system: bool = False,
    dst: str = EXACTLY_ONCE,
    source: str = "crontab",
) -> list[CrontabEntry]:
    """Parse the text of a crontab file.

    ``timezone`` counts where the file does not set one; None stands for the local zone.
    ``system`` says that entries have a user column, ``source`` is the name to show in errors.
    ``H`` in a field is a hash of the command. Raises CrontabError, a ValueError.
    """
    return _Parser(as_timezone(timezone), system, dst, source).parse(text)


class _Refusal(Exception):
    """A line is wrong at an offset."""

    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(reason)
        self.offset = offset
        self.reason = reason


class _Parser:
    def __init__(self, timezone: tzinfo, system: bool, dst: str, source: str) -> None:
        self.default = timezone
        self.system = system
        self.dst = dst
        self.source = source
        self.environment: dict[str, str] = {}
        self.zones: dict[str, tzinfo] = {}

    def parse(self, text: str) -> list[CrontabEntry]:
        entries: list[CrontabEntry] = []
        problems: list[CrontabProblem] = []
        for number, line in enumerate(text.split("\n"), 1):
            try:
                entries.extend(self.parse_line(number, line.removesuffix("\r")))
            except _Refusal as error:
                problems.append(CrontabProblem(self.source, number, error.offset + 1, error.reason))
        if problems:
            raise CrontabError(tuple(problems))
        return entries

    def parse_line(self, number: int, line: str) -> Iterator[CrontabEntry]:
        start = _skip_blanks(line, 0)
        if start == len(line) or line[start] == "#":
            return
        if assignment := _ASSIGNMENT.fullmatch(line, start):
            self.assign(assignment)
            return
        yield self.parse_entry(number, line, start)

    def assign(self, match: re.Match[str]) -> None:
        name, value = match[2], match[3].rstrip(_BLANKS)
        quote = value[:1]
        if quote in ("'", '"'):
            if len(value) < 2 or value[-1] != quote:
                raise _Refusal(match.start(3), f"{name}: the quote {quote} is not closed")
            value = value[1:-1]
        if name in _ZONES:
            self.zones.pop(name, None)
            if value:
                try:
                    self.zones[name] = as_timezone(value.removeprefix(":"))
                except ValueError as error:
                    reason = str(error).removeprefix("timezone: ")
                    raise _Refusal(match.start(3), f"{name}: {reason}") from error
        self.environment[name] = value

    def parse_entry(self, number: int, line: str, start: int) -> CrontabEntry:
        match = (_SHORTCUT if line[start] == "@" else _FIELDS).match(line, start)
        if match is None:
            words = line[start:].split()
            raise _Refusal(
                start,
                f"{line[start:].rstrip()!r} is neither an entry (5 fields and a command; these"
                f" are {len(words)} words), an assignment (NAME=value) nor a comment (# ...)",
            )
        place = _skip_blanks(line, match.end())
        user = None
        if self.system:
            user, place = self.parse_user(line, place)
        command, stdin = _split_input(line[place:].rstrip(_BLANKS))
        if not command.strip():
            missing = "no command" if user is None else f"no command after the user {user!r}"
            raise _Refusal(len(line.rstrip()), f"{missing} follows {match[0]!r}")
        return CrontabEntry(
            number,
            match[0],
            self.make_trigger(match, command),
            user,
            command,
            stdin,
            MappingProxyType(dict(self.environment)),
        )

    def parse_user(self, line: str, place: int) -> tuple[str, int]:
        word = line[place:].split(None, 1)[:1]
        if not word or not _USER.fullmatch(word[0]):
            given = repr(word[0]) if word else "nothing"
            raise _Refusal(
                place, f"user: {given} is not a user's name, which a system crontab has here"
            )
        return word[0], _skip_blanks(line, place + len(word[0]))

    def make_trigger(self, match: re.Match[str], seed: str) -> CronTrigger | None:
        if match[0].lower() == _STARTUP:
            return None
        zone = next((self.zones[name] for name in _ZONES if name in self.zones), self.default)
        try:
            return CronTrigger.from_crontab(match[0], zone, seed=seed, dst=self.dst)
        except CronError as error:
            # Of a shortcut, a position would be one in what it stands for.
            inside = error.position - 1 if error.text == match[0] and error.position else 0
            raise _Refusal(match.start() + inside, str(error)) from error


def _skip_blanks(line: str, place: int) -> int:
    return len(line) - len(line[place:].lstrip(_BLANKS))


def _split_input(text: str) -> tuple[str, str | None]:
    r"""Split at the first ``%``; ``\%`` is a plain one."""
    first, *rest = (part.replace(r"\%", "%") for part in re.split(r"(?<!\\)%", text))
    if not rest:
        return first, None
    stdin = "\n".join(rest)
    return first, stdin if stdin.endswith("\n") else f"{stdin}\n"
