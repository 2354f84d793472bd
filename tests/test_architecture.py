"""Dependencies point one way, and what must be light is light: by reading the imports of every file."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
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

# A folder, or build, and the folders it may import. A file at the top is a verb of the command line.
PARTS = {
    "core": set(),
    "schema": set(),
    "envs": {"core"},
    "lm": {"core"},
    "data": {"core"},
    "answers": {"core", "lm"},
    "models": {"core", "schema", "lm"},
    "encoders": {"core", "schema", "lm"},
    "prompts": {"core", "schema", "envs", "lm", "answers"},
    "learners": {"core", "schema", "data", "encoders"},
    "priors": {"core", "schema", "lm", "answers", "prompts"},
    "config": {"core", "schema", "lm", "models", "prompts", "answers", "data"},
    "launch": {"core"},
    "rollout": {"core", "schema", "envs", "data", "learners", "prompts", "priors"},
    "run": {"core", "schema", "config", "lm", "models", "answers", "data"},
    "loggers": {"core", "schema", "run"},
    "report": {"core", "config", "run", "data", "answers", "lm"},
    "build": {
        "core", "schema", "config", "envs", "lm", "answers", "encoders", "prompts", "priors", "learners", "data",
        "rollout", "run",
    },
    "training": {
        "core", "schema", "config", "envs", "lm", "answers", "encoders", "prompts", "priors", "learners", "data",
        "rollout", "run", "loggers", "report", "build",
    },
}  # fmt: skip
VERBS = {"train", "evaluate", "collect", "play", "query", "sweep", "reproduce", "doctor"}
ABOVE = {
    "tune": {*PARTS, "train", "studies"},
    "studies": {*PARTS, "train", "collect", "evaluate"},
    "cli": {*PARTS, *VERBS, "tune", "studies"},
    **{verb: {*PARTS, *VERBS} for verb in VERBS - {"reproduce"}},
    "reproduce": {*PARTS, "collect", "studies"},
}
ALLOWED = PARTS | ABOVE


def part(module: str) -> str:
    """The folder, or the file at the top, that a module is in."""
    return module.split(".")[1] if "." in module else ""


def imports(file: Path, at_the_top: bool = False, types: bool = True) -> Iterator[str]:
    """The modules a file imports; `at_the_top`: only those that importing the file loads; `types`: for types, too."""
    todo: list[ast.AST] = [ast.parse(file.read_text())]
    while todo:
        node = todo.pop()
        for_types = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        if (at_the_top and (isinstance(node, ast.FunctionDef) or for_types)) or (for_types and not types):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports of ours are absolute"
            assert node.module is not None
            modules = {f"{node.module}.{alias.name}" for alias in node.names}
            yield from {m if m in FILES else node.module for m in modules}
        todo += ast.iter_child_nodes(node)


@pytest.mark.parametrize("module", [module for module in FILES if module not in ("llmrl", "llmrl.__main__")])
def test_folders_import_one_way(module: str) -> None:
    """`llmrl` itself is its version and what a script imports."""
    ours = {part(name) for name in imports(FILES[module]) if name.split(".")[0] == "llmrl"} - {"", part(module)}
    assert ours - ALLOWED[part(module)] == set()


def test_the_rules_are_acyclic_and_about_every_part() -> None:
    verbs_alone = {name: parts - VERBS if name in VERBS else parts for name, parts in ALLOWED.items()}
    list(TopologicalSorter(verbs_alone).static_order())  # raises CycleError
    assert set(ALLOWED) == {part(module) for module in FILES} - {"", "__main__"}


def test_no_file_imports_itself_by_a_detour() -> None:
    """Imports within functions count, those for types alone do not."""
    edges = {module: set(imports(file, types=False)) & set(FILES) - {"llmrl"} for module, file in FILES.items()}
    list(TopologicalSorter({module: found - {module} for module, found in edges.items()}).static_order())


@pytest.mark.parametrize(
    "module", ["llmrl", "llmrl.cli.main", "llmrl.schema.run", "llmrl.envs", "llmrl.core.overrides"]
)
def test_nothing_heavy_is_imported_at_the_top(module: str) -> None:
    light = {name.split(".")[0] for name in imports(FILES[module], at_the_top=True)} & HEAVY
    assert light <= ({"gymnasium"} if module == "llmrl.envs" else set())


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("llmrl", HEAVY),
        ("llmrl.cli.main", HEAVY - {"rich"}),
        ("llmrl.config.compose", HEAVY - {"omegaconf"}),
        ("llmrl.envs", {"torch", "transformers", "matplotlib", "hydra"}),
        ("llmrl.report.tables", {"torch", "transformers", "matplotlib", "hydra"}),
        ("llmrl.run.load", {"torch", "transformers", "matplotlib", "hydra"}),
        ("llmrl.report.cache_tables", HEAVY - {"rich"}),
        ("llmrl.sweep", {"torch", "transformers", "matplotlib"}),
        ("llmrl.report.plots", {"torch", "transformers", "hydra"}),
        ("llmrl.report.compare_tables", {"torch", "transformers", "matplotlib", "hydra"}),
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
import llmrl.training.online
from llmrl.build import build_answers

build_answers(llmrl.compose(["env=frozen_lake", "learner=dqn_prior", f"paths.cache={sys.argv[1]}"]))
print("transformers" in sys.modules)
"""
    run = [sys.executable, "-c", code, str(tmp_path / "answers.sqlite3")]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]
