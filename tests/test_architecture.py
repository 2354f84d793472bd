"""Dependencies point one way, and what must be light is light: by reading the imports of every file."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "llmrl"
FILES = {
    ".".join(("llmrl", *f.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): f
    for f in sorted(PACKAGE.rglob("*.py"))
}
HEAVY = {
    "torch",
    "transformers",
    "tokenizers",
    "safetensors",
    "numpy",
    "gymnasium",
    "matplotlib",
    "pyarrow",
    "hydra",
    "omegaconf",
    "rich",
}

# layer -> the parts of llmrl it may import:
# cli -> train, evaluate -> learners, rollout -> priors, encoders, envs, data -> lm
ALLOWED = {
    "llmrl.envs": {"llmrl.envs"},
    "llmrl.schema": set(),
    "llmrl.lm": {"llmrl.lm", "llmrl.secrets"},
    "llmrl.models": {"llmrl.models", "llmrl.lm", "llmrl.overrides", "llmrl.schema"},
    "llmrl.encoders": {
        "llmrl.encoders", "llmrl.envs", "llmrl.schema", "llmrl.run.seeding", "llmrl.lm.identify", "llmrl.lm.load",
        "llmrl.lm.language_model", "llmrl.lm.proof",
    },
    "llmrl.priors": {"llmrl", "llmrl.priors", "llmrl.lm", "llmrl.envs", "llmrl.schema", "llmrl.run.seeding"},
    "llmrl.data": {
        "llmrl.data", "llmrl.envs", "llmrl.priors.candidates", "llmrl.run.files", "llmrl.run.seeding",
    },
    "llmrl.learners": {
        "llmrl.learners", "llmrl.data", "llmrl.encoders", "llmrl.envs", "llmrl.priors.candidates", "llmrl.schema",
        "llmrl.run.seeding",
    },
    "llmrl.rollout": {"llmrl.envs", "llmrl.data", "llmrl.priors.candidates", "llmrl.run.seeding"},
    "llmrl.pipeline": {"llmrl.data", "llmrl.rollout"},
    "llmrl.evaluate": {
        "llmrl.envs", "llmrl.rollout", "llmrl.priors.candidates", "llmrl.learners.learner", "llmrl.run.seeding",
    },
    "llmrl.secrets": set(),
    "llmrl.near": set(),
    "llmrl.overrides": {"llmrl.near", "llmrl.secrets"},
    "llmrl.unread": {"llmrl.schema", "llmrl.run.files", "llmrl.priors.prompt", "llmrl.data.files"},
    "llmrl.checks": {"llmrl.overrides", "llmrl.schema", "llmrl.unread", "llmrl.priors.prompt", "llmrl.lm.address"},
    "llmrl.config": {
        "llmrl.checks", "llmrl.overrides", "llmrl.unread", "llmrl.schema", "llmrl.lm.identify",
        "llmrl.lm.language_model", "llmrl.models.get", "llmrl.priors.cache_file", "llmrl.priors.kept",
        "llmrl.data.files", "llmrl.run.files",
    },
    "llmrl.progress": set(),
    "llmrl.run": {"llmrl", "llmrl.run", "llmrl.config", "llmrl.near", "llmrl.secrets"},
    "llmrl.tune": {
        "llmrl", "llmrl.tune", "llmrl.train", "llmrl.checks", "llmrl.config", "llmrl.overrides", "llmrl.unread",
        "llmrl.run", "llmrl.report.tables", "llmrl.progress",
    },
    "llmrl.report": {
        "llmrl.report", "llmrl.run", "llmrl.config", "llmrl.near", "llmrl.overrides", "llmrl.unread", "llmrl.progress",
        "llmrl.doctor", "llmrl.lm.identify", "llmrl.priors.kept", "llmrl.data",
    },
}  # fmt: skip


def imports(file: Path, at_the_top: bool = False) -> Iterator[str]:
    """The modules a file imports; `at_the_top`: only those that importing the file loads."""
    todo: list[ast.AST] = [ast.parse(file.read_text())]
    while todo:
        node = todo.pop()
        if at_the_top and (
            isinstance(node, ast.FunctionDef) or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test))
        ):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports of ours are absolute"
            assert node.module is not None
            modules = {f"{node.module}.{alias.name}" for alias in node.names}
            yield from {m if m in FILES else node.module for m in modules}
        todo += ast.iter_child_nodes(node)


def within(module: str, parts: set[str]) -> bool:
    """`llmrl` alone stands for the package itself, not for all that is in it."""
    return any(module == part or (part != "llmrl" and module.startswith(f"{part}.")) for part in parts)


@pytest.mark.parametrize("module", FILES)
def test_dependencies_point_one_way(module: str) -> None:
    layer = next((name for name in sorted(ALLOWED, key=len, reverse=True) if within(module, {name})), None)
    ours = {name for name in imports(FILES[module]) if name.split(".")[0] == "llmrl"}
    if layer is not None:
        assert {name for name in ours if not within(name, ALLOWED[layer])} == set()
    # Nothing imports the command line.
    assert module == "llmrl.__main__" or "llmrl.cli" not in ours
    assert within(module, {"llmrl.cli", "llmrl.commands"}) or not any(within(n, {"llmrl.commands"}) for n in ours)


def test_the_rules_are_about_layers_that_exist() -> None:
    assert {layer for layer in ALLOWED if not any(within(module, {layer}) for module in FILES)} == set()


@pytest.mark.parametrize("module", ["llmrl", "llmrl.cli", "llmrl.schema", "llmrl.envs", "llmrl.overrides"])
def test_nothing_heavy_is_imported_at_the_top(module: str) -> None:
    light = {name.split(".")[0] for name in imports(FILES[module], at_the_top=True)} & HEAVY
    assert light <= ({"gymnasium"} if module == "llmrl.envs" else set())


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("llmrl", HEAVY),
        ("llmrl.cli", HEAVY - {"rich"}),
        ("llmrl.config", HEAVY - {"omegaconf"}),
        ("llmrl.envs", {"torch", "transformers", "matplotlib", "hydra"}),
        ("llmrl.report.tables", {"torch", "transformers", "matplotlib", "hydra"}),
        ("llmrl.run.load", {"torch", "transformers", "matplotlib", "hydra"}),
        ("llmrl.report.kept", HEAVY - {"rich"}),
        ("llmrl.sweep", {"torch", "transformers", "matplotlib"}),
        ("llmrl.report.plots", {"torch", "transformers", "hydra"}),
        ("llmrl.report.comparison", {"torch", "transformers", "matplotlib", "hydra"}),
    ],
)
def test_importing_loads_nothing_heavy(module: str, absent: set[str]) -> None:
    code = f"import {module}, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not absent & set(done.stdout.split())


NEVER = {  # of a run that asks no model anew, and is too short to be drawn
    "huggingface_hub", "httpx2", "matplotlib", "optuna", "pandas", "pyarrow", "sklearn", "sympy", "tokenizers",
    "torch._dynamo", "torch._inductor", "transformers",
}  # fmt: skip
LEARNS = ["env=overcooked_tomato", "env.max_decisions=6", "env_steps=48", "evaluation.every=48"]
LEARNS += ["learner.learning_starts=8", "learner.batch=8"]
KEPT = [[], ["encoder=lm"], ["learner=drrn", "prior=scored", "learner.priors=[scored]"]]


@pytest.mark.slow
@pytest.mark.parametrize("settings", KEPT)
def test_a_run_whose_answers_are_kept_loads_what_it_computes_with(settings: list[str], tmp_path: Path) -> None:
    code = "import sys; from llmrl.__main__ import main; main()"
    told = "import atexit, sys; atexit.register(lambda: print(*sys.modules, file=sys.stderr)); "
    environ = {**os.environ, "LLMRL_CACHE": str(tmp_path / "answers.sqlite3")}
    for fill in (True, False):
        command = [sys.executable, "-c", code if fill else told + code, "train", *LEARNS, *settings, "--fresh"]
        done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=True)
    assert not NEVER & set(done.stderr.split())
    (run,) = tmp_path.glob("runs/*-s0-????????")
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["loss/td"] > 0
    assert last["lm/queries"] > 0
    assert json.loads((run / "cost.json").read_text())["lm/computed"] == 0


def test_a_model_that_is_not_asked_yet_imports_no_transformers(tmp_path: Path) -> None:
    """A run that has all its answers never asks, and the import takes about two seconds."""
    code = """
import sys
import llmrl.train
from llmrl.build import build_answers

build_answers(llmrl.compose(["env=frozen_lake", "learner=dqn_prior", f"paths.cache={sys.argv[1]}"]))
print("transformers" in sys.modules)
"""
    run = [sys.executable, "-c", code, str(tmp_path / "answers.sqlite3")]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]
