"""JSON without blanks, as the stores write it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

__all__ = ["encode", "quoted"]

_ENCODER = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":")
)


#: Write a text.
quoted: Callable[[str], str] = json.encoder.encode_basestring


def _made_once() -> Callable[[Any], str]:
    """Give an encoder that `JSONEncoder.encode` would make anew, for longer than it then takes.

    It is an implementation detail of CPython, so that of the library serves where it is another.
    """
    try:
        made = json.encoder.c_make_encoder  # type: ignore[attr-defined]
        chunks = made(None, _ENCODER.default, quoted, None, ":", ",", False, False, False)
        if "".join(chunks({"ä": [1, 1.5, None, True]}, 0)) != '{"ä":[1,1.5,null,true]}':
            return _ENCODER.encode
    except (AttributeError, TypeError):
        return _ENCODER.encode
    return lambda value: "".join(chunks(value, 0))


#: Write a value; ValueError for a number that JSON has not, TypeError for another type.
encode = _made_once()
