"""What the source distribution and the wheel hold."""

from __future__ import annotations

import re
import sys
import tarfile
from email.message import Message
from email.parser import Parser
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path, PurePosixPath
from zipfile import ZipFile

import pytest
from support.packages import copy_sources, run

import tocsin
from tocsin import _twin

pytestmark = pytest.mark.packaging

FOLDERS = {
    "core": "tocsin",
    "adapters": "tocsin/adapters",
    "stores": "tocsin/stores",
    "plugins": "twisted/plugins",
}
EXTRAS = {
    "gevent", "twisted", "tornado", "qt", "sqlalchemy", "redis", "mongodb", "rethinkdb",
    "zookeeper", "etcd", "cli", "all",
}  # fmt: skip


def module_files(sources: Path) -> set[str]:
    """Name what the source folders put into the package."""
    return {
        f"{package}/{path.relative_to(sources / folder).as_posix()}"
        for folder, package in FOLDERS.items()
        for path in (sources / folder).rglob("*")
        if path.suffix in (".py", ".pxd") or path.name == "py.typed"
    }


def package_files(wheel: Path) -> set[str]:
    with ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def metadata(wheel: Path, name: str = "METADATA") -> Message:
    with ZipFile(wheel) as archive:
        (path,) = (each for each in archive.namelist() if each.endswith(f".dist-info/{name}"))
        return Parser().parsestr(archive.read(path).decode())


def extensions() -> set[str]:
    return {f"tocsin/engine/{name}{EXTENSION_SUFFIXES[0]}" for name in _twin.MODULES}


def test_list_of_compiled_modules_is_complete(built: Path) -> None:
    declared = {path.stem for path in (built / "core" / "engine").glob("*.pxd")} - {"capi"}
    assert set(_twin.MODULES) == declared


def test_wheel_holds_all_modules_and_extensions_and_nothing_else(built: Path, wheel: Path) -> None:
    assert package_files(wheel) == module_files(built) | extensions()


def test_pure_wheel_holds_all_modules_and_nothing_else(built: Path, pure_wheel: Path) -> None:
    assert package_files(pure_wheel) == module_files(built)
    assert pure_wheel.name.endswith("-py3-none-any.whl")


def test_wheels_install_one_package_and_a_plugin_of_twisted(wheel: Path, pure_wheel: Path) -> None:
    for each in (wheel, pure_wheel):
        outside = [name for name in package_files(each) if not name.startswith("tocsin/")]
        assert outside == ["twisted/plugins/tocsin_plugin.py"]
        assert metadata(each, "top_level.txt").get_payload() == "tocsin\ntwisted\n"


def test_sdist_holds_the_whole_project_and_nothing_built(built: Path, sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        paths = (PurePosixPath(each.name) for each in archive.getmembers() if each.isfile())
        held = {str(PurePosixPath(*path.parts[1:])) for path in paths}
    expected = {
        path.relative_to(built).as_posix()
        for folder in (".ci", ".github", *FOLDERS, "tests", "benchmarks", "docs", "examples")
        for path in (built / folder).rglob("*")
        if path.is_file()
    } | {
        ".gitignore", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "MANIFEST.in", "Makefile",
        "README.md", "SECURITY.md",
        "mkdocs.yml", "pyproject.toml", "setup.py",
    }  # fmt: skip
    generated = {path for path in held if path.startswith("tocsin.egg-info/")}
    assert held - generated == expected | {"PKG-INFO", "setup.cfg"}


def test_metadata(wheel: Path) -> None:
    found = metadata(wheel)
    assert (found["Name"], found["Requires-Python"]) == ("tocsin", ">=3.10")
    assert found["Version"] == tocsin.__version__
    assert found["License-Expression"] == "MIT"
    assert found["Description-Content-Type"] == "text/markdown"
    versions = {f"Programming Language :: Python :: 3.{minor}" for minor in range(10, 15)}
    assert versions <= set(found.get_all("Classifier", []))


def test_an_index_shows_the_readme_with_links_that_lead_somewhere(
    wheel: Path, built: Path, tmp_path: Path
) -> None:
    readme = (built / "README.md").read_text(encoding="utf-8")
    assert metadata(wheel).get_payload() == readme
    folder = copy_sources(tmp_path / "sources", built)
    sources = "https://example.org/tocsin/blob/v1"
    script = "from setuptools.build_meta import prepare_metadata_for_build_wheel as m; m('.')"
    run(sys.executable, "-c", script, cwd=folder, TOCSIN_SOURCES=sources)
    (made,) = folder.glob("*.dist-info/METADATA")
    text = Parser().parsestr(made.read_text(encoding="utf-8")).get_payload()
    assert isinstance(text, str)
    links = re.findall(r"\]\(([^)]+)\)", text)
    images = re.findall(r'src="([^"]+)"', text)
    assert links
    assert images
    assert all(image.endswith("?raw=true") for image in images)
    for link in (*links, *images):
        assert link.startswith("https://")
        if link.startswith(sources):
            path = link.removeprefix(f"{sources}/").removesuffix("?raw=true").partition("#")[0]
            assert (folder / path).is_file(), link
    # And nothing else is changed.
    back = text.replace(f"{sources}/", "").replace("?raw=true", "")
    assert back.replace("](README.md#", "](#") == readme


def test_extras_and_dependencies(wheel: Path) -> None:
    found = metadata(wheel)
    assert set(found.get_all("Provides-Extra", [])) == EXTRAS
    requirements = found.get_all("Requires-Dist", [])
    core = sorted(each for each in requirements if "extra ==" not in each)
    assert [each.split(">")[0].split(";")[0] for each in core] == [
        "tomli", "tzdata", "tzlocal", "zope.interface",
    ]  # fmt: skip
    assert 'python_version < "3.11"' in core[0]
    assert 'sys_platform == "win32"' in core[1]
    (everything,) = (each for each in requirements if each.endswith('extra == "all"'))
    named = everything.partition("[")[2].partition("]")[0].split(",")
    assert set(named) == EXTRAS - {"all"}
