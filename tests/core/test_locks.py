"""Files that one process holds at a time."""

from __future__ import annotations

import errno
import fcntl
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from llmrl.core.locks import held, holding, is_held

HOLDER = """
import sys
from llmrl.core.locks import held

file = open(sys.argv[1], "ab")
print(held(file), flush=True)
input()
"""


def test_a_file_is_held_by_one_and_not_emptied(tmp_path: Path) -> None:
    path = tmp_path / "data"
    assert not is_held(path)
    assert not path.exists()
    path.write_bytes(b"a person's")
    with path.open("ab") as mine, path.open("ab") as other:
        assert held(mine)
        assert is_held(path)
        assert not held(other)
        path.read_bytes()  # opened and closed once more
        assert not held(other)
    assert not is_held(path)
    assert path.read_bytes() == b"a person's"


def test_what_a_killed_process_held_is_free(tmp_path: Path) -> None:
    path = tmp_path / "data"
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "True\n"
        assert is_held(path)
        other.kill()
        other.wait()
    assert not is_held(path)


def test_who_waits_says_so_and_comes_next(tmp_path: Path) -> None:
    path, waits, turns = tmp_path / "lock", threading.Event(), []

    def other() -> None:
        with holding(path, waits.set):
            turns.append("other")

    with holding(path):
        thread = threading.Thread(target=other)
        thread.start()
        assert waits.wait(60)
        turns.append("first")
    thread.join()
    assert turns == ["first", "other"]
    waits.clear()
    with holding(path, waits.set):
        assert not waits.is_set()


def test_a_file_system_without_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(file: object, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(OSError, match="file system has no locks: use a local disk"), holding(tmp_path / "lock"):
        pass
