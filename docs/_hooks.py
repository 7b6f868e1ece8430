"""What mkdocs does beside its own work: the programs in examples/ become pages of the site.

The pages in docs/ link to them as GitHub needs it, to a file outside of docs/, where the site has
nothing.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

EXAMPLES = Path(__file__).parents[1] / "examples"
_LANGUAGES = {".py": "python", ".tac": "python", ".toml": "toml"}
_LINK = re.compile(r"\]\(((?:\.\./)*)\.\./examples/([\w.]+)\)")


def on_config(config: Any) -> Any:
    """List these pages in the navigation."""
    pages = [{program.name: f"examples/{program.name}.md"} for program in _programs()]
    config.nav.append({"Examples": pages})
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add a page for each program: its text."""
    for program in _programs():
        language = _LANGUAGES.get(program.suffix, "text")
        text = f"# {program.name}\n\n```{language}\n{program.read_text(encoding='utf-8')}```\n"
        files.append(File.generated(config, f"examples/{program.name}.md", content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Lead the links to the programs to these pages."""
    return _LINK.sub(r"](\1examples/\2.md)", markdown)


def _programs() -> list[Path]:
    return sorted(path for path in EXAMPLES.iterdir() if path.is_file())
