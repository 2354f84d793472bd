from __future__ import annotations

import importlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import worlds

import llmrl
from llmrl.config.compose import compose
from llmrl.core.candidates import Candidates
from llmrl.core.files import read_lines
from llmrl.core.state import TextState
from llmrl.envs.pool import EnvPool
from llmrl.learners.prior_only import PriorOnly
from llmrl.priors.prior import Prior
from llmrl.rollout.episodes import Evaluation, evaluate
from llmrl.schema.learners import NoLearnerConfig
from llmrl.schema.priors import PriorConfig


class Walker(PriorOnly):
    """Goes east when greedy, else as the stream says; keeps what it was shown."""

    def __init__(self) -> None:
        super().__init__(NoLearnerConfig("Walker", "walker"), 0, None)
        self.tasks: list[str] = []

    def evaluate(
        self, states: Sequence[TextState], candidates: Sequence[Candidates], rng: np.random.Generator, greedy: bool
    ) -> np.ndarray:
        self.tasks += [s.task for s in states]
        return np.zeros(len(states), dtype=np.int64) if greedy else rng.integers(2, size=len(states))


def run(pool: EnvPool, seed: int = 0, step: int = 0, episodes: int = 10, greedy: bool = False) -> Evaluation:
    prior = Prior(PriorConfig("uniform"), seed)
    return evaluate(
        pool, prior, Walker(), seed=seed, step=step, episodes=episodes, greedy=greedy, history_turns=0
    )  # fmt: skip


def pool(envs: int, **settings: Any) -> EnvPool:
    return EnvPool(partial(worlds.Corridor, **settings), envs)


@pytest.mark.parametrize(("envs", "episodes"), [(1, 4), (4, 4), (3, 7), (8, 2)])
def test_means_over_exactly_the_episodes_asked_for(envs: int, episodes: int) -> None:
    found = run(pool(envs, lengths=(2, 4), wind=0.0), episodes=episodes, greedy=True)
    long = episodes // 2  # tasks take turns, the short one first
    assert found == Evaluation(1.0, 1.0, (2 * (episodes - long) + 4 * long) / episodes, episodes)
    assert found.metrics("eval") == {"eval/return": 1.0, "eval/success": 1.0, "eval/length": found.length}


def test_later_evaluations_go_on_with_the_tasks_that_earlier_ones_left_out() -> None:
    lengths, walker, seen = (2, 3, 4, 5, 6), Walker(), []
    for number in range(3):
        walker.tasks = []
        evaluate(
            pool(2, lengths=lengths, wind=0.0), Prior(PriorConfig("uniform"), 0), walker,
            seed=0, step=number, episodes=2, greedy=True, history_turns=0, first_task=2 * number,
        )  # fmt: skip
        seen.append(list(dict.fromkeys(walker.tasks)))
    assert seen == [[f"Walk {n} rooms east." for n in pair] for pair in ((2, 3), (4, 5), (6, 2))]


def test_a_task_that_is_too_long_counts_as_lost() -> None:
    assert run(pool(2, lengths=(2, 9), wind=0.0), episodes=6, greedy=True) == Evaluation(0.5, 0.5, 4.0, 6)


def test_an_evaluation_is_a_function_of_seed_step_and_policy() -> None:
    same = pool(5)
    first = [run(same, seed=s, step=t) for s, t in ((0, 0), (0, 100), (1, 0))]
    assert len(set(first)) > 1
    again = [run(same, seed=s, step=t) for s, t in ((1, 0), (0, 100), (0, 0))]
    assert again[::-1] == first  # whatever was evaluated before, in the same worlds


# ---- nothing of the training is touched ------------------------------------------------------------------------------


def trained(root: Path, every: int, *more: str) -> tuple[Path, list[dict[str, Any]]]:
    llmrl.train(
        compose(
            [
                "env=overcooked_tomato", "env_steps=96", "rollout.num_envs=4", f"evaluation.every={every}",
                "evaluation.episodes=2", "evaluation.exact_up_to=0", "env.max_decisions=8",
                f"paths.runs={root / str(every)}", f"paths.cache={root / 'kept.sqlite3'}", *more,
            ]
        )
    )  # fmt: skip
    (folder,) = (p for p in (root / str(every)).iterdir() if p.is_dir())
    return folder, list(read_lines(folder / "metrics.jsonl"))


LEARNS = ("learner.learning_starts=16", "learner.batch=8", "learner.hidden=[16]", "encoder.dim=32")


@pytest.mark.parametrize(
    "choice",
    [
        ("learner=dqn", "learner.backup=sampled", *LEARNS),
        ("learner=dqn_prior", "prior.evaluation.redraw=union", *LEARNS),
        ("learner=dqn_prior", "prior.behaviour.redraw=union", "prior.target.redraw=never", *LEARNS),
        ("learner=prior_only", "prior=generated", "prior.evaluation={k:2,redraw:visit}", "prior.behaviour.k=2"),
        ("learner=prior_only",),
        ("learner=random",),
    ],
    ids=lambda choice: "-".join(choice[:2]),
)
@pytest.mark.slow
def test_evaluating_more_often_changes_nothing_of_the_training(choice: tuple[str, ...], tmp_path: Path) -> None:
    golden = Path(__file__).parent.parent / "golden" / "lm"
    model = () if choice[0] in ("learner=dqn", "learner=random") else ("lm=hf", f"lm.model={golden}", "lm.device=cpu")
    seldom, rows = trained(tmp_path, 48, *choice, *model)
    often, more = trained(tmp_path, 16, *choice, *model)
    assert (len(rows), len(more)) == (3, 7)
    assert (seldom / "episodes.jsonl").read_bytes() == (often / "episodes.jsonl").read_bytes()
    weights = "checkpoints/96/weights.safetensors"
    assert (seldom / weights).read_bytes() == (often / weights).read_bytes()
    # At the same decision the same evaluation, however many there were before it.
    by_step = {row["env_steps"]: row for row in more}
    for row in rows:
        for key in row:
            if key.startswith("eval"):
                assert row[key] == by_step[row["env_steps"]][key], key


@pytest.mark.parametrize(
    ("choice", "episodes"),
    [
        (("learner=dqn", *LEARNS), 1),
        (("learner=dqn", "prior=uniform_k", *LEARNS), 2),  # draws its candidates at each visit
        (("learner=random",), 2),  # random also when greedy
    ],
)
def test_the_greedy_policy_plays_each_task_once_where_nothing_is_random(
    choice: tuple[str, ...], episodes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: dict[bool, int] = {}

    def counted(*args: Any, greedy: bool, **more: Any) -> Evaluation:
        result = evaluate(*args, greedy=greedy, **more)
        found[greedy] = result.episodes
        return result

    monkeypatch.setattr(importlib.import_module("llmrl.training.evaluator"), "evaluate", counted)
    trained(tmp_path, 96, *choice)
    assert found == {False: 2, True: episodes}
