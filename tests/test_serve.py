"""`lm.serve`: whatever asks a model starts its server, once for all that share it, and ends it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from small_server import ModelBackend, SmallServer
from typer.testing import CliRunner

import llmrl
from llmrl.cli.main import app
from llmrl.config.compose import ConfigError, compose
from llmrl.data.files import read
from llmrl.lm import serve, vllm
from llmrl.lm.transformers_lm import TransformersLM
from llmrl.report import plots
from llmrl.run.folder import Paused
from llmrl.run.load import load_runs

GOLDEN_LM = Path(__file__).parent / "golden" / "lm"
WORLD = ["env=overcooked_tomato", "env.max_decisions=8"]
MODEL = ["lm=vllm", f"lm.serve={GOLDEN_LM}", "lm.dtype=float32", "prior=sampled"]
RUN = [
    "env_steps=16", "rollout.num_envs=4", "evaluation.every=8", "evaluation.episodes=2", "evaluation.exact_up_to=0",
    "progress=false", "learner.learning_starts=8", "learner.batch=4", "learner.hidden=[4]", "encoder.dim=8",
]  # fmt: skip


class Started:
    """Stands for vLLM: which models were started, and how many servers run now."""

    def __init__(self, url: str) -> None:
        self.url, self.models, self.running = url, list[str](), 0

    @contextmanager
    def serving(self, found: object, what: vllm.Serving, *_: object, **__: object) -> Iterator[vllm.Server]:
        self.models.append(what.model)
        self.running += 1
        try:
            yield vllm.Server(self.url, "lm", "float32", Path("log"), SimpleNamespace(pid=os.getpid()))  # type: ignore[arg-type]
        finally:
            self.running -= 1

    def since(self) -> int:
        """How many were started since this was asked last; none runs any more."""
        assert self.running == 0
        many = len(self.models)
        self.models.clear()
        return many


@pytest.fixture(scope="module")
def backend() -> ModelBackend:
    return ModelBackend(TransformersLM(str(GOLDEN_LM), device="cpu"))


@pytest.fixture
def server(backend: ModelBackend) -> Iterator[SmallServer]:
    with SmallServer(backend) as server:
        yield server


@pytest.fixture
def started(server: SmallServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Started:
    """In a folder of its own, with a cache of its own."""
    started = Started(server.url)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LLMRL_CACHE", str(tmp_path / "kept.sqlite3"))
    monkeypatch.setattr(vllm, "serving", started.serving)
    monkeypatch.setattr(vllm, "find_vllm", lambda environment: None)
    monkeypatch.setattr(plots, "run_curve", lambda path: None)
    return started


def typed(*words: str) -> None:
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output


def test_training_starts_its_server_and_ends_it(started: Started, server: SmallServer) -> None:
    cfg = compose([*WORLD, *MODEL, *RUN, "lm.patience_s=0.01"])
    server.misbehave("503", times=10**4, after=3)
    with pytest.raises(Paused):
        llmrl.train(cfg)
    assert started.since() == 1
    server.behave()
    assert llmrl.train(cfg)["status"] == "complete"
    assert started.since() == 1
    llmrl.train(cfg)
    Path("runs").rename("earlier")
    llmrl.train(compose([*WORLD, *MODEL, *RUN, "cached_only=true"]))
    assert started.since() == 0  # for what is finished, and for what computes no answer
    llmrl.train(cfg, fresh=True)
    assert started.since() == 1


def test_what_is_missing_is_refused_before_the_server_starts(started: Started) -> None:
    for missing in ("lm.api_key_env=NO_SUCH_KEY", "rollout.num_envs=64"):
        with pytest.raises(ConfigError):
            llmrl.train(compose([*WORLD, *MODEL, *RUN, missing]))
    assert started.since() == 0
    assert not list(Path("runs").glob("*"))


def test_the_server_starts_before_torch_is_loaded(tmp_path: Path) -> None:
    code = """
import sys
import llmrl
from llmrl.lm import vllm

def find_vllm(environment):
    raise ValueError(f"torch: {'torch' in sys.modules}")

vllm.find_vllm = find_vllm
llmrl.train(llmrl.compose(sys.argv[1:]))
"""
    command = [sys.executable, "-c", code, *WORLD, *MODEL, *RUN]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == "ValueError: torch: False"


def test_collecting_and_evaluating_start_one_server_for_all(started: Started) -> None:
    for seed in (0, 1):
        llmrl.train(compose([*WORLD, *MODEL, *RUN, f"seed={seed}"]))
    assert started.since() == 2
    first, *_ = (run.name for run in load_runs(Path("runs")))
    others = "paths.cache=others.sqlite3"
    for servers in (1, 0):  # the second time it is done already
        typed("collect", *WORLD, *MODEL, *RUN, others, "out=few.parquet", "size=20", f"mix=prior,{first}")
        assert started.since() == servers
    assert len(read(Path("few.parquet"))) == 20
    for servers in (1, 0):
        typed("evaluate", "runs/*", "env.max_decisions=6", others, "--episodes", "1")
        assert started.since() == servers


def test_a_game_and_a_question_have_their_server(started: Started) -> None:
    typed("play", *WORLD, *MODEL, "--auto", "--steps", "1")
    assert started.since() == 1
    typed("lm", "score", *WORLD, *MODEL)
    assert started.since() == 1


def test_a_game_that_does_not_begin_ends_its_server(started: Started) -> None:
    done = CliRunner().invoke(app, ["play", *WORLD, *MODEL, "--auto", "prior.max_tokens=0"])
    assert done.exit_code == 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("llmrl.play.build_env", lambda cfg: 1 / 0)
        assert CliRunner().invoke(app, ["play", *WORLD, *MODEL, "--auto"]).exit_code == 1
    assert started.since() == 1


@pytest.mark.slow
def test_a_search_starts_one_server_for_all_trials(started: Started) -> None:
    space = {
        "description": "small",
        "overrides": [*RUN, *MODEL, "learner=dqn_prior"],
        "tasks": ["env=overcooked_random env.ingredients=1 env.max_decisions=8"],
        "seeds": [100, 101],
        "trials": 2,
        "parameters": {"learner.n_step": {"low": 1, "high": 3}},
    }
    Path("small.yaml").write_text(yaml.safe_dump(space))
    for servers in (1, 0):
        typed("tune", "--space", "small.yaml", "--out", "found")
        assert started.since() == servers
    assert serve.URLS not in os.environ


@pytest.mark.parametrize("command", ["study", "sweep"])
@pytest.mark.slow
def test_processes_share_a_server(command: str, started: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    overrides = [word for word in (*WORLD, *MODEL, *RUN) if word != "progress=false"]  # which a study adds
    Path("small.yaml").write_text(yaml.safe_dump({"seeds": 2, "common": overrides, "arms": {"one": []}}))
    for servers in (1, 0):
        if command == "study":
            typed("reproduce", "small.yaml", "--jobs", "2")
        else:
            typed("train", "-m", *overrides, "seed=0,1", "--jobs", "2")
        assert started.since() == servers
    runs = Path("runs/small" if command == "study" else "runs")
    assert [run.status for run in load_runs(runs)] == ["complete", "complete"]
