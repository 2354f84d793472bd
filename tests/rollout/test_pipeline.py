"""Halves that take turns: the same decisions, seen a turn late, and a model that is asked meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import worlds
from own_time import OwnTime
from small_server import SmallServer

import llmrl
from llmrl.answers.answers import AnswerCache, Answers
from llmrl.config.compose import ConfigError, compose
from llmrl.core.candidates import Candidates
from llmrl.core.state import TextState
from llmrl.core.transitions import Transition
from llmrl.envs.pool import EnvPool
from llmrl.lm.http import connection
from llmrl.lm.language_model import ModelIdentity, Sampling, Score
from llmrl.lm.transformers_lm import TransformersLM
from llmrl.priors.prior import Prior
from llmrl.prompts.prompt import Prompt
from llmrl.rollout.pipeline import Pipeline
from llmrl.rollout.rollout import Rollout
from llmrl.run.folder import read_object
from llmrl.run.identity import identify_run
from llmrl.run.load import load_runs
from llmrl.schema.priors import PriorConfig, PromptConfig, SupportConfig

GOLDEN_LM = Path(__file__).parent.parent / "golden" / "lm"


def made(kind: type[Rollout], envs: int = 5, prior: Prior | None = None, **more: Any) -> Any:
    world = partial(worlds.Corridor, (2, 3, 9))
    r = kind(EnvPool(world, envs), prior or Prior(PriorConfig("uniform"), 0), 0, "train", **more)
    r.start()
    return r


def east(states: Sequence[TextState], candidates: Sequence[Candidates]) -> np.ndarray:
    return np.zeros(len(states), dtype=np.int64)


def by_env(transitions: Sequence[Transition]) -> dict[int, list[dict[str, Any]]]:
    found: dict[int, list[dict[str, Any]]] = {}
    for t in transitions:
        assert t.candidates is not None
        given = {"candidates": t.candidates.actions.tolist(), "next_candidates": t.next_candidates is not None}
        found.setdefault(t.env, []).append({**t.save(), **given})
    return found


def test_every_environment_does_what_it_would_do_in_one_piece() -> None:
    whole, halves = made(Rollout, history_turns=2), made(Pipeline, history_turns=2)
    expected = [t for _ in range(30) for t in whole.tick(east).transitions]
    ticks = [halves.tick(east) for _ in range(60)]
    found = [t for tick in ticks for t in tick.transitions] + halves.rest()
    assert by_env(found) == by_env(expected)
    assert sum(tick.decisions for tick in ticks) == len(expected)
    assert sum(tick.primitive_steps for tick in ticks) == sum(t.duration for t in expected)
    assert halves.rest() == []


def test_a_half_is_handed_over_when_its_turn_comes_again() -> None:
    r = made(Pipeline)
    turns = [r.due(99) for _ in (r.tick(east),)] + [r.due(99)]
    assert [list(turn) for turn in turns] == [[3, 4], [3, 4]]
    r = made(Pipeline)
    envs = [[t.env for t in r.tick(east).transitions] for _ in range(4)]
    assert envs == [[], [], [0, 1, 2], [3, 4]]
    assert [list(r.due(n)) for n in (1, 2, 9)] == [[0], [0, 1], [0, 1, 2]]


class Slow:
    """Answers when it is asked to, and writes down what happens."""

    engine, provenance = "slow", {}
    identity = ModelIdentity("slow", "1", "float32", "none")

    def __init__(self, happened: list[str]) -> None:
        self.happened = happened

    def start_score(
        self, prompts: Sequence[str], continuations: Sequence[Sequence[str]]
    ) -> Callable[[], list[list[Score]]]:
        self.happened.append("asked")

        def answers() -> list[list[Score]]:
            self.happened.append("answered")
            return [[Score(-float(i), 1) for i in range(len(texts))] for texts in continuations]

        return answers

    def score(self, prompts: Sequence[str], continuations: Sequence[Sequence[str]]) -> list[list[Score]]:
        raise AssertionError("nothing is asked for that was not asked for ahead")

    def start_sample(self, *_: object) -> Callable[[], list[list[str]]]:
        raise AssertionError("scores are asked for")


def test_one_half_is_asked_about_while_the_other_acts() -> None:
    happened: list[str] = []
    model = Slow(happened)
    answers = Answers(AnswerCache(":memory:"), model.identity, model.engine, lambda: model)  # type: ignore[arg-type,return-value]
    all_actions = SupportConfig()
    cfg = PriorConfig("scored", "scored", behaviour=all_actions, target=all_actions, evaluation=all_actions)
    prior = Prior(cfg, 0, Prompt(PromptConfig("p", "{{ observation }}{{ history | length }}")), answers)
    r = made(Pipeline, envs=4, prior=prior, history_turns=99)

    def choose(states: Sequence[TextState], candidates: Sequence[Candidates]) -> np.ndarray:
        happened.append("acted")
        return east(states, candidates)

    for _ in range(2):
        r.tick(choose)
    assert happened[:2] == ["asked", "answered"]  # all are at the same place in the beginning
    last_asked = max(i for i, what in enumerate(happened) if what == "asked")
    assert "answered" not in happened[last_asked:]
    while len(happened) < 40:
        before = len(happened)
        r.tick(choose)
        turn = happened[before:]
        assert turn.index("acted") > (turn.index("answered") if "answered" in turn else -1)
        assert "asked" not in turn[: turn.index("acted")]
    assert happened.count("asked") - happened.count("answered") in (0, 1, 2)


class Always:
    """Episodes use the prior, or none does; targets never do."""

    best = True

    def __init__(self, uses: bool) -> None:
        self.uses = uses

    def draw(self, *episode: str | int) -> bool:
        return self.uses

    def draw_for_targets(self, n: int) -> list[bool]:
        return [False] * n

    def hear(self, used: bool, outcome: float) -> None:
        pass


def trusting(uses: bool, happened: list[str]) -> Pipeline:
    """Four environments whose episodes use a scored prior, or do not."""
    model, trust = Slow(happened), Always(uses)
    answers = Answers(AnswerCache(":memory:"), model.identity, model.engine, lambda: model)  # type: ignore[arg-type,return-value]
    cfg = PriorConfig("scored", "scored", mix="auto")
    prior = Prior(cfg, 0, Prompt(PromptConfig("p", "{{ observation }}{{ history | length }}")), answers)
    prior.trust = trust  # type: ignore[assignment]
    pool = EnvPool(partial(worlds.Corridor, (2, 3, 9)), 4)
    return Pipeline(pool, prior, 0, "train", history_turns=99, trust=trust)


@pytest.mark.parametrize("uses", [False, True])
def test_nothing_is_asked_ahead_that_no_episode_reads(uses: bool) -> None:
    happened: list[str] = []
    r = trusting(uses, happened)
    r.start()
    for _ in range(40):
        r.tick(east)
    assert ("asked" in happened) == uses
    assert happened.count("asked") - happened.count("answered") in (0, 1, 2)


def test_a_restored_one_asks_nothing_about_where_its_episodes_began() -> None:
    happened: list[str] = []
    r, again = trusting(False, happened), trusting(True, happened)
    r.start()
    r.tick(east)
    again.restore(r.save())  # its running episodes do not use the prior
    assert happened == []


# ---- whole runs ------------------------------------------------------------------------------------------------------

RUN = [
    "env=overcooked_tomato", "env.max_decisions=12", "env_steps=46", "rollout.num_envs=5", "evaluation.every=24",
    "evaluation.episodes=2", "evaluation.exact_up_to=0", "progress=false", "rollout.pipeline=true",
    f"lm.model={GOLDEN_LM}", "learner.learning_starts=10", "learner.batch=8", "learner.hidden=[16]", "encoder.dim=16",
]  # fmt: skip


@pytest.fixture(scope="module")
def server() -> Iterator[SmallServer]:
    with SmallServer(TransformersLM(str(GOLDEN_LM), device="cpu")) as server:
        yield server


def trained(folder: Path, *more: str) -> dict[str, bytes]:
    cfg = compose([*RUN, *more, f"paths.runs={folder / 'runs'}", f"paths.cache={folder / 'kept.sqlite3'}"])
    assert llmrl.train(cfg)["env_steps"] == 46
    (run,) = load_runs(folder / "runs")
    files = ("metrics.jsonl", "episodes.jsonl", "checkpoints/46/weights.safetensors")
    return {name: (run.path / name).read_bytes() for name in files}


@pytest.mark.parametrize("prior", ["sampled", "generated"])
def test_asking_ahead_changes_no_byte(
    server: SmallServer, tmp_path: Path, prior: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = ["lm=vllm", "lm.dtype=float32", f"lm.url={server.url}", f"prior={prior}"]
    ahead = trained(tmp_path / "ahead", *served)
    time = OwnTime()
    monkeypatch.setattr(connection, "Clock", lambda: time)
    for n in range(12):
        server.misbehave("reset", after=n)
    assert trained(tmp_path / "failing", *served) == ahead
    server.behave()
    monkeypatch.setattr(Prior, "begin", lambda self, states: None)
    assert trained(tmp_path / "waiting", *served) == ahead
    asked_ahead, waited_for = (
        read_object(run.path / "cost.json")
        for folder in ("ahead", "waiting")
        for run in load_runs(tmp_path / folder / "runs")
    )
    assert asked_ahead["lm/cache_hits"] == waited_for["lm/cache_hits"]
    assert asked_ahead["lm/computed"] == waited_for["lm/computed"]


def test_a_pipeline_is_another_run_and_needs_two_environments() -> None:
    plain = compose(["rollout.num_envs=4"])
    assert identify_run(compose(["rollout.num_envs=4", "rollout.pipeline=true"])).id != identify_run(plain).id
    assert identify_run(compose(["rollout.num_envs=4", "rollout.pipeline=false"])).id == identify_run(plain).id
    with pytest.raises(ConfigError, match="one environment has no halves"):
        compose(["rollout.num_envs=1", "rollout.pipeline=true"])


def test_generations_asked_ahead_are_those_that_are_read(server: SmallServer, tmp_path: Path) -> None:
    from llmrl.build import build_answers

    cfg = compose([*RUN, "lm=vllm", "lm.dtype=float32", f"lm.url={server.url}", f"paths.cache={tmp_path / 'kept'}"])
    answers = build_answers(cfg)
    answers.begin_generations(["Next:", "Now:"], 3, Sampling(8))
    answers.begin_generations(["Next:"], 3, Sampling(8))  # is under way
    asked = answers.counts.calls
    texts = answers.generations(["Next:"], 3, Sampling(8))
    assert (asked, answers.counts.calls, answers.counts.computed) == (0, 1, 6)
    assert answers.generations(["Next:"], 3, Sampling(8)) == texts
    answers.close()
