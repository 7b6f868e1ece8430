"""The command ``tocsin``: one module for each of its subcommands, which `app` gathers.

Exit codes: 0, done; 1, an expression or a file was refused, or the extra ``cli`` is not
installed; 2, the command line is wrong (an unknown option, a bad value, a missing file).
"""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit; say what to install when click or rich is missing."""
    try:
        from tocsin.cli.app import app
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in ("click", "platformdirs", "rich"):
            raise
        sys.exit(f"tocsin: the command line needs {missing}: pip install tocsin[cli]")
    app()
