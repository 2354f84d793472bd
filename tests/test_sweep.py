"""Sweeps that are stopped: what runs is ended, and nothing more is begun."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from llmrl.config.compose import compose
from llmrl.launch import commands
from llmrl.report.sweeps import Screen
from llmrl.run.identity import identify_run
from llmrl.sweep import Cell, launch


def test_no_cell_begins_after_the_sweep_was_stopped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cells = []
    for seed in range(3):
        cfg = compose(["learner=random", f"seed={seed}", f"paths.runs={tmp_path}"])
        cells.append(Cell([f"seed={seed}"], cfg, identify_run(cfg)))
    begun: list[Any] = []
    main = threading.main_thread().ident
    assert main is not None

    class Process:
        """Runs until it is terminated; the first to run is where Ctrl-C comes."""

        returncode = 143

        def __init__(self, *_: object, **__: object) -> None:
            begun.append(self)
            self.ended = threading.Event()
            self.stdout = self._lines()  # made once: a second signal could reach the test that comes next

        def __enter__(self) -> Process:
            return self

        def __exit__(self, *_: object) -> None: ...

        def _lines(self) -> Iterator[str]:
            signal.pthread_kill(int(main or 0), signal.SIGINT)
            assert self.ended.wait(60)
            yield from ()

        stderr = ()

        def terminate(self) -> None:
            self.ended.set()

    monkeypatch.setattr(commands, "subprocess", type("Fake", (), {**vars(subprocess), "Popen": Process}))
    with pytest.raises(KeyboardInterrupt):
        launch(cells, None, 1, Screen(["a", "b", "c"], Console(quiet=True)))
    assert len(begun) == 1
    assert begun[0].ended.is_set()
