"""docs/how-to/extend.md, done as written: its files in an empty folder, its commands by the real command line."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parent.parent
BLOCK = re.compile(r"^```(python|yaml|sh)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGE = [match.groups() for match in BLOCK.finditer((REPOSITORY / "docs" / "how-to" / "extend.md").read_text())]
NAME = re.compile(r"^# ([\w/]+\.(?:py|yaml))$", re.MULTILINE)
FILES = {NAME.findall(text)[0]: text for kind, text in PAGE if kind != "sh"}  # a comment near the top names it
COMMANDS = [line for kind, text in PAGE if kind == "sh" for line in text.splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("person")
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def run(folder: Path, *command: str, **more: str) -> subprocess.CompletedProcess[str]:
    words = {"llmrl": [sys.executable, "-m", "llmrl"], "python": [sys.executable]}[command[0]]
    environ = os.environ | {
        "PYTHONPATH": str(REPOSITORY), "LLMRL_CACHE": str(folder / "kept.sqlite3"), "OMP_NUM_THREADS": "1", **more,
    }  # fmt: skip
    return subprocess.run([*words, *command[1:]], cwd=folder, env=environ, capture_output=True, text=True)


def test_the_page_has_the_files_it_lists() -> None:
    assert set(FILES) == {
        "doors.py", "cliff.py", "mine/env/cliff.yaml", "hints.py", "fresh.py", "bag.py", "tabular.py", "run_doors.py",
        "mine/prior/fresh.yaml", "mine/encoder/bag.yaml", "mine/env/doors.yaml", "mine/prompt/terse.yaml",
        "mine/lm/hints.yaml", "mine/learner/tabular.yaml", "mine/learner/steady.yaml",
    }  # fmt: skip
    assert len(COMMANDS) == 10


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_page_runs(command: str, folder: Path) -> None:
    before = {p.name for p in folder.glob("runs/*-*")}
    done = run(folder, *command.split())
    assert done.returncode == 0, done.stderr + done.stdout
    made = [p for p in folder.glob("runs/*-*") if p.name not in before]
    assert len(made) == (2 if command.startswith("python") else 1)
    for path in made:
        assert json.loads((path / "summary.json").read_text())["status"] == "complete"
        rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
        assert len(rows) >= 2
        if "learner=tabular" in command:
            assert rows[-1]["loss/td"] > 0
            assert list((path / "checkpoints").glob("*/weights.safetensors"))
        if "hints" in command:
            assert rows[-1]["lm/distinct_prompts"] > 0


def test_a_model_of_ones_own_is_asked_once_and_says_what_it_cannot(folder: Path) -> None:
    (command,) = (c for c in COMMANDS if "hints" in c)
    computed = []
    for name in ("once", "again"):
        assert run(folder, *command.split(), f"paths.runs={name}").returncode == 0
        (path,) = folder.glob(f"{name}/*-*")
        computed.append(
            (json.loads((path / "cost.json").read_text())["lm/computed"], (path / "metrics.jsonl").read_text())
        )
    assert computed[1] == (0, computed[0][1])
    refused = run(folder, *command.split(), "prior=generated")
    assert refused.returncode == 1
    assert "hints only scores: use prior=sampled or prior=scored" in refused.stderr


STOPS = """
import os, signal
from fresh import Fresh

class Stops(Fresh):
    left = int(os.environ.get("STOP", "0"))

    def weights(self, states, use):
        self.left -= use == "behaviour"
        if self.left == 0 and use == "behaviour":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().weights(states, use)
"""


def test_a_prior_and_an_encoder_that_change_go_on_exactly(folder: Path, tmp_path: Path) -> None:
    """Typed elsewhere: one module lies beside the config folder, the other inside it."""
    mine = tmp_path / "there" / "mine"
    shutil.copytree(folder / "mine", mine)
    for module, place in (("fresh", mine.parent), ("bag", mine)):
        shutil.copy(folder / f"{module}.py", place)
    (mine / "stops.py").write_text(STOPS)
    (tmp_path / "elsewhere").mkdir()
    command = [
        "llmrl", "train", "--config-dir", str(mine), "env=overcooked_salad", "prior=fresh", "learner.priors=[fresh]",
        "prior._target_=stops.Stops", "encoder=bag", "env_steps=160",
        "learner.learning_starts=16", "learner.batch=8", "evaluation.every=80", "evaluation.episodes=2",
        "evaluation.exact_up_to=0", "checkpoint_every=16",
    ]  # fmt: skip
    kept = []
    for name, stops in (("whole", []), ("stopped", [5, 4, 7])):
        for decisions in stops:
            done = run(tmp_path / "elsewhere", *command, f"paths.runs={name}", STOP=str(decisions))
            assert done.returncode == -signal.SIGKILL, done.stderr
        done = run(tmp_path / "elsewhere", *command, f"paths.runs={name}")
        assert done.returncode == 0, done.stderr
        assert ("resumes from its checkpoint" in done.stdout) == bool(stops)
        (path,) = (tmp_path / "elsewhere").glob(f"{name}/*-*")
        kept.append(
            [
                (path / f).read_bytes()
                for f in ("metrics.jsonl", "episodes.jsonl", "checkpoints/160/weights.safetensors")
            ]
        )
    assert kept[0] == kept[1]


def test_weights_that_are_none_are_refused(folder: Path) -> None:
    (folder / "bad.py").write_text(
        "class Bad:\n    def __init__(self, *_): pass\n    def weights(self, states, use):\n"
        "        return [[-1.0] * len(s.actions) for s in states]\n"
    )
    command = next(c for c in COMMANDS if "prior=fresh" in c).split()
    refused = run(folder, *command, "prior._target_=bad.Bad", "paths.runs=bad")
    assert refused.returncode == 1
    assert "a weight of at least 0 is needed for each action" in refused.stderr
    assert "a prior of your own has source: own" in run(folder, *command, "prior.source=uniform").stderr


def test_a_world_with_a_model_is_evaluated_exactly_and_as_it_is_played(folder: Path) -> None:
    command = next(c for c in COMMANDS if "env=doors" in c).split()
    found = {}
    for name, setting in (("exact", "evaluation.exact_up_to=20000"), ("played", "evaluation.exact_up_to=0")):
        words = [word for word in command if not word.startswith("evaluation.episodes")]
        done = run(folder, *words, setting, "evaluation.episodes=400", f"paths.runs={name}")
        assert done.returncode == 0, done.stderr
        (path,) = folder.glob(f"{name}/*-*")
        found[name] = json.loads((path / "metrics.jsonl").read_text().splitlines()[-1])
    assert found["exact"]["eval/exact"]
    assert "eval/exact" not in found["played"]
    assert abs(found["exact"]["eval/length"] - found["played"]["eval/length"]) < 1.2  # four standard errors
    assert abs(found["exact"]["eval/success"] - found["played"]["eval/success"]) < 0.1


def test_a_world_of_ones_own_runs_in_workers(folder: Path) -> None:
    command = next(c for c in COMMANDS if "env=doors" in c).split()
    results = []
    for name in ("here", "workers"):
        done = run(folder, *command, f"paths.runs={name}", f"rollout.workers={2 * (name == 'workers')}")
        assert done.returncode == 0, done.stderr
        (path,) = folder.glob(f"{name}/*-*")
        results.append((path.name, (path / "metrics.jsonl").read_bytes(), (path / "episodes.jsonl").read_bytes()))
    assert results[0] == results[1]
