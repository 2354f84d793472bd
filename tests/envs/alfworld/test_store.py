"""What is kept on disk of translated problems. Needs no extra."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path

import platformdirs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmrl.envs.alfworld.store import load_packed


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda name: str(tmp_path / name))
    return tmp_path / "llmrl" / "alfworld"


def kept(parts: tuple[str, ...], make: Callable[[], bytes]) -> bytes:
    return zlib.decompress(load_packed(parts, make))


def never() -> bytes:
    raise AssertionError("it is kept")


def test_it_is_made_once(folder: Path) -> None:
    assert kept(("1", "domain", "problem"), lambda: b"made") == b"made"
    assert kept(("1", "domain", "problem"), never) == b"made"
    assert kept(("2", "domain", "problem"), lambda: b"other") == b"other"
    assert [p.suffix for p in folder.rglob("*") if p.is_file()] == [".z", ".z"]


def test_where_one_part_ends_matters() -> None:
    kept(("ab", "c"), lambda: b"1")
    assert kept(("a", "bc"), lambda: b"2") == b"2"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(st.data())
def test_a_file_that_was_cut_off_or_changed_is_made_anew(folder: Path, data: st.DataObject) -> None:
    made = b"what the translator says, " * 20
    kept(("1",), lambda: made)
    (file,) = folder.rglob("*.z")
    whole = file.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    torn = whole[:at] if data.draw(st.booleans()) else whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :]
    file.write_bytes(torn)
    assert kept(("1",), lambda: made) == made
    assert file.read_bytes() == whole or file.read_bytes() == torn  # the latter where it says the same nevertheless
    file.unlink()


def test_a_folder_that_cannot_be_written_costs_the_translation_alone(folder: Path) -> None:
    folder.parent.parent.mkdir(parents=True, exist_ok=True)
    folder.parent.write_text("a file where the folder should be")
    assert kept(("1",), lambda: b"made") == b"made"
    assert kept(("1",), lambda: b"made again") == b"made again"
