"""What a release is made of: cibuildwheel's configuration, GitHub's workflows, the checks of PyPI.

cibuildwheel itself needs containers and machines of every system; what it is told is held to its
own parser and schema here, and its test command is run on the wheel of this machine.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
import sysconfig
import tarfile
from pathlib import Path
from typing import Any

import pytest
from support.packages import MINORS, Environment, run
from support.programs import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

pytestmark = pytest.mark.packaging

BIN = Path(sysconfig.get_path("scripts"))
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PLATFORMS = {
    "linux": ("x86_64", "aarch64"),
    "macos": ("x86_64", "arm64"),
    "windows": ("AMD64",),
}
needs_cibuildwheel = pytest.mark.skipif(
    sys.version_info < (3, 11), reason="cibuildwheel needs Python 3.11"
)


@pytest.fixture(scope="module")
def settings() -> Any:
    """Give the table of cibuildwheel in ``pyproject.toml``."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"][
        "cibuildwheel"
    ]


@needs_cibuildwheel
@pytest.mark.parametrize("platform", PLATFORMS)
def test_wheels_of_every_python_and_nothing_else(platform: str) -> None:
    tags = {
        "linux": ("manylinux_x86_64", "manylinux_aarch64", "musllinux_x86_64", "musllinux_aarch64"),
        "macos": ("macosx_x86_64", "macosx_arm64"),
        "windows": ("win_amd64",),
    }
    command = (sys.executable, "-m", "cibuildwheel", "--print-build-identifiers")
    architectures = ",".join(PLATFORMS[platform])
    done = run(*command, "--platform", platform, "--archs", architectures, cwd=ROOT)
    assert set(done.stdout.split()) == {
        f"cp3{minor}-{tag}" for minor in MINORS for tag in tags[platform]
    }


@needs_cibuildwheel
def test_settings_are_in_the_schema_of_cibuildwheel(settings: Any) -> None:
    import cibuildwheel
    from jsonschema import Draft7Validator

    schema = Path(cibuildwheel.__file__).parent / "resources" / "cibuildwheel.schema.json"
    validator = Draft7Validator(json.loads(schema.read_text(encoding="utf-8")))
    assert [error.message for error in validator.iter_errors(settings)] == []
    assert not validator.is_valid({**settings, "test-comand": "pytest"})


def test_the_wheel_passes_what_cibuildwheel_runs(
    wheel: Path, sdist: Path, settings: Any, tmp_path: Path
) -> None:
    """With the tests that the source distribution has."""
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (sources,) = tmp_path.iterdir()
    folder = tmp_path / "alone"
    for name in settings["test-sources"]:
        target = folder / name
        if (sources / name).is_dir():
            shutil.copytree(sources / name, target)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(sources / name, target)
    environment = Environment.create(tmp_path / "venv", Path(sys.executable), wheel)
    groups = (f"--group={sources / 'pyproject.toml'}:{each}" for each in settings["test-groups"])
    environment.pip("install", "-q", *groups)
    python, *arguments = shlex.split(settings["test-command"])
    assert python == "python"
    # The guards of the compiled engine, and one suite of those that use it.
    chosen = ("tests/engine/test_single_source.py", "tests/triggers/test_contract.py")
    assert arguments.pop() == "tests"
    command = (environment.bin / "python", *arguments, *chosen, "-q")
    done = run(*command, cwd=folder, **settings["environment"])
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout


def test_pypi_would_take_the_distributions(sdist: Path, wheel: Path, pure_wheel: Path) -> None:
    done = run(sys.executable, "-m", "twine", "check", "--strict", sdist, wheel, pure_wheel)
    assert done.stdout.count("PASSED") == 3


def test_contents_of_the_wheels(wheel: Path, pure_wheel: Path) -> None:
    for each in (wheel, pure_wheel):
        assert run(BIN / "check-wheel-contents", each, cwd=ROOT).stdout == f"{each}: OK\n"


def test_workflows_are_in_the_schema_of_github() -> None:
    check = (BIN / "check-jsonschema", "--builtin-schema", "vendor.github-workflows")
    run(*check, *WORKFLOWS)


def test_workflows_are_safe(tmp_path: Path) -> None:
    """No permission that is not needed, no credentials kept, no expression in a script, ..."""
    zizmor = (BIN / "zizmor", "--offline", "--strict-collection", "--no-progress")
    run(*zizmor, ROOT / ".github", cwd=tmp_path)
    (workflows := tmp_path / ".github" / "workflows").mkdir(parents=True)
    text = (ROOT / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8")
    (workflows / "release.yml").write_text(text.replace("contents: read", "contents: write"))
    assert "excessive-permissions" in run(*zizmor, workflows, check=False).stdout


def test_actions_are_pinned_to_a_major_version() -> None:
    used = {
        line.split("uses:")[1].split("#")[0].strip()
        for path in WORKFLOWS
        for line in path.read_text(encoding="utf-8").splitlines()
        if "uses:" in line
    }
    others = {each for each in used if not each.startswith("./")}
    assert len(others) > 3
    for each in others:
        assert re.fullmatch(r"[\w-]+/[\w-]+@(v\d+|release/v\d+)", each), each
    for each in used - others:
        assert (ROOT / each).is_file(), each


def test_one_job_alone_may_publish() -> None:
    texts = {path.name: path.read_text(encoding="utf-8") for path in WORKFLOWS}
    assert [name for name, text in texts.items() if "id-token" in text] == ["release.yml"]
    head, _, publish = texts["release.yml"].partition("\n  publish:\n")
    assert "id-token" not in head
    assert "needs: distributions" in publish
    assert "run:" not in publish  # no code of ours runs beside the right to publish
    assert "secrets." not in "".join(texts.values())
