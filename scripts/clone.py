"""A policy, or a Q, learned from the very walkthroughs that the embedded model read: baselines that saw what it saw.

    python -m scripts.clone --what policy --out runs/clones/policy.safetensors    llmrl train learner=bc ...
    python -m scripts.clone --what q --out runs/clones/q.safetensors              llmrl train learner=dqn_pretrained ...

Both are the small network that DQN has, on the features that a run has. `policy` is cloned by cross-entropy over the
admissible actions; `q` is what `learner=dqn` (n-step returns, target network) makes of the same episodes as they would
have been paid (reward=once), those that the corpus cuts being truncated. Its targets take what the authors did next:
the Q of the authors, which to be greedy in improves on them. (`--target greedy` takes the best action instead, told or
not, and overrates what nobody tried.) Held out are walkthroughs, by
authors who err as often, of kitchens of the `dev` split. The file's metadata tells what was read, and what it cost.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from llmrl.config.compose import compose
from llmrl.core.candidates import Candidates
from llmrl.core.state import TextState
from llmrl.core.transitions import Transition
from llmrl.encoders.encoder import FeatureTable, render
from llmrl.encoders.hash import HashEncoder
from llmrl.envs.kitchen import text
from llmrl.envs.kitchen.layouts import random_kitchen
from llmrl.envs.kitchen.pay import NOTHING_PAID, Pay
from llmrl.envs.kitchen.world import Kitchen
from llmrl.learners.dqn import DQN
from llmrl.learners.weights import network, write_weights
from scripts.tiny.corpus import CorpusConfig, Decision, generator, kitchens, walkthroughs

TINY = Path("llmrl/lm/tiny/tiny-1")
HELD_OUT = 50  # kitchens
STEPS = {"policy": 3000, "q": 6000}
PAY = Pay("once", 0.99)


@dataclass(frozen=True)
class Walked:
    """An episode of the corpus, as a learner meets it."""

    transitions: list[Transition]
    good: list[frozenset[int]]  # of each decision, the actions that begin a shortest way


def walked(cfg: CorpusConfig, read: Sequence[Kitchen], history_turns: int, target: str = "authors") -> Iterator[Walked]:
    rng = generator(cfg)
    every = walkthroughs(cfg, read, rng)
    for kitchen in read:
        for _ in range(cfg.walkthroughs):
            decisions = list(next(every))
            yield Walked(_transitions(kitchen, decisions, history_turns, target), [d.good for d in decisions])


def _transitions(kitchen: Kitchen, decisions: Sequence[Decision], history_turns: int, target: str) -> list[Transition]:
    out, paid = [], NOTHING_PAID
    for i, d in enumerate(decisions):
        last, served = i == len(decisions) - 1, d.effect.state.served
        after = _after(kitchen, d) if last else decisions[i + 1].told
        reward, paid = PAY(kitchen, d.effect, paid)
        considered = np.arange(len(after.actions))  # of a state whose next action was not told: all
        if target == "authors" and not last:
            considered = np.array([decisions[i + 1].action])
        out.append(
            Transition(
                0,
                _shortened(d.told, history_turns),
                d.action,
                reward,
                d.effect.steps,
                served,
                last and not served,
                _shortened(after, history_turns),
                None if served else Candidates(considered, np.full(considered.size, -np.log(considered.size))),
            )
        )
    return out


def _after(kitchen: Kitchen, d: Decision) -> TextState:
    s, told = d.effect.state, d.told
    history = (*told.history, (told.observation, told.actions[d.action]))
    return TextState(told.task, text.observation(kitchen, s), text.menu(kitchen, s), history)


def _shortened(s: TextState, turns: int) -> TextState:
    return TextState(s.task, s.observation, s.actions, s.history[-turns:] if turns else ())


# ---- the two networks ------------------------------------------------------------------------------------------------


def clone_policy(
    table: FeatureTable, episodes: Sequence[Walked], hidden: Sequence[int], steps: int, batch: int, seed: int
) -> nn.Sequential:
    torch.manual_seed(seed)
    net = network(table.encoder.dim, hidden)
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-3, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    rows, taken = _decisions(table, episodes)
    rng = np.random.Generator(np.random.PCG64(seed))
    for step in range(1, steps + 1):
        some = torch.from_numpy(rng.integers(len(taken), size=batch))
        loss = F.cross_entropy(_logits(net, table, rows[some]), taken[some])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 500 == 0:
            print(f"step {step}/{steps}  loss {loss.item():.3f}", flush=True)
    return net


def pretrain_q(table: FeatureTable, episodes: Sequence[Walked], cfg: Any, batch: int, steps: int, seed: int) -> DQN:
    """DQN itself, whose replay holds the whole corpus from the start."""
    decisions = sum(len(e.transitions) for e in episodes)
    every = max(1, decisions // steps)
    cfg = replace(cfg, buffer=decisions, batch=batch, learning_starts=0, update_every=every)
    learner = DQN(cfg, seed, table)
    for e in episodes:
        learner.observe(e.transitions)
    print(f"loss {learner.update()['loss/td']:.5f} over {decisions // every} steps", flush=True)
    return learner


def _decisions(table: FeatureTable, episodes: Sequence[Walked]) -> tuple[Tensor, Tensor]:
    """(feature rows [N, A], padded with -1, and the action taken [N]) of every decision."""
    every = [t for e in episodes for t in e.transitions]
    ids = table.ids([t.state for t in every])
    rows = np.full((len(every), max(len(t.state.actions) for t in every)), -1)
    for i, (t, first) in enumerate(zip(every, table.first_row[ids], strict=True)):
        rows[i, : len(t.state.actions)] = first + np.arange(len(t.state.actions))
    return torch.from_numpy(rows), torch.tensor([t.action for t in every])


def _logits(net: nn.Module, table: FeatureTable, rows_BA: Tensor) -> Tensor:
    there = rows_BA >= 0
    values = net(table.features.index_select(0, rows_BA[there])).squeeze(-1)
    return torch.full(rows_BA.shape, -torch.inf).masked_scatter(there, values)


@torch.no_grad()
def examine(net: nn.Module, table: FeatureTable, episodes: Sequence[Walked]) -> dict[str, float]:
    """`expert`: how often the best-valued action begins a shortest way; `uniform`: how often any action does.

    `cross_entropy`: of what the authors did, in nats, under softmax of the values; `by_chance`: if all were as likely.
    """
    rows, taken = _decisions(table, episodes)
    logits = torch.cat([_logits(net, table, some) for some in rows.split(1024)])
    sizes = (rows >= 0).sum(-1)
    good = [g for e in episodes for g in e.good]
    asked = [i for i, g in enumerate(good) if g]
    best = logits.argmax(-1).tolist()
    return {
        "cross_entropy": F.cross_entropy(logits, taken).item(),
        "by_chance": sizes.float().log().mean().item(),
        "expert": float(np.mean([best[i] in good[i] for i in asked])),
        "uniform": float(np.mean([len(good[i]) / int(sizes[i]) for i in asked])),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--what", choices=["policy", "q"], required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--history-turns", type=int, default=0, help="as in encoder.history_turns (default: 0)")
    parser.add_argument("--hidden", type=int, nargs="+", default=[128, 128])
    parser.add_argument("--kitchens", type=int, help="read fewer than the embedded model did")
    parser.add_argument("--n-step", type=int, default=5, help="q: as in learner.n_step")
    parser.add_argument(
        "--target", choices=["authors", "greedy"], default="authors", help="q: the action it goes on with"
    )
    parser.add_argument("--steps", type=int, help=f"gradient steps, about so many for q; default: {STEPS}")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)

    cfg = CorpusConfig.of(json.loads((TINY / "card.json").read_text())["corpus"])
    cfg = replace(cfg, kitchens=args.kitchens or cfg.kitchens)
    steps = args.steps or STEPS[args.what]
    run = compose(["learner=dqn", f"learner.n_step={args.n_step}", f"encoder.history_turns={args.history_turns}"])
    encoder = HashEncoder(OmegaConf.to_object(run.encoder))  # type: ignore[arg-type]
    table = FeatureTable(encoder)

    start = time.process_time()  # of one thread: the same on a busy machine
    episodes = list(walked(cfg, kitchens(cfg), args.history_turns, args.target))
    decisions = sum(len(e.transitions) for e in episodes)
    print(f"{decisions:,} decisions of {len(episodes):,} episodes: {time.process_time() - start:.0f} s", flush=True)
    if args.what == "policy":
        net = clone_policy(table, episodes, args.hidden, steps, args.batch, args.seed)
    else:
        learner_cfg = replace(OmegaConf.to_object(run.learner), hidden=args.hidden)  # type: ignore[type-var]
        learner = pretrain_q(table, episodes, learner_cfg, args.batch, steps, args.seed)
        net, steps = learner.q, learner.steps
    seconds = time.process_time() - start
    held_out_cfg = replace(cfg, kitchens=HELD_OUT, walkthroughs=1)
    held_out = list(walked(held_out_cfg, [random_kitchen("dev", i) for i in range(HELD_OUT)], args.history_turns))
    found = {key: round(value, 4) for key, value in examine(net, table, held_out).items()}
    tokens = _tokens(episodes, args.history_turns)
    about = {
        "corpus": asdict(cfg),
        "worlds": cfg.kitchens,
        "episodes": len(episodes),
        "texts": decisions,
        "tokens": tokens,
        "tokens_trained": round(steps * args.batch * tokens / decisions),
        "training": {"steps": steps, **{key: getattr(args, key) for key in ("batch", "seed", "n_step", "target")}},
        "seconds": round(seconds, 1),  # of one thread
        "held_out": found,
    }
    write_weights(args.out, net, args.what, encoder, args.hidden, about)
    print(f"{args.out}: {seconds:.0f} s; held out: " + ", ".join(f"{key} {value}" for key, value in found.items()))


def _tokens(episodes: Sequence[Walked], history_turns: int) -> int:
    """The tokens of each state as the network reads it, with the action taken, by the embedded model's tokenizer."""
    tokenizer = Tokenizer.from_file(str(TINY / "tokenizer.json"))
    told = [f"{render(t.state, history_turns)}\n{t.state.actions[t.action]}" for e in episodes for t in e.transitions]
    return sum(len(encoding.ids) for encoding in tokenizer.encode_batch(told))


if __name__ == "__main__":
    main()
