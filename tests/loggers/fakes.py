"""A `wandb` of a few lines, which processes that send a run import: it writes what it is told to a file.

`LLMRL_FAKE` says what goes wrong. It draws random numbers and prints wherever it is called.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

MODULE = """
import json, os, random, signal, sys

print("wandb: chatter"); print("wandb: chatter", file=sys.stderr)
random.seed(1)
MODE = os.environ.get("LLMRL_FAKE", "")
if MODE == "import":
    raise ImportError("half installed")

def tell(**what):
    with open(os.environ["LLMRL_FAKE_FILE"], "a") as file:
        file.write(json.dumps(what) + "\\n")

def hang():
    tell(hangs=os.getpid())
    while True:
        signal.pause()

class Settings:
    def __init__(self, **settings): pass

class Run:
    disabled, url, dir = MODE == "disabled", "https://example.org/run", "x/files"
    def __init__(self, step):
        self.step, self.summary = step, {}
    def log(self, row, step):
        print("wandb: logged", row)
        tell(step=step, row=row)
        if MODE == "log":
            raise OSError(28, "no space left")
        if MODE == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
    def finish(self, exit_code):
        tell(summary=self.summary, exit_code=exit_code)

def init(**asked):
    asked.pop("settings")
    tell(init=asked)
    if MODE == "init":
        raise RuntimeError(("no key " + os.environ.get("WANDB_API_KEY", "")).strip())
    if MODE == "hang":
        hang()
    return Run(int(os.environ.get("LLMRL_FAKE_STEP", 0)))
"""


class Fake:
    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._file, self._patch = folder / "told.jsonl", monkeypatch
        place = folder / "fake"
        place.mkdir()
        (place / "wandb.py").write_text(MODULE)
        path = os.pathsep.join([str(place), str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
        monkeypatch.setenv("PYTHONPATH", path)  # of processes that are started
        monkeypatch.setenv("LLMRL_FAKE_FILE", str(self._file))
        monkeypatch.syspath_prepend(place)  # for who asks whether the package is installed

    def fails(self, where: str) -> None:
        """import, init, log, crash, hang, disabled; or "" for nothing."""
        self._patch.setenv("LLMRL_FAKE", where)

    def has_steps_before(self, step: int) -> None:
        self._patch.setenv("LLMRL_FAKE_STEP", str(step))

    def told(self, what: str) -> list[Any]:
        """In its order, what it was told of one kind: init, step, row, summary, exit_code, hangs."""
        lines = self._file.read_text().splitlines() if self._file.exists() else []
        return [said[what] for said in map(json.loads, lines) if what in said]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    return Fake(tmp_path, monkeypatch)
