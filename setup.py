"""Build the compiled engine, list the packages, and point the README's links to where they lead;
all else is in pyproject.toml.

``TOCSIN_PURE=1`` builds no extension. ``TOCSIN_REQUIRE_COMPILED=1`` makes a missing one an
error. With neither, a machine without a working compiler gets the interpreted engine and a
warning that says so (pip shows it with ``-v``). ``TOCSIN_SOURCES`` is the address below which the
files of this version can be read.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

PURE = os.environ.get("TOCSIN_PURE", "0") not in ("", "0")
REQUIRED = os.environ.get("TOCSIN_REQUIRE_COMPILED", "0") not in ("", "0")

#: The packages that the top-level folders are.
ROOTS = {
    "tocsin": "core",
    "tocsin.adapters": "adapters",
    "tocsin.stores": "stores",
    "twisted.plugins": "plugins",  # Twisted's own package: ours has no __init__.py
}
#: The compiled modules of the package ``tocsin.engine``: each has a ``.pxd`` beside its ``.py``.
COMPILED = sorted(
    path.stem for path in Path("core/engine").glob("*.pxd") if path.stem not in ("__init__", "capi")
)


class BuildExt(build_ext):
    """Go on without an extension where there is no working compiler."""

    def build_extensions(self) -> None:
        if self.translate():
            super().build_extensions()
        # Only here: the editable installation copies every extension that is still listed.
        self.extensions = [
            extension
            for extension in self.extensions
            if os.path.exists(self.get_ext_fullpath(extension.name))
        ]

    def translate(self) -> bool:
        """Translate the extensions to C; tell whether there is a Cython to do so."""
        try:
            from Cython.Build import cythonize
        except ModuleNotFoundError as error:
            if REQUIRED:
                raise
            self.warn(f"the engine is not compiled, tocsin runs pure Python: {error}")
            return False
        declare()
        options = {"build_dir": "build/cython", "include_path": ["build/pxd"]}
        sources = {each.name: each.sources for each in cythonize(self.extensions, **options)}
        for extension in self.extensions:
            extension.sources = sources[extension.name]
            if self.compiler.compiler_type == "unix":
                extension.extra_compile_args = ["-g0"]  # a quarter of the time goes into -g
        return True

    def build_extension(self, ext: Extension) -> None:
        try:
            super().build_extension(ext)
        except Exception as error:  # no compiler is an OSError, a broken one a CompileError
            if REQUIRED:
                raise
            self.warn(f"{ext.name} is not compiled, tocsin runs pure Python: {error}")


def declare() -> None:
    """Put the declarations where Cython finds them.

    It looks for tocsin/engine/zone.pxd where the tree says core/engine/zone.pxd, and ignores
    without a word a declaration that it does not find.
    """
    declarations = Path("build/pxd/tocsin/engine")
    declarations.mkdir(parents=True, exist_ok=True)
    for package in (declarations, declarations.parent):
        init = package / "__init__.pxd"
        if not init.exists():  # a newer one has everything translated again
            init.touch()
    for pxd in Path("core/engine").glob("*.pxd"):
        copy = declarations / pxd.name
        if not copy.exists() or copy.read_bytes() != pxd.read_bytes():
            shutil.copyfile(pxd, copy)


def extensions() -> list[Extension]:
    """List the extensions to build."""
    if PURE and REQUIRED:
        raise SystemExit("TOCSIN_PURE=1 and TOCSIN_REQUIRE_COMPILED=1 contradict each other")
    if PURE:
        return []
    return [Extension(f"tocsin.engine.{name}", [f"core/engine/{name}.py"]) for name in COMPILED]


def packages() -> list[str]:
    """List the packages of all top-level folders: every folder with an ``__init__.py``."""
    found = []
    for name, folder in ROOTS.items():
        found += [name, *(f"{name}.{inner}" for inner in find_packages(folder))]
    return found


def description() -> str:
    """Give the README as an index shows it, where no other file is beside it."""
    text = Path("README.md").read_text(encoding="utf-8")
    sources = os.environ.get("TOCSIN_SOURCES")
    if not sources:
        return text
    text = re.sub(r"(?<=\]\()(?=#)", "README.md", text)  # an index gives headings no address
    text = re.sub(r"(?<=\]\()(?![a-z]+:)", f"{sources}/", text)
    return re.sub(r'(?<= src=")(?![a-z]+:)([^"]+)', rf"{sources}/\1?raw=true", text)


setup(
    long_description=description(),
    long_description_content_type="text/markdown",
    packages=packages(),
    package_dir=ROOTS,
    ext_modules=extensions(),
    cmdclass={"build_ext": BuildExt},
    options={
        "build_ext": {"parallel": os.cpu_count() or 1},
        # Lenient editable installs hide the package from type checkers and from twistd.
        "editable_wheel": {"mode": "strict"},
    },
)
