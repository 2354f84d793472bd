from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from llmrl.config.compose import compose
from llmrl.envs.alfworld import packages
from llmrl.envs.alfworld.packages import MissingPackages

ALL = {"alfworld": "0.4.2", "textworld": "1.7.0", "tatsu": "5.8.3", "fast-downward-textworld": "20.6.4"}


def install(monkeypatch: pytest.MonkeyPatch, found: dict[str, str]) -> None:
    def version(name: str) -> str:
        if name not in found:
            raise metadata.PackageNotFoundError(name)
        return found[name]

    monkeypatch.setattr(packages.metadata, "version", version)
    monkeypatch.setattr(packages.sys, "version_info", (3, 12, 0))


def test_without_the_extra_one_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, {name: version for name, version in ALL.items() if name != "tatsu"})
    with pytest.raises(MissingPackages, match=r"not installed \(tatsu\): pip install -e '.\[alfworld\]'"):
        packages.require()


@pytest.mark.parametrize(
    ("name", "version", "said"),
    [
        ("textworld", "1.6.2", "textworld 1.6.2 instead of 1.7.0"),
        ("tatsu", "5.9.0", "tatsu 5.9.0 instead of 5.8.3"),
        ("fast-downward-textworld", "20.6.5", "fast-downward-textworld 20.6.5 instead of 20.6.4"),
        ("alfworld", "0.3.5", "alfworld 0.3.5 instead of 0.4.x"),
    ],
)
def test_other_versions_are_named(name: str, version: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, ALL | {name: version})
    with pytest.raises(MissingPackages, match=said):
        packages.require()


def test_a_python_that_the_packages_do_not_run_on_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, ALL)
    assert packages.require() == ALL
    monkeypatch.setattr(packages.sys, "version_info", (3, 13, 0))
    with pytest.raises(MissingPackages, match=r"needs Python 3\.11 or 3\.12"):
        packages.require()


@pytest.mark.parametrize("task", ["pick", "examine", "clean", "heat", "cool", "pick_two", "mixed"])
def test_every_type_of_task_is_an_option(task: str) -> None:
    cfg = compose([f"env=alfworld/{task}", "learner=random"])
    assert (cfg.env.name, cfg.env.task, cfg.env.max_decisions) == (f"alfworld_{task}", task, 50)


def test_a_run_without_what_it_needs_ends_in_one_line(tmp_path: Path) -> None:
    """The data here, or the packages: whichever is missing first."""
    environ = {key: value for key, value in os.environ.items() if key != "ALFWORLD_DATA"} | {"HOME": str(tmp_path)}
    command = [sys.executable, "-m", "llmrl", "train", "env=alfworld/pick", "learner=random"]
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True)
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "pip install" in line or "alfworld-download" in line
    assert "Traceback" not in done.stderr
    assert not (tmp_path / ".cache" / "alfworld").exists()
