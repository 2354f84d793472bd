"""Speed of reading cached answers: states per second in a fresh process, rendering and projection included.

    python -m scripts.bench.cache

States of the default run's world, met in random play, are answered by a stand-in model and kept in a file. The prompt
shows the last four actions, so that every state has a prompt of its own, which the cache is asked for. Then a process
that knows nothing of them reads them with the default prior (scores of every action, five draws) and with free answers
(five of them, projected): rendering, hashing, SQLite, parsing, projection, candidates. Repeated in new processes; the
median of CPU time, which other programs disturb less, beside the one of the clock and a calibration. The first figures
ask for many states a call, as exact evaluation does; the second for as many as the run has environments.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from llmrl.answers.answers import AnswerCache, Answers
from llmrl.build import build_env
from llmrl.config.compose import compose
from llmrl.core.state import TextState
from llmrl.lm.language_model import LanguageModel, ModelIdentity, Sampling, Score
from llmrl.priors.prior import Prior
from llmrl.prompts.prompt import Prompt
from llmrl.run.identity import model_identity
from llmrl.schema.run import TrainConfig
from scripts.bench.calibration import interpreter

GOAL = 20_000  # states per second
SOURCES = {  # free answers as in the paper, whose draws are not mixed: mixing has a random stream for every state
    "sampled": ["prior=sampled"],
    "generated": ["prior=generated", "prior.mix=0"],
    "generated, mixed": ["prior=generated"],
}
REPEATS = 3
SETTINGS = ["prompt.history_turns=4"]


class StandIn:
    """Answers at once: scores that differ, and answers like those of a model that was trained on the menu."""

    engine = "stand-in"

    def __init__(self, identity: ModelIdentity, menus: dict[str, tuple[str, ...]]) -> None:
        self.identity, self.menus = identity, menus
        self.provenance: Mapping[str, str] = {}

    def score(self, prompts: Sequence[str], continuations: Sequence[Sequence[str]]) -> list[list[Score]]:
        rng = random.Random(prompts[0])
        return [[Score(-10 * rng.random(), len(text.split()) + 2) for text in texts] for texts in continuations]

    def sample(self, prompts: Sequence[str], seeds: Sequence[Sequence[int]], sampling: Sampling) -> list[list[str]]:
        """One in ten is in other words, and one in fifty names no action."""
        out = []
        for prompt, mine in zip(prompts, seeds, strict=True):
            rng = random.Random(mine[0])
            said = [rng.choice(self.menus[prompt]) for _ in mine]
            spoken = [f"I would {text}." if rng.random() < 0.1 else text for text in said]
            out.append([f" {'nothing' if rng.random() < 0.02 else text}" for text in spoken])
        return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--states", type=int, default=20_000)
    parser.add_argument("--read", nargs=4, metavar=("FOLDER", "SOURCE", "SIZE", "STATES"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.read:
        read(Path(args.read[0]), args.read[1], int(args.read[2]), int(args.read[3]))
        return
    with tempfile.TemporaryDirectory() as folder:
        fill(Path(folder), args.states)
        size = (Path(folder) / "kept.sqlite3").stat().st_size
        print(f"{args.states:,} distinct states, {size / 1e6:.1f} MB kept")
        for at_once in (512, 8):
            for source in SOURCES:
                runs = [_fresh(folder, source, at_once, args.states) for _ in range(REPEATS)]
                cpu, clock, calibration = (statistics.median(run[key] for run in runs) for key in range(3))
                print(
                    f"{source}, {at_once} a call: {args.states / cpu:8,.0f} states/s of CPU time (goal {GOAL:,}), "
                    f"{args.states / clock:8,.0f} by the clock; calibration {calibration * 1e3:.0f} ms",
                    flush=True,
                )


def read(folder: Path, source: str, at_once: int, count: int) -> None:
    """In the fresh process: prints seconds of CPU, of the clock, and of the calibration."""
    states = [_state(json.loads(line)) for line in (folder / "states.jsonl").read_text().splitlines()]
    prior = _prior(source, folder, None)
    cpu, clock = time.process_time(), time.perf_counter()
    for start in range(0, count, at_once):
        prior.candidates(states[start : start + at_once], "behaviour")
    seconds = time.process_time() - cpu, time.perf_counter() - clock
    assert prior.answers is not None
    assert prior.answers.counts.computed == 0
    assert prior.lm_metrics()["lm/distinct_prompts"] == count
    print(json.dumps([*seconds, interpreter()]))


def fill(folder: Path, count: int) -> None:
    prompt = Prompt(compose(SETTINGS).prompt)
    by_prompt: dict[str, TextState] = {}
    for state in _play():
        by_prompt.setdefault(prompt.render(state), state)
        if len(by_prompt) == count:
            break
    states, menus = list(by_prompt.values()), {text: state.actions for text, state in by_prompt.items()}
    lines = [json.dumps([s.task, s.observation, s.actions, s.history]) for s in states]
    (folder / "states.jsonl").write_text("\n".join(lines))
    for source in SOURCES:
        prior = _prior(source, folder, menus)
        for start in range(0, count, 512):
            prior.candidates(states[start : start + 512], "behaviour")
        assert prior.answers is not None
        prior.answers.close()


def _prior(source: str, folder: Path, menus: dict[str, tuple[str, ...]] | None) -> Prior:
    cfg = compose([*SETTINGS, *SOURCES[source]])
    identity = model_identity(cfg)
    assert identity is not None

    def load() -> LanguageModel:
        assert menus is not None, "everything is kept"
        return StandIn(identity, menus)

    answers = Answers(AnswerCache(folder / "kept.sqlite3"), identity, StandIn.engine, load)
    run: TrainConfig = OmegaConf.to_object(cfg)  # type: ignore[assignment]
    assert run.prompt is not None
    return Prior(run.prior, run.seed, Prompt(run.prompt), answers)


def _state(values: list[Any]) -> TextState:
    task, observation, actions, history = values
    return TextState(task, observation, tuple(actions), tuple((seen, action) for seen, action in history))


def _play() -> Iterator[TextState]:
    cfg = compose(SETTINGS)
    env, rng, episode = build_env(cfg), np.random.default_rng(0), 0
    turns = cfg.prompt.history_turns
    while True:
        seen, _ = env.reset(seed=episode)
        episode += 1
        history: list[tuple[str, str]] = []
        done = False
        while not done:
            yield TextState(seen["task"], seen["observation"], seen["actions"], tuple(history[-turns:]))
            action = seen["actions"][rng.integers(len(seen["actions"]))]
            history.append((seen["observation"], action))
            seen, _, terminated, truncated, _ = env.step(action)
            done = terminated or truncated


def _fresh(folder: str, source: str, at_once: int, count: int) -> list[float]:
    command = [sys.executable, "-m", "scripts.bench.cache", "--read", folder, source, str(at_once), str(count)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    seconds: list[float] = json.loads(done.stdout)
    return seconds


if __name__ == "__main__":
    main()
