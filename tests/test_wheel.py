"""The wheel, installed alone and used from another folder: no file of the checkout is missed. Needs no network."""

from __future__ import annotations

import os
import site
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent
SMALL = ["env=frozen_lake", "env_steps=32", "evaluation.every=16"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `llmrl` of an environment that has the wheel, and for all else what this one has."""
    root = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(root / "dist")]
    subprocess.run(build, cwd=REPOSITORY, check=True, capture_output=True)
    (wheel,) = (root / "dist").glob("*.whl")
    venv.create(root / "env")
    python = root / "env" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python]
    install = [*pip, "install", "--quiet", "--no-deps", "--no-index", wheel]
    subprocess.run(install, check=True, capture_output=True)
    (packages,) = (root / "env" / "lib").glob("python*/site-packages")
    (packages / "others.pth").write_text("\n".join([sysconfig.get_path("purelib"), *site.getsitepackages()]))
    return root / "env" / "bin" / "llmrl"


@pytest.mark.slow
def test_the_wheel_alone_trains_compares_and_tunes(installed: Path, tmp_path: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environ |= {"LLMRL_CACHE": str(tmp_path / "kept.sqlite3"), "OMP_NUM_THREADS": "1"}

    def run(*words: object) -> str:
        done = subprocess.run(list(map(str, words)), cwd=tmp_path, env=environ, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    where = run(installed.parent / "python", "-c", "import llmrl; print(llmrl.__file__, llmrl.__version__)").split()
    assert Path(where[0]).is_relative_to(installed.parent.parent)
    assert (Path(where[0]).parent / "py.typed").exists()
    assert run(installed.parent / "python", REPOSITORY / "tests" / "user_script.py", "of_a_script").endswith(
        "True 2 True\n"
    )
    run(installed, "train", "-m", *SMALL, "learner=dqn,random")
    run(installed, "train", *SMALL, "learner=dqn_prior")
    assert "random" in run(installed, "compare", "dqn", "--against", "random")
    task = ["--task", "env=overcooked_random env.split=dev env.index=3", "--seed", "0", "env_steps=16"]
    assert "best.yaml" in run(installed, "tune", "--space", "dqn", "--trials", "1", *task)
