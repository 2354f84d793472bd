"""The actions that free answers of a model name: by the projection, and by the longest action in the answer.

    python -m scripts.bench.projection FOLDER

FOLDER is any causal language model that `lm=hf` loads. It is asked in a kitchen and in homes, with the actions listed
in the prompt, at temperature 1. The states are those of random play, the seeds fixed. `--show N` prints N answers on
which the two rules differ.
"""

from __future__ import annotations

import argparse
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import torch
from omegaconf import OmegaConf

from llmrl.build import build_model, build_prompt
from llmrl.config.compose import compose
from llmrl.core.seeding import integer
from llmrl.lm.language_model import LanguageModel, Sampling
from llmrl.prompts.project import project
from llmrl.prompts.prompt import Prompt
from llmrl.query import distinct_states

WORLDS = ("overcooked_tomato", "household/pick")
HOW = ("named", "ambiguous", "negated", "nothing")
LISTED = """{{ task }}
{{ observation }}
Actions: {{ actions | join("; ") }}.
Next:"""


def main() -> None:
    args = _arguments()
    torch.set_num_threads(args.threads)
    lm = ["lm=hf", f"lm.model={args.folder}", "lm.device=cpu"]
    model = build_model(compose([*lm, "prior=generated", "learner=dqn_prior"]))
    about = f"{model.identity.model}, revision {model.identity.revision[:12]}, {model.identity.dtype}"
    print(f"{about}; {args.each} answers a state, {args.tokens} tokens at most, seed {args.seed}")
    print(f"{'':28} {'answers':>7} {'rule':>9}", *(f"{how:>9}" for how in HOW), f"{'seconds':>8}")
    differ: list[str] = []
    for prompt in args.prompts:
        for world in WORLDS:
            chosen = ["prompt=chat"] if prompt == "chat" else []
            cfg = compose([*lm, *chosen, f"env={world}", "prior=generated", "learner=dqn_prior", f"seed={args.seed}"])
            listed = replace(OmegaConf.to_object(cfg.prompt), template=LISTED)  # type: ignore[type-var]
            template = build_prompt(cfg) if prompt == "chat" else Prompt(listed)  # type: ignore[arg-type]
            states = distinct_states(cfg, template, args.answers // args.each)
            began = time.perf_counter()
            said = _answers(model, states, args.each, Sampling(args.tokens, stop=template.end), args.seed)
            seconds = time.perf_counter() - began
            menus = [menu for _, menu in states for _ in range(args.each)]
            now = [project(text, menu) for text, menu in zip(said, menus, strict=True)]
            then = [_longest(text, menu) for text, menu in zip(said, menus, strict=True)]
            before = Counter("nothing" if action is None else "named" for action in then)
            for rule, counts in (("longest", before), ("this", Counter(str(found.how) for found in now))):
                shares = (f"{counts[how] / len(said):>9.1%}" for how in HOW)
                print(f"{prompt + ', ' + world:28} {len(said):>7} {rule:>9}", *shares, f"{seconds:>8.0f}", flush=True)
            differ += [
                f"{text.strip()!r}: {'nothing' if action is None else menu[action]!r} -> {found.how}"
                for text, menu, action, found in zip(said, menus, then, now, strict=True)
                if found.action != action
            ]
    print(f"{len(differ)} answers on which the rules differ", *differ[: args.show], sep="\n")


def _answers(
    model: LanguageModel, states: Sequence[tuple[str, tuple[str, ...]]], each: int, sampling: Sampling, seed: int
) -> list[str]:
    said: list[str] = []
    for prompt, _ in states:
        first = integer(seed, "projection", prompt) % 2**48
        (texts,) = model.sample([prompt], [range(first, first + each)], sampling)
        said += texts
    return said


def _longest(answer: str, actions: Sequence[str]) -> int | None:
    """The longest action that stands whole in the first line; of equally long ones none."""
    line, *_ = [*answer.strip().splitlines(), ""]
    said = " ".join(line.casefold().split())
    found = [i for i, text in enumerate(actions) if re.search(rf"(?<!\w){re.escape(text.casefold())}(?!\w)", said)]
    best = [i for i in found if len(actions[i]) == max(len(actions[j]) for j in found)]
    return best[0] if len(best) == 1 else None


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="What free answers of a model name.")
    parser.add_argument("folder", help="a model folder or hub id")
    parser.add_argument("--prompts", nargs="+", choices=("listed", "chat"), default=["listed"])
    parser.add_argument("--answers", type=int, default=200, help="in each world")
    parser.add_argument("--each", type=int, default=4, help="answers to each state")
    parser.add_argument("--tokens", type=int, default=24, help="of an answer, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--show", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
