"""Which engine is chosen, and the interpreted one beside whatever is in use; on both builds."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

import tocsin.engine
from tocsin import _twin
from tocsin.errors import CompiledEngineMissing


def in_use() -> dict[str, object]:
    names = [f"tocsin.engine.{name}" for name in _twin.MODULES]
    return {
        **{name: import_module(name) for name in names},
        **{name: getattr(tocsin.engine, name) for name in _twin.MODULES},
    }


def test_the_source_is_loaded_beside_what_is_in_use() -> None:
    before = in_use()
    loaded = _twin.load_interpreted()
    assert set(loaded) == {f"tocsin.engine.{name}" for name in _twin.MODULES}
    for name, module in loaded.items():
        assert Path(str(module.__file__)).suffix == ".py"
        assert module is not before[name]
    assert in_use() == before
    # They know each other, and nothing of those in use.
    cron, civil = loaded["tocsin.engine.cron"], loaded["tocsin.engine.civil"]
    assert vars(cron)["civil"] is civil


def test_without_its_source_the_engine_is_not_interpreted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = in_use()
    monkeypatch.setattr(_twin, "_FOLDER", tmp_path)
    with pytest.raises(ImportError, match=r"has no source in .*; unset TOCSIN_PURE") as caught:
        _twin.load_interpreted()
    assert caught.value.name == "tocsin.engine.civil"
    assert in_use() == before


@pytest.mark.parametrize(
    ("pure", "reason"), [("1", "TOCSIN_PURE=1 forbids it"), ("0", "no extension for civil, zone")]
)
def test_a_compiled_engine_that_is_required_and_not_there_is_an_error(
    pure: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_twin, "_FOLDER", tmp_path)
    monkeypatch.setenv("TOCSIN_PURE", pure)
    monkeypatch.setenv("TOCSIN_REQUIRE_COMPILED", "1")
    with pytest.raises(CompiledEngineMissing, match=reason):
        _twin.select()


def test_without_extensions_what_import_finds_is_left_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = in_use()
    monkeypatch.setattr(_twin, "_FOLDER", tmp_path)
    monkeypatch.delenv("TOCSIN_PURE", raising=False)
    monkeypatch.delenv("TOCSIN_REQUIRE_COMPILED", raising=False)
    assert _twin.select() is False
    assert in_use() == before
