"""Where ``tocsin run`` keeps the jobs of a file, unless it is told another place."""

from __future__ import annotations

import os
import re
from hashlib import sha256
from pathlib import Path

from platformdirs import user_state_path

__all__ = ["make_folder", "url_of_file"]


def url_of_file(path: Path) -> str:
    """Give the URL of the store of a schedule: a file of SQLite, named after the schedule's path.

    It is in the folder for state that the system gives a service (``$STATE_DIRECTORY``), or
    else in that of the user (on Linux ``~/.local/state/tocsin``, or in ``$XDG_STATE_HOME``).
    """
    place = path.resolve()
    name = re.sub(r"[^\w.-]", "_", place.name)
    mark = sha256(os.fsencode(place)).hexdigest()[:12]
    return f"sqlite:///{(_folder() / f'{name}-{mark}.sqlite').as_posix()}"


def make_folder() -> None:
    """Make the folder of `url_of_file`, for its owner alone: who can write there can run code."""
    _folder().mkdir(mode=0o700, parents=True, exist_ok=True)


def _folder() -> Path:
    given = os.environ.get("STATE_DIRECTORY")  # of systemd; with colons between several
    return Path(given.split(":")[0]) if given else user_state_path("tocsin", appauthor=False)
