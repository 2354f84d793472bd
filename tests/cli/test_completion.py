"""Version, help in groups, and what shells propose."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import llmrl
from llmrl.cli.main import app

REPOSITORY = Path(__file__).parent.parent.parent


def test_the_version_is_printed() -> None:
    done = CliRunner().invoke(app, ["--version"])
    assert done.exit_code == 0
    assert done.output.startswith(f"llmrl {llmrl.__version__}")
    assert ("commit" in done.output) == (REPOSITORY / ".git").exists()


def test_help_is_in_groups() -> None:
    said = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "80"}).output
    places = [said.index(f" {panel} ") for panel in ("Run", "Look", "Models and data", "Maintain")]
    assert places == sorted(places)
    assert said.index(" train ") < places[1] < said.index(" compare ") < places[2] < said.index(" serve ")


def proposed(shell: str, words: str, folder: Path) -> list[str]:
    """What `llmrl` proposes for the last of `words`; Bash splits them at `=`."""
    asked = {"_LLMRL_COMPLETE": f"complete_{shell}"}
    if shell == "bash":
        split = words.replace("=", " = ").strip()
        position = len(split.split()) - (not words.endswith(" "))
        asked |= {"COMP_WORDS": split, "COMP_CWORD": str(position)}
    else:
        asked |= {"_TYPER_COMPLETE_ARGS": words, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "llmrl"],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(REPOSITORY)} | asked, capture_output=True, text=True,
    )  # fmt: skip
    assert not [line for line in done.stderr.splitlines() if line.endswith((" torch", " transformers", " matplotlib"))]
    return [line.split("\t")[0] for line in done.stdout.splitlines()]


@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_groups_options_and_runs_are_proposed(shell: str, tmp_path: Path) -> None:
    (tmp_path / "runs" / "lake-dqn-uniform-s0-12345678").mkdir(parents=True)
    (tmp_path / "runs" / "lake-dqn-uniform-s0-12345678" / "summary.json").write_text("{}")
    (tmp_path / "runs" / "lake-notes").mkdir()
    whole = "" if shell == "bash" else "env="
    assert proposed(shell, "llmrl train le", tmp_path) == ["learner="]
    assert proposed(shell, "llmrl train env=overcooked_s", tmp_path) == [f"{whole}overcooked_salad"]
    assert f"{whole}frozen_lake" in proposed(shell, "llmrl train seed=1 env=", tmp_path)
    assert proposed(shell, "llmrl plot la", tmp_path) == ["lake-dqn-uniform-s0-12345678"]
    assert proposed(shell, "llmrl configs prior uniform_", tmp_path) == ["uniform_k"]
    assert "train" in proposed(shell, "llmrl tr", tmp_path)
