"""What an installation imports, and what it does without a compiler."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from support.packages import Environment, copy_sources, interpreters, run

pytestmark = pytest.mark.packaging

SHOW = "import tocsin; print(tocsin.COMPILED)"
#: Every module of the package that needs nothing but the core dependencies.
USE = """
import datetime, tocsin
trigger = tocsin.CronTrigger.from_crontab("30 2 * * *", "Europe/Berlin")
after = datetime.datetime(2026, 3, 28, 12, tzinfo=datetime.timezone.utc)
print(tocsin.COMPILED, trigger.next_fire_time(after).isoformat())
"""
FIRE_TIME = "2026-03-29T03:00:00+02:00"


def test_compiled_is_the_default(installed: Environment) -> None:
    assert installed.python(USE) == f"True {FIRE_TIME}"


def test_extensions_were_compiled_with_their_declarations(installed: Environment) -> None:
    """Without its ``.pxd`` a module compiles too, untyped: its functions take any object."""
    script = (
        "from tocsin.engine import civil\n"
        "print(type(civil.weekday).__name__)\n"
        "try: civil.weekday('x')\n"
        "except TypeError as error: print('TypeError', error)\n"
    )
    kind, refusal = installed.python(script).splitlines()
    assert kind != "function"
    assert refusal == "TypeError an integer is required"


def test_pure_is_chosen_at_import(installed: Environment) -> None:
    assert installed.python(USE, TOCSIN_PURE="1") == f"False {FIRE_TIME}"
    assert installed.python(SHOW, TOCSIN_PURE="0") == "True"


def test_compiled_is_required_at_import(installed: Environment) -> None:
    assert installed.python(SHOW, TOCSIN_REQUIRE_COMPILED="1") == "True"
    message = installed.fails(SHOW, TOCSIN_REQUIRE_COMPILED="1", TOCSIN_PURE="1")
    assert "CompiledEngineMissing" in message
    assert "TOCSIN_PURE=1 forbids it" in message


def test_a_missing_extension_means_pure_or_an_error(installed: Environment, tmp_path: Path) -> None:
    script = "import tocsin.engine.heap as heap; print(heap.__file__)"
    engine = Path(installed.python(script)).parent
    shutil.copytree(engine.parent, tmp_path / "tocsin")
    (extension,) = (tmp_path / "tocsin" / "engine").glob("heap.*.so")
    extension.unlink()
    here = str(tmp_path)
    assert installed.python(USE, PYTHONPATH=here) == f"False {FIRE_TIME}"
    message = installed.fails(SHOW, PYTHONPATH=here, TOCSIN_REQUIRE_COMPILED="1")
    assert "no extension for heap" in message


@pytest.mark.parametrize("name", ["core", "adapters", "stores", "engine", "triggers", "cli"])
def test_source_folders_are_no_packages(installed: Environment, name: str) -> None:
    assert "ModuleNotFoundError" in installed.fails(f"import {name}")
    assert installed.python("import tocsin, tocsin.adapters, tocsin.stores; print(1)") == "1"


def test_command_without_its_extra(installed: Environment) -> None:
    for command in ((installed.bin / "tocsin",), (installed.bin / "python", "-m", "tocsin")):
        done = run(*command, "next", "@daily", cwd=installed.folder, check=False)
        assert done.returncode == 1
        assert done.stdout == ("tocsin: the command line needs click: pip install tocsin[cli]\n")


@pytest.mark.parametrize("version", list(interpreters()))
def test_every_python_runs_the_pure_wheel(version: str, pure_wheel: Path, tmp_path: Path) -> None:
    environment = Environment.create(
        tmp_path / "venv", interpreters()[version], f"tocsin[cli] @ {pure_wheel.as_uri()}"
    )
    assert environment.python(USE) == f"False {FIRE_TIME}"
    assert environment.python("import sys; print('3.%d' % sys.version_info[1])") == version
    message = environment.fails(SHOW, TOCSIN_REQUIRE_COMPILED="1")
    assert "no extension for civil, " in message
    shown = run(
        environment.bin / "tocsin", "next", "@daily", "-z", "UTC", "--from", "2026-01-01", "-n1"
    )
    assert "Thu 2026-01-01 00:00:00+00:00" in shown.stdout


@pytest.mark.parametrize("version", list(interpreters())[1:])
def test_every_other_python_compiles_the_sdist(version: str, sdist: Path, tmp_path: Path) -> None:
    """With the build requirements that pip installs; the running Python made the wheel above."""
    environment = Environment.create(tmp_path / "venv", interpreters()[version])
    environment.pip("install", "-q", sdist, TOCSIN_REQUIRE_COMPILED="1")
    assert environment.python(USE) == f"True {FIRE_TIME}"


NO_COMPILER = {"CC": "no-such-compiler", "CXX": "no-such-compiler"}


def translated(built: Path, target: Path) -> Path:
    """Copy the sources with their translation to C, but no distribution."""
    ignored = shutil.ignore_patterns("dist", "*.egg-info", "lib.*", "bdist.*", "temp.*")
    return Path(shutil.copytree(built, target, ignore=ignored))


def test_without_a_compiler_it_installs_and_says_so(built: Path, tmp_path: Path) -> None:
    sources = translated(built, tmp_path / "sources")
    command = (sys.executable, "-m", "pip", "wheel", "-v", "--no-deps", "--no-build-isolation")
    done = run(*command, "--wheel-dir", tmp_path, sources, cwd=tmp_path, check=True, **NO_COMPILER)
    assert "tocsin.engine.heap is not compiled, tocsin runs pure Python" in done.stdout
    (wheel,) = tmp_path.glob("*.whl")
    environment = Environment.create(tmp_path / "venv", Path(sys.executable), wheel)
    assert environment.python(USE) == f"False {FIRE_TIME}"


def test_without_a_compiler_a_required_engine_is_an_error(built: Path, tmp_path: Path) -> None:
    sources = translated(built, tmp_path / "sources")
    command = (sys.executable, "-m", "build", "--wheel", "--no-isolation")
    done = run(*command, cwd=sources, check=False, TOCSIN_REQUIRE_COMPILED="1", **NO_COMPILER)
    assert done.returncode != 0
    assert "no-such-compiler" in done.stdout
    assert not list(sources.glob("dist/*"))


def test_contradictory_switches_are_an_error(built: Path, tmp_path: Path) -> None:
    sources = copy_sources(tmp_path / "sources", built)
    command = (sys.executable, "-m", "build", "--wheel", "--no-isolation")
    done = run(*command, cwd=sources, check=False, TOCSIN_REQUIRE_COMPILED="1", TOCSIN_PURE="1")
    assert done.returncode != 0
    assert "contradict each other" in done.stdout


def test_editable_installation(built: Path, tmp_path: Path) -> None:
    """Strict: the package has its own name for tools that read files, and edits are live."""
    environment = Environment.create(tmp_path / "venv", Path(sys.executable))
    sources = translated(built, tmp_path / "sources")
    environment.pip("install", "-q", "-e", sources, TOCSIN_REQUIRE_COMPILED="1")
    assert environment.python(USE) == f"True {FIRE_TIME}"
    assert environment.python(USE, TOCSIN_PURE="1") == f"False {FIRE_TIME}"
    assert "ModuleNotFoundError" in environment.fails("import core")
    with (sources / "core" / "errors.py").open("a") as module:
        module.write("\nEDITED = 42\n")
    assert environment.python("import tocsin.errors as e; print(e.EDITED)") == "42"
    (farm,) = (sources / "build").glob("__editable__.*")
    assert (farm / "tocsin" / "errors.py").samefile(sources / "core" / "errors.py")
