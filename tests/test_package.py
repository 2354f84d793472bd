from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import llmrl


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize("first", ["llmrl.train", "from llmrl.train import train"])
def test_train_is_a_function_whatever_was_imported_first(first: str) -> None:
    assert python(f"import llmrl; {first}; print(llmrl.train.__name__, callable(llmrl.train))") == "train True"


def test_compose_is_at_hand() -> None:
    assert llmrl.compose(["seed=3"]).seed == 3


@pytest.mark.parametrize(
    "order",
    [
        "import gymnasium; import llmrl",
        "import llmrl; import gymnasium",
        "import llmrl; from importlib.util import find_spec; find_spec('gymnasium'); import gymnasium",
    ],
)
def test_importing_the_package_registers_its_worlds(order: str) -> None:
    code = f"{order}; import sys; env = gymnasium.make('llmrl/FrozenLake-v0'); print(env.reset(seed=0)[0]['task'])"
    assert python(f"{code}; print('torch' in sys.modules)").splitlines()[1:] == ["False"]
    assert python("import llmrl, sys; print('gymnasium' in sys.modules)") == "False"


def test_what_the_package_offers_is_listed() -> None:
    assert {"compose", "join_runs", "load_runs", "train"} <= set(llmrl.__all__) <= set(dir(llmrl))
    assert all(getattr(llmrl, name) for name in llmrl.__all__)


def test_a_summary_names_its_folder_and_runs_are_read_back(tmp_path: Path) -> None:
    small = ["env=frozen_lake", "learner=random", "env_steps=8", f"paths.runs={tmp_path}"]
    summaries = [llmrl.train(llmrl.compose([*small, f"seed={seed}"])) for seed in (0, 1, 1)]
    runs = llmrl.load_runs(tmp_path)
    assert [summaries[i]["folder"] for i in (0, 1)] == [str(run.folder) for run in runs]
    assert summaries[2] == summaries[1] == {**runs[1].summary, "folder": str(runs[1].folder)}
    assert "folder" not in runs[1].summary
    assert runs[0].metrics["env_steps"].to_pylist() == [0, 8]
    assert runs[0].config["seed"] == 0
    assert [run.name for run in llmrl.load_runs(f"{tmp_path}/*-s1-*")] == [runs[1].name]
    assert llmrl.load_runs(runs[1].folder) == runs[1:]
    assert llmrl.load_runs(tmp_path / "none") == []


def test_unknown_names_are_unknown() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        llmrl.nonsense  # noqa: B018


def test_the_version_is_written_in_one_place() -> None:
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())
    assert "version" in project["project"]["dynamic"]
    assert project["tool"]["hatch"]["version"]["path"] == "llmrl/__init__.py"
