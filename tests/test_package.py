from __future__ import annotations

import subprocess
import sys
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


def test_unknown_names_are_unknown() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        llmrl.nonsense  # noqa: B018


def test_the_version_is_that_of_the_project_file() -> None:
    project = (Path(__file__).parent.parent / "pyproject.toml").read_text()
    assert f'\nversion = "{llmrl.__version__}"\n' in project
