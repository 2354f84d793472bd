"""Training speed beside the pattern of the paper's own code: the same shapes, everything asked before (warm).

    python -m scripts.bench.pattern

Both sides play tomato with the paper's settings (`learner=dqn_prior_paper`): k=5 free answers of tiny-1 that are kept
for each prompt, Q = MLP 768-64-64-1 on the [CLS] state of a BERT-base (its shapes, random weights, float32),
softmax(10 Q), one environment, 40 gradient steps on batches of 64 after every fifth episode, AdamW, target rate 0.005.

The pattern, as the paper's code has it: at every decision the texts of the k candidates are read by BERT in one padded
batch, the next state's as well, and the features lie in the replay. Here they are carried over from one decision to the
next, which halves its cost and so the ratio. `memoised` is the same loop with a dictionary from text to features.

Every side is repeated in turn; the ratio is of medians from this one run. What is counted: decisions a second over
whole blocks of episodes with their gradient steps, and the texts that BERT read meanwhile.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel, BertTokenizerFast  # type: ignore[attr-defined]
from transformers.utils.logging import disable_progress_bar

from llmrl.build import build, build_env
from llmrl.config.compose import compose
from llmrl.core.state import TextState
from llmrl.encoders.model import pair_text
from llmrl.report.progress import Silent
from llmrl.run.folder import RunFolder
from llmrl.run.identity import identify_run
from llmrl.training.online import OnlineTraining
from scripts.bench.calibration import products

K, BATCH, UPDATES, EVERY = 5, 64, 40, 5
ALPHA, GAMMA, RATE, LR, CLIP, BUFFER = 0.1, 0.99, 0.005, 5e-4, 1.0, 4000
REPEATS = 3


class Texts:
    """BERT over texts, as many as are given in one padded batch; `memory` keeps what was read."""

    def __init__(self, folder: Path, memoised: bool) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.network: Any = AutoModel.from_pretrained(folder).eval()
        self.memory: dict[str, torch.Tensor] | None = {} if memoised else None
        self.read = 0

    @torch.inference_mode()
    def features(self, texts: Sequence[str]) -> torch.Tensor:
        """[texts, 768]"""
        if self.memory is None:
            return self._forward(texts)
        if new := [text for text in dict.fromkeys(texts) if text not in self.memory]:
            self.memory.update(zip(new, self._forward(new), strict=True))
        return torch.stack([self.memory[text] for text in texts])

    def _forward(self, texts: Sequence[str]) -> torch.Tensor:
        self.read += len(texts)
        batch = self.tokenizer(list(texts), padding=True, return_tensors="pt")
        return self.network(**batch).last_hidden_state[:, 0]


class Pattern:
    """The loop of the paper's script, in our words and with our world, which is faster than its own."""

    def __init__(self, cfg: Any, texts: Texts) -> None:
        self.texts, self.env = texts, build_env(cfg)
        self.prior = build(cfg).prior  # whose answers are all kept by now
        self.turns = cfg.prompt.history_turns
        torch.manual_seed(0)
        self.q, self.target = _mlp(), _mlp()
        self.target.load_state_dict(self.q.state_dict())
        self.optimiser = torch.optim.AdamW(self.q.parameters(), lr=LR)
        self.replay: deque[tuple[torch.Tensor, float, float, torch.Tensor]] = deque(maxlen=BUFFER)
        self.rng, self.episodes, self.decisions = np.random.default_rng(0), 0, 0
        self.proposals: dict[str, list[str]] = {}  # of a prompt, as in the paper's tomato script

    def play(self, episodes: int) -> None:
        for _ in range(episodes):
            self.episode()
            self.episodes += 1
            if self.episodes % EVERY == 0 and len(self.replay) > BATCH:
                for _ in range(UPDATES):
                    self.learn()

    def episode(self) -> None:
        seen, _ = self.env.reset(seed=self.episodes)
        history: list[tuple[str, str]] = []
        actions, now_KD = self.candidates(seen, history)
        done = False
        while not done:
            with torch.no_grad():
                chances = torch.softmax(self.q(now_KD)[:, 0] / ALPHA, 0).double().numpy()
            pick = int(self.rng.choice(K, p=chances / chances.sum()))
            history.append((seen["observation"], actions[pick]))
            seen, reward, terminated, truncated, _ = self.env.step(actions[pick])
            actions, next_KD = self.candidates(seen, history)
            self.replay.append((now_KD[pick], float(reward), float(terminated), next_KD))
            now_KD, done = next_KD, terminated or truncated
            self.decisions += 1

    def candidates(self, seen: dict[str, Any], history: Sequence[tuple[str, str]]) -> tuple[list[str], torch.Tensor]:
        state = TextState(seen["task"], seen["observation"], seen["actions"], tuple(history[-self.turns :]))
        assert self.prior.prompt is not None
        prompt = self.prior.prompt.render(state)
        if prompt not in self.proposals:
            (given,) = self.prior.candidates([state], "behaviour")
            counts = np.rint(np.exp(given.log_weights) * K).astype(int)
            named = [state.actions[i] for i in np.repeat(given.actions, counts)]
            self.proposals[prompt] = (named * K)[:K]  # where fewer answers name one, they are repeated
        actions = self.proposals[prompt]
        return actions, self.texts.features([pair_text(state.observation, action) for action in actions])

    def learn(self) -> None:
        picked = [self.replay[i] for i in self.rng.integers(len(self.replay), size=BATCH)]
        x_BD = torch.stack([t[0] for t in picked])
        r_B, d_B = (torch.tensor([t[i] for t in picked]) for i in (1, 2))
        next_BKD = torch.stack([t[3] for t in picked])
        with torch.no_grad():
            y_B = r_B + GAMMA * (1 - d_B) * self.target(next_BKD)[..., 0].max(1).values
        loss = F.mse_loss(self.q(x_BD)[:, 0], y_B, reduction="sum")
        self.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.q.parameters(), CLIP)
        self.optimiser.step()
        with torch.no_grad():
            for slow, fast in zip(self.target.parameters(), self.q.parameters(), strict=True):
                slow.lerp_(fast, RATE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--decisions", type=int, default=4000, help="of llmrl and of the memoised pattern, about")
    parser.add_argument(
        "--plain", type=int, default=10, help="episodes of the pattern itself, of which each costs seconds"
    )
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    disable_progress_bar()
    with tempfile.TemporaryDirectory() as scratch:
        bert = Path(scratch) / "bert-base-shapes"
        save_bert(bert)
        cfg = compose([
            "env=overcooked_tomato", "learner=dqn_prior_paper", "encoder=bert", f"encoder.model={bert}",
            "encoder.device=cpu", "prompt=plain", "episodes=null", f"env_steps={args.decisions}",
            f"threads={args.threads}", f"paths.cache={scratch}/kept.sqlite3", f"paths.runs={scratch}/runs",
        ])  # fmt: skip
        print(
            f"k={K}, batch {BATCH}, {UPDATES} gradient steps every {EVERY} episodes, MLP 768-64-64-1, BERT "
            f"{sum(p.numel() for p in AutoModel.from_pretrained(bert).parameters()) / 1e6:.0f} million parameters, "
            f"{args.threads} thread(s)"
        )
        ours(cfg, Path(scratch) / "warm")  # asks and encodes what is not kept yet
        sides = {
            "llmrl": lambda i: ours(cfg, Path(scratch) / str(i)),
            "pattern, memoised": lambda i: pattern(cfg, bert, args.decisions // 25, memoised=True),
            "pattern": lambda i: pattern(cfg, bert, args.plain, memoised=False),
        }
        speeds: dict[str, list[float]] = {name: [] for name in sides}
        for i in range(REPEATS):
            for name, side in sides.items():
                speed, read = side(i)
                speeds[name].append(speed)
                beside = f"{read:,} texts encoded, calibration {products() * 1e3:.0f} ms"
                print(f"{name}: {speed:,.1f} decisions/s, {beside}", flush=True)
    median = {name: statistics.median(found) for name, found in speeds.items()}
    for name in list(sides)[1:]:
        print(f"llmrl against the {name}: {median['llmrl'] / median[name]:.1f} times as many decisions a second")


def ours(cfg: Any, root: Path) -> tuple[float, int]:
    """(decisions a second, texts encoded) of the training of a run."""
    identity = identify_run(cfg)
    with RunFolder.open(root, identity.name, identity.id) as folder:
        training = OnlineTraining(cfg, identity, folder, Silent())
        encoder: Any = training.parts.table.encoder if training.parts.table else None
        read, compute = 0, encoder._compute

        def counted(texts: Sequence[str]) -> np.ndarray:
            nonlocal read
            read += len(texts)
            return compute(texts)

        encoder._compute = counted
        training.rollout.start()
        start = time.perf_counter()
        while training.env_steps < cfg.env_steps:
            training.tick()
        seconds = time.perf_counter() - start
        training.close()
    return cfg.env_steps / seconds, read


def pattern(cfg: Any, bert: Path, episodes: int, memoised: bool) -> tuple[float, int]:
    loop = Pattern(cfg, Texts(bert, memoised))
    if memoised:
        loop.play(episodes)  # what it meets first
    decisions, loop.texts.read = loop.decisions, 0
    start = time.perf_counter()
    loop.play(episodes)
    return (loop.decisions - decisions) / (time.perf_counter() - start), loop.texts.read


def save_bert(folder: Path) -> None:
    """BERT-base by its shapes, with random weights and a vocabulary of letters and common words."""
    cfg = compose(["env=overcooked_tomato", "learner=dqn"])
    env, words = build_env(cfg), set()
    for seed in range(20):
        seen, _ = env.reset(seed=seed)
        for _ in range(20):
            words.update(f"{seen['observation']} {' '.join(seen['actions'])} action".lower().split())
            seen, _, ended, cut, _ = env.step(seen["actions"][seed % len(seen["actions"])])
            if ended or cut:
                break
    letters = [*"abcdefghijklmnopqrstuvwxyz0123456789.,:;'()-"]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{x}" for x in letters), *sorted(words)]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    torch.manual_seed(0)
    BertModel(BertConfig()).save_pretrained(folder)  # its defaults are BERT-base
    BertTokenizerFast(vocab=vocabulary).save_pretrained(folder)


def _mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(768, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))


if __name__ == "__main__":
    main()
