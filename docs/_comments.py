"""What the API reference reads beside docstrings: the comments ``#:`` above attributes."""

from __future__ import annotations

from typing import Any

from griffe import Attribute, Docstring, Extension


class AttributeComments(Extension):
    """Take the lines that begin with ``#:`` above an attribute for its docstring."""

    def on_attribute(self, *, attr: Attribute, **_: Any) -> None:
        """Look at the lines above an attribute that has no docstring."""
        if attr.docstring is not None or not attr.lineno:
            return
        above = attr.lineno - 2
        lines = attr.lines_collection[attr.filepath]
        comment: list[str] = []
        while above >= 0 and lines[above].lstrip().startswith("#: "):
            comment.insert(0, lines[above].lstrip().removeprefix("#: "))
            above -= 1
        if comment:
            text = "\n".join(comment)
            attr.docstring = Docstring(text, lineno=above + 2, parent=attr)
