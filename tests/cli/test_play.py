"""`llmrl play` as a process."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent.parent


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {
        **os.environ, "PYTHONPATH": str(REPOSITORY), "LLMRL_CACHE": str(tmp_path / "kept.sqlite3"), "COLUMNS": "80",
        "OMP_NUM_THREADS": "1", "NO_COLOR": "1", "TERM": "dumb",
    }  # fmt: skip


def test_an_untrained_agent_plays_by_itself(tmp_path: Path, environ: dict[str, str]) -> None:
    command = [sys.executable, "-m", "llmrl", "play", "learner=dqn", "--auto", "--steps", "3"]
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "overcooked_salad · dqn, untrained · prior uniform" in done.stdout
    assert [f"decision {n} ·" in done.stdout for n in (1, 2, 3, 4)] == [True, True, True, False]
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_is_not_there(tmp_path: Path, environ: dict[str, str]) -> None:
    command = [sys.executable, "-m", "llmrl", "play", "nosuch", "--auto"]
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: nosuch: no such run")


@pytest.mark.parametrize(("key", "code"), [(b"q\n", 0), (b"\x04", 0), (b"\x03", 130)])
def test_it_is_left_by_q_and_ctrl_d_and_ctrl_c(tmp_path: Path, environ: dict[str, str], key: bytes, code: int) -> None:
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "llmrl", "play", "learner=random"]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environ | {"TERM": "xterm"}, stdin=theirs, stdout=theirs, stderr=theirs,
        preexec_fn=_own_terminal,
    ) as process:  # fmt: skip
        os.close(theirs)
        seen = b""
        while b"q: quit" not in seen:
            more = _read(ours)
            assert more, seen
            seen += more
        os.write(ours, key)
        while _read(ours):  # a terminal that nobody reads would block the process
            pass
    os.close(ours)
    assert b"Enter: take" in seen
    assert process.returncode == code


def _own_terminal() -> None:
    """The terminal on standard input becomes the process's own, so that Ctrl-C reaches it."""
    import fcntl
    import termios

    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _read(terminal: int) -> bytes:
    """Nothing, when the other side is closed; it has two minutes to say anything."""
    ready, _, _ = select.select([terminal], [], [], 120)
    assert ready, "it says nothing, and does not end"
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux's way of saying so
        return b""
