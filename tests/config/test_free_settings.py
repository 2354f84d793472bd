"""Settings that are said to change no result: each is changed on a small run, and no byte of the results differs.

A setting that changes the order of a sum may change its last bits, and nothing that is counted.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from small_server import SmallServer

import llmrl
from llmrl.config.compose import compose
from llmrl.core.files import read_lines
from llmrl.encoders.hash import HashEncoder
from llmrl.learners.weights import network, write_weights
from llmrl.lm import serve
from llmrl.lm.transformers_lm import TransformersLM
from llmrl.run.identity import identify_run
from llmrl.run.load import RunInfo, load_runs
from llmrl.run.provenance import machine, provenance
from llmrl.schema.encoders import EncoderConfig
from tests.rounding import differences
from tests.schemas import schemas

GOLDEN_LM = Path(__file__).parents[1] / "golden" / "lm"
SMALL = [
    "env=overcooked_tomato", "env_steps=96", "evaluation.every=48", "evaluation.episodes=2", "rollout.num_envs=4",
    "env.max_decisions=12", "evaluation.exact_up_to=0",
]  # fmt: skip
LM = ["lm=hf", f"lm.model={GOLDEN_LM}", "lm.device=cpu"]
LEARNS = ["learner.learning_starts=20", "learner.batch=8"]
DATA = [
    f"data={GOLDEN_LM.parent / 'tomato.parquet'}", "data.size=60", "learner.gradient_steps=96", "learner.batch=4",
    "learner.hidden=[4]", "encoder.dim=8",
]  # fmt: skip
SERVED = ["lm=vllm", f"lm.model={GOLDEN_LM}", "lm.dtype=float32", "lm.url=URL"]
BASES = {
    "prior": ["learner=dqn_prior", *LM, *LEARNS, "learner.hidden=[16]", "encoder.dim=16"],
    "served": ["learner=dqn_prior", *SERVED, *LEARNS, "learner.hidden=[16]", "encoder.dim=16"],
    "encoder": [
        "learner=dqn", *LEARNS, "learner.hidden=[16]", "encoder=lm", f"encoder.model={GOLDEN_LM}", "encoder.device=cpu",
    ],
    "random": ["learner=random"],
    "drrn": ["learner=drrn", *LEARNS, "learner.hidden=8", "learner.embedding=8"],
    "cql": ["learner=cql", *DATA],
    "iql": ["learner=iql", *DATA],
    "bc": ["learner=bc", "learner.hidden=[16]", "encoder.dim=16", "learner.weights=WEIGHTS"],
}  # fmt: skip


class Case(NamedTuple):
    base: str
    key: str
    value: object
    warm: bool = False  # with the answers that the base was given: what is free is how they are computed
    rounds: bool = False  # in another order: on some processors more threads add a sum up in other parts


MORE_PRIORS = ["uniform", "sampled", "scored"]
CASES = {
    ("TrainConfig", "checkpoint_every"): Case("prior", "checkpoint_every", 30),
    ("TrainConfig", "threads"): Case("prior", "threads", 2, rounds=True),
    ("TrainConfig", "progress"): Case("prior", "progress", False),
    ("TrainConfig", "strict"): Case("cql", "strict", True),
    ("TrainConfig", "cached_only"): Case("prior", "cached_only", True, warm=True),
    ("TrainConfig", "logger"): Case("prior", "logger", {"tensorboard": {"folder": "events"}}),
    ("TrainConfig", "paths"): Case("prior", "paths", {"runs": "elsewhere", "cache": None}),
    ("PathsConfig", "runs"): Case("random", "paths.runs", "elsewhere"),
    ("PathsConfig", "config_dir"): Case("random", "paths.config_dir", "elsewhere"),
    ("PathsConfig", "cache"): Case("encoder", "paths.cache", "elsewhere.sqlite3"),
    ("RolloutConfig", "workers"): Case("random", "rollout.workers", 2),
    ("TransformersLMConfig", "name"): Case("prior", "lm.name", "other"),
    ("TransformersLMConfig", "device"): Case("prior", "lm.device", "auto"),
    ("TransformersLMConfig", "batch_size"): Case("prior", "lm.batch_size", 5, warm=True),  # padding may round
    ("OpenAILMConfig", "name"): Case("served", "lm.name", "other"),
    ("OpenAILMConfig", "url"): Case("served", "lm.url", "URL/"),
    ("OpenAILMConfig", "served_name"): Case("served", "lm.served_name", "lm"),
    ("OpenAILMConfig", "api_key_env"): Case("served", "lm.api_key_env", "PATH"),
    ("OpenAILMConfig", "allow_http"): Case("served", "lm.allow_http", True),
    ("OpenAILMConfig", "concurrency"): Case("served", "lm.concurrency", 1),
    ("OpenAILMConfig", "attempt_s"): Case("served", "lm.attempt_s", 60.0),
    ("OpenAILMConfig", "patience_s"): Case("served", "lm.patience_s", 60.0),
    ("OpenAILMConfig", "probe_tolerance"): Case("served", "lm.probe_tolerance", 0.5),
    ("OpenAILMConfig", "serve"): Case("served", "lm.serve", "tiny-1"),  # its server is started beforehand
    ("OpenAILMConfig", "serve_env"): Case("served", "lm.serve_env", "elsewhere"),
    ("PromptConfig", "id"): Case("prior", "prompt.id", "other"),
    ("EncoderConfig", "name"): Case("cql", "encoder.name", "other"),
    ("ModelEncoderConfig", "name"): Case("encoder", "encoder.name", "other"),
    ("ModelEncoderConfig", "device"): Case("encoder", "encoder.device", "auto"),
    ("NoLearnerConfig", "priors"): Case("random", "learner.priors", MORE_PRIORS),
    ("DQNConfig", "priors"): Case("prior", "learner.priors", MORE_PRIORS),
    ("DRRNConfig", "priors"): Case("drrn", "learner.priors", MORE_PRIORS),
    ("CQLConfig", "priors"): Case("cql", "learner.priors", MORE_PRIORS),
    ("IQLConfig", "priors"): Case("iql", "learner.priors", MORE_PRIORS),
    ("BCConfig", "priors"): Case("bc", "learner.priors", MORE_PRIORS),
}


def test_every_setting_that_is_called_free_is_changed_here() -> None:
    free = {
        (schema.__name__, f.name)
        for schema in schemas()
        for f in fields(schema)
        if not f.metadata.get("affects_result", True)
    }
    assert free == set(CASES)


def trained(folder: Path, cfg: DictConfig, monkeypatch: pytest.MonkeyPatch) -> RunInfo:
    folder.mkdir(exist_ok=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("LLMRL_CACHE", "kept.sqlite3")
    llmrl.train(cfg)
    (run,) = load_runs(folder / cfg.paths.runs)
    return run


def results(run: RunInfo) -> dict[str, bytes]:
    files = [run.path / name for name in ("metrics.jsonl", "episodes.jsonl", "summary.json")]
    return {p.name: p.read_bytes() for p in [*files, run.path / "checkpoints" / "96" / "weights.safetensors"]}


@pytest.fixture(scope="module")
def server() -> Iterator[SmallServer]:
    with SmallServer(TransformersLM(str(GOLDEN_LM), device="cpu")) as server:
        yield server


@pytest.fixture(scope="module")
def based(tmp_path_factory: pytest.TempPathFactory, server: SmallServer) -> Callable[[str], tuple[DictConfig, RunInfo]]:
    root = tmp_path_factory.mktemp("bases")
    made: dict[str, tuple[DictConfig, RunInfo]] = {}

    def base(name: str) -> tuple[DictConfig, RunInfo]:
        if name not in made:
            encoder = EncoderConfig("hash", "hash", dim=16)
            write_weights(root / "net", network(16, [16]), "policy", HashEncoder(encoder), [16], {})
            overrides = [o.replace("WEIGHTS", str(root / "net")).replace("URL", server.url) for o in BASES[name]]
            cfg = compose([*SMALL, *overrides])
            with pytest.MonkeyPatch.context() as patch:
                made[name] = cfg, trained(root / name, cfg, patch)
        return made[name]

    return base


@pytest.mark.parametrize("case", CASES.values(), ids=map(".".join, CASES))
def test_a_free_setting_changes_no_byte(
    case: Case,
    based: Callable[[str], tuple[DictConfig, RunInfo]],
    server: SmallServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if case.value == "auto" and torch.cuda.is_available():
        pytest.skip("another device rounds differently; its answers say where they come from")
    cfg, run = based(case.base)
    other = cfg.copy()
    OmegaConf.set_readonly(other, False)
    value = case.value.replace("URL", server.url) if isinstance(case.value, str) else case.value
    OmegaConf.update(other, case.key, value)
    assert OmegaConf.select(other, case.key) != OmegaConf.select(cfg, case.key)
    assert identify_run(other).name == identify_run(cfg).name
    if case.key == "lm.serve":
        monkeypatch.setenv(serve.URLS, json.dumps({serve.served_by(other): server.url}))
        monkeypatch.setenv(serve.PROCESSES, json.dumps({server.url: [os.getpid(), "log.txt"]}))
    if case.warm:
        (tmp_path / "kept.sqlite3").write_bytes((run.path.parent.parent / "kept.sqlite3").read_bytes())
    again = trained(tmp_path, other, monkeypatch)
    if case.rounds:
        for name in ("metrics.jsonl", "episodes.jsonl"):
            assert differences(list(read_lines(again.path / name)), list(read_lines(run.path / name))) == []
    else:
        assert results(again) == results(run)


def test_threads_are_part_of_the_machine_that_a_resumed_run_is_held_to() -> None:
    """On more threads a large sum may be added in another order."""
    cfgs = [compose(["learner=random", f"threads={n}"]) for n in (1, 2)]
    one, two = (machine(provenance(cfg, identify_run(cfg))) for cfg in cfgs)
    assert {key for key in one if one[key] != two[key]} == {"threads"}
