"""Run folders as `llmrl train` leaves them, without training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from llmrl.config import compose, run_id, run_name
from llmrl.run.folder import RunFolder
from llmrl.run.load import RunInfo


def make_run(
    root: Path, overrides: list[str], success: Callable[[int], float | None], steps: int = 1000, every: int = 250
) -> RunInfo:
    """A finished run whose behaviour policy has the given success at each evaluation."""
    cfg = compose(overrides)
    with RunFolder.open(root, run_name(cfg), run_id(cfg)) as folder:
        folder.write_config(cfg)
        folder.write_json("provenance.json", {"git": {"commit": "a" * 40, "dirty": True}, "model": None})
        folder.write_json("cost.json", {"lm/calls": 3, "seconds": 61.5})
        for step in range(0, steps + 1, every):
            row = {"env_steps": step, "eval/success": success(step), "lm/distinct_prompts": step * (cfg.seed + 1)}
            folder.append("metrics", row)
        last = {"success": success(steps), "return": 0.12345, "length": 31.2}
        summary = {"status": "complete", "env_steps": steps, "eval": last, "eval_greedy": {**last, "success": 1.0}}
        folder.write_summary({**summary, "lm": {"queries": 4321}})
    return RunInfo(folder.path)
