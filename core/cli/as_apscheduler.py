"""``tocsin as-apscheduler``: run a program that was written for APScheduler, as it is."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from os import getcwd
from os.path import dirname, realpath
from types import CodeType, ModuleType

import click

from tocsin.adapters.apscheduler import install


class _Program(click.Command):
    """A command whose options end with the program: all that follows is for that."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] == "-m":
            args = [*args[:2], "--", *args[2:]]
        elif args and not args[0].startswith("-"):
            args = ["--", *args]
        return super().parse_args(ctx, args)


@click.command("as-apscheduler", cls=_Program)
@click.option("-m", "module", metavar="MODULE", help="Run a module, or a package's __main__.")
@click.argument("arguments", nargs=-1, metavar="[FILE] [ARG]...", type=click.UNPROCESSED)
def as_apscheduler(module: str | None, arguments: Sequence[str]) -> None:
    """Run a Python program that uses APScheduler 3 on tocsin, unchanged.

    FILE and MODULE are what python would be given; every ARG is passed on. Whatever the program
    imports as apscheduler is tocsin; APScheduler itself need not be installed. Processes that
    the program starts are not covered: see docs/migration.md.

    Exit codes: those of the program; 1 when it ends by an exception; 2 the command line is wrong.
    """
    if module is None and not arguments:
        raise click.UsageError("give the file of a program, or a module with -m")
    install()
    if module is None:
        code, spec, place = _load_file(arguments[0])
        arguments = arguments[1:]
    else:
        code, spec, place = _load_module(module)
    sys.argv = [place, *arguments]
    _run(code, spec, place)


def _load_file(path: str) -> tuple[CodeType, None, str]:
    try:
        with open(path, "rb") as file:
            source = file.read()
    except OSError as error:
        raise click.BadParameter(str(error), param_hint="FILE") from error
    _put_first(dirname(realpath(path)))
    return compile(source, path, "exec", dont_inherit=True), None, path


def _load_module(name: str) -> tuple[CodeType, ModuleSpec, str]:
    _put_first(getcwd())
    try:
        spec = find_spec(name)
        if spec is not None and spec.submodule_search_locations is not None:
            spec = find_spec(f"{name}.__main__")
    except (ImportError, ValueError) as error:
        raise click.BadParameter(f"{name}: {error}", param_hint="-m") from error
    get_code = getattr(None if spec is None else spec.loader, "get_code", None)
    code = None if spec is None or get_code is None else get_code(spec.name)
    if spec is None or code is None:
        raise click.BadParameter(
            f"{name}: there is no such module, or, if it is a package, it has no __main__",
            param_hint="-m",
        )
    return code, spec, spec.origin or name


def _put_first(folder: str) -> None:
    """Let imports begin in the program's folder, where python would have begun."""
    if not getattr(sys.flags, "safe_path", False):  # set by python -P, from 3.11 on
        sys.path[0] = folder


def _run(code: CodeType, spec: ModuleSpec | None, place: str) -> None:
    """Execute a program as the module ``__main__``, which it stays for its threads and jobs."""
    main = ModuleType("__main__")
    main.__dict__.update(
        __spec__=spec,
        __file__=place,
        __package__=None if spec is None else spec.parent,
        __loader__=None if spec is None else spec.loader,
        __builtins__=__builtins__,
    )
    sys.modules["__main__"] = main
    try:
        exec(code, main.__dict__)  # noqa: S102
    except SystemExit:
        raise
    except BaseException as error:  # click would make another thing of some of them
        trace = error.__traceback__
        own = None if trace is None else trace.tb_next  # without this frame
        sys.excepthook(type(error), error.with_traceback(own), own)
        sys.exit(130 if isinstance(error, KeyboardInterrupt) else 1)
