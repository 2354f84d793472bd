"""Collecting: exact sizes and shares, the same bytes however it was stopped and however many run at once."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from eager import make_eager

import llmrl
import llmrl.collect
from llmrl.collect import Order, collect, parse_order
from llmrl.config.compose import ConfigError, compose
from llmrl.core.state import TextState
from llmrl.data.dataset import UNKNOWN, DataSet
from llmrl.data.files import read
from llmrl.data.frames import FrameWriter
from llmrl.report.progress import Speaker
from llmrl.run.load import load_runs

TOMATO = ["env=overcooked_tomato", "env.max_decisions=12", "learner=random"]
GOLDEN = Path(__file__).parent / "golden"


def order(out: Path, *words: str) -> Order:
    given = {word.partition("=")[0]: word for word in ("size=100", "mix=expert,random", "noise=0.2:0.6", *words)}
    return parse_order([f"out={out}", *given.values()])[0]


def collected(
    out: Path, *words: str, overrides: list[str] | None = None, tell: Callable[[str], None] = lambda _: None
) -> DataSet:
    collect(compose(overrides or TOMATO), order(out, *words), out.parent / "runs", tell)
    return read(out)


class Interrupted(BaseException): ...


def test_a_command_that_was_stopped_again_and_again_gives_the_same_bytes(tmp_path: Path) -> None:
    collected(tmp_path / "whole.parquet")
    calls = 0
    append = FrameWriter._append

    def stopped(self: FrameWriter, payload: dict) -> None:
        nonlocal calls
        calls += 1
        if calls % 3 == 0:
            self._file.write(b"\x90\x00\x00")  # what a kill amid a write leaves
            self._file.flush()
            raise Interrupted
        append(self, payload)

    stops = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FrameWriter, "_append", stopped)
        while not (tmp_path / "a.parquet").exists():
            try:
                collected(tmp_path / "a.parquet")
            except Interrupted:
                stops += 1
    assert stops > 3
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert not (tmp_path / "a.part").exists()


def test_how_many_run_at_once_changes_nothing(tmp_path: Path) -> None:
    one = collected(tmp_path / "one.parquet", overrides=[*TOMATO, "rollout.num_envs=1"])
    many = collected(tmp_path / "many.parquet", overrides=[*TOMATO, "rollout.num_envs=7"])
    assert one.content() == many.content()
    other = collected(tmp_path / "other.parquet", overrides=[*TOMATO, "seed=1"])
    assert other.content() != one.content()


@pytest.mark.parametrize("success", [0, 25, 75, 100])
def test_sizes_are_exact_and_shares_are_kept(success: int, tmp_path: Path) -> None:
    data = collected(tmp_path / "a.parquet", "size=150", f"success={success}")
    known = data["success"][data.starts]
    known = known[known != UNKNOWN]
    assert len(data) == 150
    assert abs(known.sum() - success / 100 * len(known)) <= 1
    assert data["truncated"][-1] or data["terminated"][-1]


def test_the_same_command_does_nothing_twice_and_another_one_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "a.parquet"
    collected(out)
    before = out.stat().st_mtime_ns
    told = collect(compose(TOMATO), order(out), tmp_path, lambda _: None)
    assert told.endswith("is there already: nothing to collect")
    assert out.stat().st_mtime_ns == before
    with pytest.raises(ConfigError, match="holds data of another command"):
        collected(out, "size=99")


def test_a_share_that_nobody_can_give_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmrl.collect.PATIENCE", 20)
    with pytest.raises(ValueError, match="none of the last 20 episodes failed where one was wanted"):
        collected(tmp_path / "a.parquet", "mix=expert", "noise=0", "success=0")


def test_the_prior_and_a_run_act(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_eager(monkeypatch, llmrl.collect)
    said: list[str] = []
    model = ["lm=hf", f"lm.model={GOLDEN / 'lm'}", "lm.device=cpu", f"paths.cache={tmp_path / 'kept.sqlite3'}"]
    prior = collected(
        tmp_path / "a.parquet", "mix=prior", "noise=0",
        overrides=[*TOMATO[:2], "learner=prior_only", "prior=scored", *model], tell=said.append,
    )  # fmt: skip
    assert {prior.texts[i] for i in prior["agent"]} == {"prior"}
    assert said[0] == "0 of 100 transitions in 0:00"
    assert said[1] == "loading lm"
    assert re.search(r"0 of \d+ prompts asked of hf in 0:00$", said[2])
    runs = tmp_path / "runs"
    small = [
        "learner=cql", f"data={GOLDEN / 'tomato.parquet'}", "learner.gradient_steps=50", "learner.hidden=[8]",
        "encoder.dim=16", "evaluation.episodes=2", f"paths.runs={runs}",
    ]  # fmt: skip
    llmrl.train(compose([*TOMATO[:2], *small]))
    (run,) = load_runs(runs)
    acted = collected(tmp_path / "b.parquet", f"mix={run.name}:3,random", "noise=0")
    assert {acted.texts[i] for i in acted["agent"]} == {run.name, "random"}
    about = acted.about["collected"]["agents"][run.name]
    assert about == {"run_id": run.summary["run_id"], "checkpoint": 50}
    assert np.mean([acted.texts[i] == "random" for i in acted["agent"][acted.starts]]) < 0.6


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["size=10", "mix=random"], "out is missing"),
        (["out=a.parquet", "size=1.5", "mix=random"], "size=1.5: it must be a whole number"),
        (["out=a.parquet", "size=9", "mix=random:x"], "'x' is no number"),
        (["out=a.parquet", "size=9", "mix=random:0"], "how often it acts has to be above 0"),
        (["out=a.parquet", "size=9", "mix=random", "noise=0.7:0.2"], "expected a share, or two"),
        (["out=a.parquet", "size=9", "mix=random", "success=120"], "expected a percentage"),
        (["out=a.parquet", "size=9", "mix=random", "success=many"], "success=many: 'many' is no number"),
        (["out=a.parquet", "size=inf", "mix=random"], "size=inf: 'inf' is no number"),
        (["out=a.parquet", "size=9", "mix=random:nan"], "mix=random:nan: 'nan' is no number"),
        (["out=a.parquet", "size=9", "mix=expert,,random"], "it names no policy between two commas"),
    ],
)
def test_orders_that_are_none(words: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_order(words)
    assert said in str(error.value)


def test_what_cannot_act_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"expected a file that ends in \.parquet"):
        collected(tmp_path / "a.csv")
    with pytest.raises(ConfigError, match="prior=uniform comes from no model"):
        collected(tmp_path / "a.parquet", "mix=prior")
    learned = [*TOMATO[:2], "learner=dqn_prior", "lm=tiny", "prior.mix=auto"]
    with pytest.raises(ConfigError, match=r"prior\.mix=auto is learned, and here nothing is"):
        collected(tmp_path / "a.parquet", "mix=prior", overrides=learned)
    with pytest.raises(
        ConfigError, match="mix=nobody: it is none of expert, random and prior, and as a run: nobody: no"
    ):
        collected(tmp_path / "a.parquet", "mix=nobody")


def test_a_learner_of_somebodys_that_has_no_formula_is_named() -> None:
    acts = llmrl.collect._ByParts(compose([*TOMATO[:2], "learner=random"]), {}, None)
    acts.learns = True
    with ExitStack() as opened:
        acts.open(opened, opened.enter_context(Speaker(print)))
        state = TextState("Serve.", "A kitchen.", ("wait", "chop"))
        assert [p.tolist() for p in acts.chances([state], [None])] == [[0.5, 0.5]]
        acts.parts.learner = object()  # type: ignore[assignment]
        with pytest.raises(ValueError, match="this prior or learner has no formula for how likely it acts"):
            acts.chances([state], [None])
