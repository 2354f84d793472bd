"""What `llmrl evaluate` plays, keeps, and finds again."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from eager import make_eager

from llmrl import evaluate as evaluations
from llmrl.config.compose import ConfigError, compose
from llmrl.core.files import read_lines
from llmrl.envs.pool import EnvPool, Outcome, Reset, Step
from llmrl.evaluate import Asked, plan, plan_all
from llmrl.evaluate import evaluate_run as evaluate_planned
from llmrl.run.evaluations import FOLDER, Judged
from llmrl.run.load import RunInfo, load_runs


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> list[RunInfo]:
    """Two seeds in two homes."""
    from llmrl.train import train

    root = tmp_path_factory.mktemp("trained")
    for seed in (0, 1):
        settings = [
            "learner=dqn", "env=household/pick", "env.split=train", "env.count=2", "env.max_decisions=6",
            "env_steps=48", "learner.learning_starts=16", "learner.batch=8", "evaluation.every=48",
            "evaluation.episodes=2", "encoder.history_turns=0", f"seed={seed}", f"paths.runs={root}",
        ]  # fmt: skip
        train(compose(settings))
    return load_runs(root)


def evaluate_run(run: RunInfo, asked: Asked) -> Judged:
    return evaluate_planned(plan(run, asked))


def rows(path: Path) -> list[dict[str, object]]:
    return list(read_lines(path / "episodes.jsonl"))


def test_each_task_is_played_so_often(trained: list[RunInfo]) -> None:
    asked = Asked(("env.split=valid_unseen", "env.index=3", "env.count=7"), per_task=5)
    judged = evaluate_run(trained[0], asked)
    tasks = Counter(row["task"] for row in rows(judged.path))
    assert tasks == {f"pick-valid_unseen-{3 + i}": 5 for i in range(7)}
    assert (judged.summary["tasks"], judged.summary["per_task"], judged.summary["policy"]) == (7, 5, "behaviour")
    assert judged.summary["success"] == sum(sum(own) for own in judged.success().values()) / 35
    assert judged.summary["length"] == sum(row["length"] for row in rows(judged.path)) / 35
    assert 0 < judged.summary["prior/coverage"] <= 1
    assert {p.name for p in judged.path.iterdir()} == {
        "config.yaml", "cost.json", "episodes.jsonl", "provenance.json", "summary.json",
    }  # fmt: skip


def test_there_are_a_hundred_episodes_where_nothing_is_computed(trained: list[RunInfo]) -> None:
    asked = Asked(("env.split=valid_unseen", "env.count=7", "env.max_decisions=2"))
    judged = evaluate_run(trained[0], asked)
    assert (judged.summary["tasks"], judged.summary["per_task"]) == (7, 15)
    assert len(rows(judged.path)) == 105
    assert not judged.exact


def test_success_is_computed_where_the_run_computes_it(tmp_path: Path) -> None:
    from llmrl.train import train

    settings = ["learner=random", "env=frozen_lake", "env_steps=16", f"paths.runs={tmp_path}"]
    summary = train(compose(settings))
    (run,) = load_runs(tmp_path)
    judged = evaluate_run(run, Asked())
    assert judged.exact
    assert {key: judged.summary[key] for key in ("success", "length")} == {
        key: summary["eval"][key] for key in ("success", "length")
    }
    assert list(judged.success().values()) == [[summary["eval"]["success"]]]
    assert rows(judged.path) == []
    assert evaluate_run(run, Asked()).summary == judged.summary
    played = evaluate_run(run, Asked(per_task=4))
    assert not played.exact
    assert len(rows(played.path)) == 4
    assert not evaluate_run(run, Asked(policy="expert")).exact


def test_it_is_told_how_many_prompts_are_asked_and_episodes_played(
    tmp_path: Path, llama_folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llmrl.train import train

    settings = ["learner=prior_only", "prior=scored", "env=frozen_lake", "env_steps=16", f"paths.runs={tmp_path}"]
    settings += ["lm=hf", f"lm.model={llama_folder}", "lm.device=cpu"]
    train(compose([*settings, "evaluation.episodes=1", f"paths.cache={tmp_path / 'kept.sqlite3'}"]))
    (run,) = load_runs(tmp_path)
    make_eager(monkeypatch, evaluations)
    said: list[str] = []
    anew = (f"paths.cache={tmp_path / 'anew.sqlite3'}",)
    assert evaluate_planned(plan(run, Asked(anew)), said.append).exact
    assert said[0] == "loading small-llama"
    assert re.fullmatch(r"0 of \d+ prompts asked of hf in 0:00", said[1])
    said.clear()
    evaluate_planned(plan(run, Asked(anew, per_task=4)), said.append)
    assert said[0] == f"0 of 4 episodes of {run.name} in 0:00"


def test_it_is_read_where_it_was_played(trained: list[RunInfo], monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(("env.index=9",), per_task=2)
    first = evaluate_run(trained[0], asked)
    before = rows(first.path)
    with monkeypatch.context() as m:
        m.setattr(evaluations, "play_out", lambda *a, **k: pytest.fail("it is played again"))
        assert evaluate_run(trained[0], asked).summary == first.summary
        assert evaluate_run(trained[0], Asked(("env.index=9", "threads=1"), per_task=2)).path == first.path
    (first.path / "summary.json").write_text("{")  # as a broken disk may leave it
    assert evaluate_run(trained[0], asked).summary == first.summary
    assert rows(first.path) == before


@pytest.mark.parametrize(
    "other",
    [
        Asked(("env.index=9", "seed=7"), per_task=2),
        Asked(("env.index=9", "learner.alpha_eval=3"), per_task=2),
        Asked(("env.index=9",), per_task=3),
        Asked(("env.index=9",), per_task=2, policy="greedy"),
        Asked(("env.index=10",), per_task=2),
    ],
)
def test_what_changes_a_result_changes_the_name(trained: list[RunInfo], other: Asked) -> None:
    assert evaluate_run(trained[0], other).path != evaluate_run(trained[0], Asked(("env.index=9",), per_task=2)).path


def test_runs_of_one_seed_meet_the_same_resets(
    trained: list[RunInfo], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that learners can be paired; another seed meets others."""
    from llmrl.train import train

    settings = ["learner=random", "env=household/pick", "env.split=train", "env.count=2", "env.max_decisions=6"]
    train(compose([*settings, "env_steps=8", "evaluation.episodes=1", f"paths.runs={tmp_path}"]))
    (other,) = load_runs(tmp_path)
    resets: list[list[Reset]] = []
    run = EnvPool.run

    def heard(self: EnvPool, commands: Sequence[Reset | Step]) -> list[Outcome]:
        resets[-1] += [c for c in commands if isinstance(c, Reset)]
        return run(self, commands)

    monkeypatch.setattr(EnvPool, "run", heard)
    for each in (trained[0], other, trained[1]):
        resets.append([])
        evaluate_run(each, Asked(("env.index=50", "env.count=3"), per_task=2))
    assert len(resets[0]) == 32
    assert resets[0] == resets[1]
    assert resets[0] != resets[2]


def test_nothing_of_the_run_is_touched(trained: list[RunInfo]) -> None:
    own = [p for p in trained[1].path.rglob("*") if p.is_file() and FOLDER not in p.parts]
    before = {p: p.read_bytes() for p in own}
    evaluate_run(trained[1], Asked(("env.index=20",), per_task=1))
    assert {p: p.read_bytes() for p in own} == before
    assert load_runs(trained[1].path.parent) == trained  # an evaluation is no run


def test_what_was_interrupted_leaves_nothing(trained: list[RunInfo], monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    before = sorted((trained[0].path / FOLDER).iterdir())
    monkeypatch.setattr(evaluations, "play_out", stop)
    with pytest.raises(KeyboardInterrupt):
        evaluate_run(trained[0], Asked(("env.index=30",), per_task=1))
    assert sorted((trained[0].path / FOLDER).iterdir()) == before


def test_a_run_that_learned_nothing_yet_says_so(trained: list[RunInfo], tmp_path: Path) -> None:
    from report.runs_on_disk import make_run

    run = make_run(tmp_path, ["learner=dqn", "env=overcooked_tomato"], lambda step: 0.0)
    with pytest.raises(ValueError, match="has no checkpoint yet"):
        evaluate_run(run, Asked())
    with pytest.raises(ValueError, match=f"1 of 3 runs have no checkpoint yet, such as {run.name}"):
        plan_all([*trained, run], Asked())


def test_what_was_learned_stays(trained: list[RunInfo]) -> None:
    with pytest.raises(ConfigError, match="too late to change"):
        evaluate_run(trained[0], Asked(("learner.lr=1",)))


def test_a_run_without_a_model_says_so(trained: list[RunInfo]) -> None:
    with pytest.raises(ConfigError, match="asks no model"):
        evaluate_run(trained[0], Asked(("lm.model=tiny-1",)))


def test_the_config_that_was_played_is_kept(trained: list[RunInfo]) -> None:
    judged = evaluate_run(trained[0], Asked(("env.index=9",), per_task=2))
    assert "index: 9" in (judged.path / "config.yaml").read_text()
    assert json.loads((judged.path / "provenance.json").read_text())["packages"]


def test_who_knows_the_way_is_held_to_what_is_proposed(trained: list[RunInfo]) -> None:
    """Over all actions it succeeds always; of one uniform draw it is seldom given the right one."""
    asked = ("env.max_decisions=50", "env.count=6")
    assert evaluate_run(trained[0], Asked(asked, 1, "expert")).summary["success"] == 1
    few = (*asked, "prior.evaluation.k=1")
    assert evaluate_run(trained[0], Asked(few, 1, "expert")).summary["success"] < 0.5
