"""What is cloned: the walkthroughs that the embedded model read, met as a learner meets them."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from llmrl.config.compose import compose
from llmrl.encoders.encoder import FeatureTable
from llmrl.encoders.hash import HashEncoder
from llmrl.envs.kitchen import text
from llmrl.envs.kitchen.env import KitchenEnv
from llmrl.learners.weights import What, read_about, read_weights
from llmrl.prompts.prompt import Prompt
from llmrl.schema.encoders import EncoderConfig
from scripts import clone
from scripts.tiny.corpus import CorpusConfig, examples, kitchens

CFG = CorpusConfig(kitchens=3, walkthroughs=2, howtos=0, mistakes=(0.1, 0.3))


def walked(history_turns: int = 0) -> list[clone.Walked]:
    return list(clone.walked(CFG, kitchens(CFG), history_turns))


def test_they_are_the_decisions_that_the_corpus_tells() -> None:
    told = [e.answer for e in examples(CFG, Prompt(compose([]).prompt))]
    assert [f" {t.state.actions[t.action]}\n" for e in walked() for t in e.transitions] == told


def test_they_are_the_episodes_that_the_kitchen_plays_and_pays() -> None:
    for number, episode in enumerate(walked(history_turns=2)):
        kitchen = kitchens(CFG)[number // CFG.walkthroughs]
        env = KitchenEnv([kitchen], max_decisions=CFG.max_decisions, max_primitive_steps=10_000)
        seen, info = env.reset(seed=0)
        history: list[tuple[str, str]] = []
        for t, good in zip(episode.transitions, episode.good, strict=True):
            assert (t.state.task, t.state.observation, t.state.actions) == (
                seen["task"],
                seen["observation"],
                seen["actions"],
            )
            assert t.state.history == tuple(history[-2:])
            assert {t.state.actions[i] for i in good} == info["expert_actions"]
            history.append((t.state.observation, t.state.actions[t.action]))
            seen, reward, terminated, truncated, info = env.step(t.state.actions[t.action])
            assert t.reward == pytest.approx(reward)
            assert (t.duration, t.terminated, t.truncated) == (info["duration"], terminated, truncated)
            assert (t.next_state.observation, t.next_state.actions) == (seen["observation"], seen["actions"])
            assert t.next_state.history == tuple(history[-2:])
            assert (t.next_candidates is None) == terminated
        assert t.terminated or t.truncated
        assert env.state.served == t.terminated


def test_a_cut_walkthrough_is_truncated() -> None:
    short = CorpusConfig(kitchens=1, walkthroughs=1, max_decisions=3, author="random")
    ((t1, t2, t3),) = (e.transitions for e in clone.walked(short, kitchens(short), 0))
    assert (t1.truncated, t2.truncated, t3.truncated, t3.terminated) == (False, False, True, False)
    assert t3.next_candidates is not None
    assert t3.next_state.observation != ""
    assert len(t3.next_state.actions) == len(text.menu(kitchens(short)[0], kitchens(short)[0].initial()))


def test_a_target_goes_on_with_what_the_author_did_next() -> None:
    for episode in walked():
        for t, after in zip(episode.transitions, episode.transitions[1:], strict=False):
            assert t.next_candidates is not None
            assert t.next_candidates.actions.tolist() == [after.action]
    for greedy in clone.walked(CFG, kitchens(CFG), 0, "greedy"):
        for t in greedy.transitions[:-1]:
            assert t.next_candidates is not None
            assert t.next_candidates.actions.tolist() == list(range(len(t.next_state.actions)))


def test_cloning_beats_chance_on_what_it_read() -> None:
    table = FeatureTable(HashEncoder(EncoderConfig(dim=128, history_turns=0)))
    episodes = walked()
    net = clone.clone_policy(table, episodes, [32], steps=150, batch=64, seed=0)
    found = clone.examine(net, table, episodes)
    assert found["cross_entropy"] < found["by_chance"] - 0.5
    assert found["expert"] > found["uniform"] + 0.3


@pytest.mark.parametrize("what", ["policy", "q"])
def test_the_script_writes_what_a_run_reads(what: What, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "made.safetensors"
    monkeypatch.setattr(clone, "HELD_OUT", 2)
    arguments = f"clone --what {what} --out {out} --kitchens 2 --steps 20 --batch 32 --hidden 16 --history-turns 1"
    monkeypatch.setattr(sys, "argv", arguments.split())
    clone.main()
    about = read_about(out)
    assert about["corpus"]["kitchens"] == about["worlds"] == 2
    assert about["episodes"] == 8
    assert about["texts"] < about["tokens"] < about["tokens_trained"] * 100
    assert np.isfinite(list(about["held_out"].values())).all()
    encoder = compose(["learner=dqn", "encoder.history_turns=1"]).encoder
    settings = {key: encoder[key] for key in ("dim", "ngrams", "history_turns", "seed")}
    assert read_weights(out, what, HashEncoder(EncoderConfig(**settings)), [16])
