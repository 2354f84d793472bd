"""Whole runs: the same config is the same bytes, and what stops early leaves a folder that can be read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import worlds
from omegaconf import OmegaConf

import llmrl
from llmrl.config.compose import compose
from llmrl.core.files import read_lines
from llmrl.encoders.encoder import FeatureTable
from llmrl.encoders.hash import HashEncoder
from llmrl.envs.pool import WorldError
from llmrl.learners.dqn import DQN
from llmrl.report.progress import Progress, Silent
from llmrl.run.checkpoint import WEIGHTS, checkpoint_steps, read_about
from llmrl.run.load import RunInfo, load_runs
from llmrl.schema.run import EvaluationConfig
from llmrl.training.evaluator import evaluation_grid

GOLDEN_LM = Path(__file__).parent / "golden" / "lm"
SAME = ("metrics.jsonl", "episodes.jsonl", "summary.json")
SMALL = [
    "env=overcooked_tomato", "env_steps=200", "evaluation.every=100", "evaluation.episodes=4", "rollout.num_envs=6",
    "env.max_decisions=12", "lm=hf", f"lm.model={GOLDEN_LM}", "lm.device=cpu", "prompt=plain",
]  # fmt: skip
LEARNS = ["learner.learning_starts=40", "learner.batch=16", "learner.hidden=[32]", "encoder.dim=64"]
PLAYED = "evaluation.exact_up_to=0"
KINDS = {
    "dqn": ["learner=dqn", *LEARNS, PLAYED],
    "sampled": ["learner=dqn_prior", *LEARNS, PLAYED],
    "generated": ["learner=dqn_prior", "prior=generated", "prior.behaviour.redraw=visit", *LEARNS, PLAYED],
    "random": ["learner=random", PLAYED],
    "exact": ["learner=dqn_prior", *LEARNS, "evaluation.exact_up_to=20000", "encoder.history_turns=0"],
}


def trained(root: Path, *overrides: str, cache: Path | None = None) -> RunInfo:
    llmrl.train(compose([*SMALL, *overrides, f"paths.runs={root}", f"paths.cache={cache or root / 'kept.sqlite3'}"]))
    (run,) = load_runs(root)
    return run


def written(run: RunInfo) -> dict[str, Any]:
    """All that is a function of the config alone."""
    files: dict[str, Any] = {name: (run.path / name).read_bytes() for name in SAME}
    for step in checkpoint_steps(run.path):
        about = read_about(run.path / "checkpoints" / str(step))
        about["logs"].pop("timing.jsonl")
        files[f"checkpoints/{step}"] = about  # with the checksums of all that the checkpoint held
        files[f"checkpoints/{step}/weights"] = (run.path / "checkpoints" / str(step) / WEIGHTS).read_bytes()
    return files


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunInfo]:
    root = tmp_path_factory.mktemp("reference")
    return {kind: trained(root / kind, *overrides) for kind, overrides in KINDS.items()}


# ---- the same --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_config_is_the_same_bytes(kind: str, reference: dict[str, RunInfo], tmp_path: Path) -> None:
    again = trained(tmp_path / "again", *KINDS[kind])  # a cold cache
    assert again.name == reference[kind].name
    assert written(again) == written(reference[kind])
    assert again.cost["lm/computed"] == reference[kind].cost["lm/computed"]


@pytest.mark.parametrize("kind", ["sampled", "generated"])
def test_a_warm_cache_changes_nothing_and_asks_nothing(
    kind: str, reference: dict[str, RunInfo], tmp_path: Path
) -> None:
    cold = reference[kind]
    warm = trained(tmp_path / "warm", *KINDS[kind], cache=cold.path.parent / "kept.sqlite3")
    assert written(warm) == written(cold)
    assert cold.cost["lm/computed"] > 0
    assert (warm.cost["lm/computed"], warm.cost["lm/calls"]) == (0, 0)


def test_a_cache_that_another_seed_warmed_changes_nothing(reference: dict[str, RunInfo], tmp_path: Path) -> None:
    cache = tmp_path / "shared.sqlite3"
    trained(tmp_path / "other", *KINDS["sampled"], "seed=1", cache=cache)
    half_warm = trained(tmp_path / "same", *KINDS["sampled"], cache=cache)
    assert half_warm.cost["lm/cache_hits"] > 0
    assert half_warm.cost["lm/computed"] > 0
    assert written(half_warm) == written(reference["sampled"])


@pytest.mark.parametrize("kind", ["dqn", "sampled", "random"])
def test_another_seed_is_another_run(kind: str, reference: dict[str, RunInfo], tmp_path: Path) -> None:
    other = trained(tmp_path, *KINDS[kind], "seed=1", cache=reference["sampled"].path.parent / "kept.sqlite3")
    assert other.name != reference[kind].name
    assert written(other)["episodes.jsonl"] != written(reference[kind])["episodes.jsonl"]


def test_rows_add_up(reference: dict[str, RunInfo]) -> None:
    for run in reference.values():
        rows, episodes = run.metrics, list(read_lines(run.path / "episodes.jsonl"))
        assert [row["env_steps"] for row in rows] == [0, 102, 200]  # six at a time, and no decision too many
        assert rows[-1]["episodes"] == len(episodes)
        assert run.status == "complete"
        assert run.summary["eval"]["success"] == rows[-1]["eval/success"]
        assert run.summary["eval_greedy"]["length"] == rows[-1]["eval_greedy/length"]
        for row, before in zip(rows[1:], rows, strict=False):
            new = [e for e in episodes if before["env_steps"] < e["env_steps"] <= row["env_steps"]]
            assert row["train/success"] == pytest.approx(sum(e["success"] for e in new) / len(new))
            assert row["train/return"] == pytest.approx(sum(e["return"] for e in new) / len(new))
        assert sum(e["length"] for e in episodes) <= 200


# ---- a finished run --------------------------------------------------------------------------------------------------


class Heard(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.rows: list[dict[str, Any]] = []
        self.ended: dict[str, Any] = {}

    def note(self, text: str) -> None:
        self.notes.append(text)

    def show_evaluation(self, row: dict[str, Any]) -> None:
        self.rows.append(row)

    def done(self, summary: dict[str, Any], cost: dict[str, Any], paths: Any) -> None:
        self.ended = summary


def test_a_finished_run_returns_its_summary_without_computing(
    reference: dict[str, RunInfo], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, heard = reference["sampled"], Heard()
    before = {p: p.stat().st_mtime_ns for p in run.path.rglob("*") if p.is_file()}
    monkeypatch.setattr("llmrl.rollout.rollout.Rollout.tick", lambda *_: pytest.fail("computed"))
    kept = run.path.parent / "kept.sqlite3"
    cfg = compose([*SMALL, *KINDS["sampled"], f"paths.runs={run.path.parent}", f"paths.cache={kept}"])
    summary = llmrl.train(cfg, heard)
    assert heard.ended == json.loads((run.path / "summary.json").read_text())
    assert summary == {**heard.ended, "folder": str(run.path)}
    assert heard.rows == []
    assert "is complete: nothing to compute" in heard.notes[0]
    assert {p: p.stat().st_mtime_ns for p in run.path.rglob("*") if p.is_file()} == before


def test_a_reporter_hears_every_row(tmp_path: Path) -> None:
    heard = Heard()
    cfg = compose([*SMALL, *KINDS["random"], f"paths.runs={tmp_path}"])
    summary = llmrl.train(cfg, heard)
    (run,) = load_runs(tmp_path)
    assert heard.rows == run.metrics
    assert heard.ended == run.summary
    assert summary == {**run.summary, "folder": str(run.path)}


# ---- what stops early ------------------------------------------------------------------------------------------------


def foreign(root: Path, target: str) -> Any:
    (root / "mine" / "env").mkdir(parents=True, exist_ok=True)
    (root / "mine" / "env" / "mine.yaml").write_text(f"_target_: {target}\nname: mine\n")
    small = [o for o in SMALL if not o.startswith("env")]
    return compose([*small, "env_steps=64", "env=mine", "learner=random", f"paths.runs={root / 'runs'}"], root / "mine")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_failing_world_fails_the_run_and_says_so(workers: int, tmp_path: Path) -> None:
    cfg = foreign(tmp_path, "worlds.Fragile").copy()
    cfg._set_flag("readonly", False)
    cfg.rollout.workers = workers
    with pytest.raises(WorldError, match="raised ZeroDivisionError: the world has no west") as caught:
        llmrl.train(cfg)
    (run,) = load_runs(tmp_path / "runs")
    assert run.status == "failed"
    assert any(str(run.path / "log.txt") in note for note in caught.value.__notes__)
    log = (run.path / "log.txt").read_text()
    assert "WorldError" in log
    assert worlds.__file__ in log
    assert {"config.yaml", "provenance.json", "cost.json"} <= {p.name for p in run.path.iterdir()}
    assert "eval" not in run.summary


@pytest.mark.parametrize("workers", [0, 1])
def test_what_a_world_is_made_of_is_kept_and_its_note_is_passed_on(workers: int, tmp_path: Path) -> None:
    cfg = foreign(tmp_path, "worlds.Dated").copy()
    cfg._set_flag("readonly", False)
    cfg.rollout.workers = workers
    llmrl.train(cfg)
    (run,) = load_runs(tmp_path / "runs")
    assert run.provenance["world"] == {"data": "of today"}
    assert worlds.Dated.note in (run.path / "log.txt").read_text()


class Interrupted(Silent):
    def __init__(self, at: int) -> None:
        self.at = at

    def progress(self, p: Progress) -> None:
        if p.env_steps >= self.at:
            raise KeyboardInterrupt


@pytest.mark.parametrize("workers", [0, 1])
def test_ctrl_c_leaves_a_folder_to_read_and_the_same_command_runs_again(
    workers: int, reference: dict[str, RunInfo], tmp_path: Path
) -> None:
    cfg = compose(
        [
            *SMALL,
            *KINDS["sampled"],
            f"rollout.workers={workers}",
            f"paths.runs={tmp_path}",
            f"paths.cache={tmp_path / 'kept'}",
        ]
    )
    with pytest.raises(KeyboardInterrupt):
        llmrl.train(cfg, Interrupted(at=130))
    (run,) = load_runs(tmp_path)
    assert run.status == "stopped"
    assert [row["env_steps"] for row in run.metrics] == [0, 102]
    whole = written(reference["sampled"])
    for name in ("metrics.jsonl", "episodes.jsonl"):
        part = (run.path / name).read_bytes()
        assert part
        assert whole[name].startswith(part)
    assert run.cost["lm/computed"] > 0
    assert run.cost["seconds"] > 0

    heard = Heard()
    llmrl.train(cfg, heard)
    assert not any("goes on" in note for note in heard.notes)  # it had no checkpoint yet
    (again,) = load_runs(tmp_path)
    assert written(again) == whole
    assert again.cost["attempts"] == 2
    assert again.cost["lm/computed"] == reference["sampled"].cost["lm/computed"]  # of both; nothing was asked twice


def test_a_model_that_is_not_there_is_said_before_anything_is_made(tmp_path: Path) -> None:
    cfg = compose([o for o in SMALL if not o.startswith("lm.model")] + ["lm.model=./nowhere", f"paths.runs={tmp_path}"])
    with pytest.raises(ValueError, match=r"\./nowhere.*type lm\.model=FOLDER"):
        llmrl.train(cfg)
    assert list(tmp_path.iterdir()) == []


def test_evaluations_fall_on_multiples_or_on_a_logarithmic_grid() -> None:
    linear = evaluation_grid(EvaluationConfig(every=50))
    assert [next(linear) for _ in range(4)] == [50, 100, 150, 200]
    log = evaluation_grid(EvaluationConfig(every=100, grid="log", per_doubling=2))
    assert [next(log) for _ in range(6)] == [100, 141, 200, 283, 400, 566]
    dense = evaluation_grid(EvaluationConfig(every=1, grid="log", per_doubling=8))
    points = [next(dense) for _ in range(100)]
    assert points == sorted(points)
    assert points[-1] > 5000


def test_a_run_is_evaluated_where_its_grid_says_at_its_start_and_at_its_end(tmp_path: Path) -> None:
    overrides = ["learner=random", "env=overcooked_tomato", "env_steps=200", "rollout.num_envs=4"]
    grid = ["evaluation.every=20", "evaluation.grid=log", "evaluation.per_doubling=1"]
    llmrl.train(llmrl.compose([*overrides, *grid, f"paths.runs={tmp_path}"]))
    (run,) = load_runs(tmp_path)
    assert [row["env_steps"] for row in run.metrics] == [0, 20, 40, 80, 160, 200]


@pytest.mark.parametrize("pipeline", [False, True])
def test_a_run_ends_with_its_last_episode_or_its_last_decision(pipeline: bool, tmp_path: Path) -> None:
    few = [f"rollout.pipeline={str(pipeline).lower()}", "learner=random", PLAYED]
    run = trained(tmp_path / "episodes", *few, "episodes=8")
    assert run.metrics[-1]["episodes"] >= 8
    before = [row for row in read_lines(run.path / "episodes.jsonl") if row["env_steps"] < run.summary["env_steps"]]
    assert len(before) < 8
    assert run.summary["env_steps"] < 200
    assert (run.path / "checkpoints" / str(run.summary["env_steps"])).is_dir()
    many = trained(tmp_path / "decisions", *few, "episodes=100")
    assert many.summary["env_steps"] == 200
    assert trained(tmp_path / "all", *few).metrics == many.metrics


@pytest.mark.parametrize(
    ("learner", "rounds", "first", "episodes"),
    [("dqn_prior_paper", 39, 6, 200), ("dqn_prior_paper_salad", 56, 21, 300)],
)
def test_the_papers_presets_learn_as_often_as_the_papers_code(
    learner: str, rounds: int, first: int, episodes: int
) -> None:
    """40 gradient steps a round: 1,560 on tomato, 2,240 on salad."""
    cfg = compose([f"learner={learner}", "lm=tiny"])
    assert (cfg.episodes, cfg.learner.updates) == (episodes, 40)
    settings: Any = OmegaConf.to_object(cfg)
    agent = DQN(settings.learner, 0, FeatureTable(HashEncoder(settings.encoder)))
    learned_after = []
    for agent.episodes in range(1, episodes + 1):
        before = agent.rounds
        agent.update()
        learned_after += [agent.episodes] * (agent.rounds - before)
    assert learned_after == list(range(first, episodes + 1, 5))
    assert len(learned_after) == rounds
