"""Sweeps that are stopped: what runs is ended, and nothing more is begun."""

from __future__ import annotations

import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from llmrl import sweep
from llmrl.config import compose, run_id
from llmrl.sweep import Cell, launch


def test_no_cell_begins_after_the_sweep_was_stopped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cells = []
    for seed in range(3):
        cfg = compose(["learner=random", f"seed={seed}", f"paths.runs={tmp_path}"])
        cells.append(Cell([f"seed={seed}"], cfg, run_id(cfg)))
    begun: list[Any] = []
    main = threading.main_thread().ident
    assert main is not None

    class Process:
        """Runs until it is terminated; the first to run is where Ctrl-C comes."""

        returncode = 143

        def __init__(self, *_: object, **__: object) -> None:
            begun.append(self)
            self.ended = threading.Event()

        def __enter__(self) -> Process:
            return self

        def __exit__(self, *_: object) -> None: ...

        def communicate(self) -> tuple[None, str]:
            signal.pthread_kill(main, signal.SIGINT)
            assert self.ended.wait(60)
            return None, ""

        def terminate(self) -> None:
            self.ended.set()

    monkeypatch.setattr(sweep, "subprocess", type("Fake", (), {**vars(subprocess), "Popen": Process}))
    with pytest.raises(KeyboardInterrupt):
        launch(cells, None, 1, lambda _: None)
    assert len(begun) == 1
    assert begun[0].ended.is_set()
