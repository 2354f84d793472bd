"""Decisions per second of `llmrl train` against a server, with nothing kept; and the prompts that it asked, as a file.

    python -m scripts.bench.decisions --url http://127.0.0.1:8123/v1 --model shapes-7B --prior generated

Time and decisions are those between the end of the first evaluation and the beginning of the last. The model is only
declared, and its answers need not make sense: of a generated prior exactly k answers are read, whatever they name.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sqlite3
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from omegaconf import DictConfig

import llmrl
from llmrl.config import compose
from llmrl.lm.language_model import PROBES

T = TypeVar("T")


def main() -> None:
    args = _arguments()
    steps = args.ticks * args.envs
    with tempfile.TemporaryDirectory() as scratch:
        cfg = compose([
            "env=overcooked_random", "env.count=64", "env.max_decisions=20", "prompt.history_turns=6",
            f"env_steps={steps}", f"rollout.num_envs={args.envs}", f"rollout.pipeline={str(args.pipeline).lower()}",
            "evaluation.exact_up_to=0", "evaluation.episodes=1", f"evaluation.every={steps}", "progress=false",
            f"checkpoint_every={steps}", "learner=dqn_prior", f"prior={args.prior}", "lm=vllm",
            f"lm.model={args.model}", "lm.tokenizer=declared", f"lm.url={args.url}", f"lm.dtype={args.dtype}",
            f"paths.runs={scratch}/runs", f"paths.cache={scratch}/kept.sqlite3",
            *(["prior.limit=0"] if args.prior == "generated" else []),
        ])  # fmt: skip
        began = between_evaluations(cfg, time.perf_counter)
        seconds = began[2] - began[1]
        prompts = _prompts(Path(scratch) / "kept.sqlite3")
    print(f"prior={args.prior}, {args.envs} environments, pipeline={args.pipeline}: {steps / seconds:.1f} decisions/s; "
          f"{len(prompts)} distinct prompts asked in the run")  # fmt: skip
    if args.prompts:
        Path(args.prompts).write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))


def between_evaluations(cfg: DictConfig, look: Callable[[], T]) -> list[T]:
    """Trains, and looks before and after each evaluation: [2] is what is seen when the last one begins."""
    seen: list[T] = []
    spine = importlib.import_module("llmrl.train")  # `llmrl.train` itself is the function
    evaluate = spine.Training.evaluate

    def watched(self: object) -> None:
        seen.append(look())
        evaluate(self)
        seen.append(look())

    spine.Training.evaluate = watched
    try:
        llmrl.train(cfg)
    finally:
        spine.Training.evaluate = evaluate
    return seen


def _prompts(cache: Path) -> list[str]:
    with closing(sqlite3.connect(cache)) as db:
        texts = [json.loads(question)["text"] for (question,) in db.execute("SELECT question FROM questions")]
    probes = {prompt for prompt, _ in PROBES}
    return [text for text in dict.fromkeys(texts) if text not in probes]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True)
    parser.add_argument("--model", required=True, help="as the server calls it")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--prior", choices=["generated", "sampled", "scored"], default="generated")
    parser.add_argument("--envs", type=int, default=64)
    parser.add_argument("--ticks", type=int, default=40)
    parser.add_argument("--pipeline", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--prompts", help="a file to write the prompts to, a line each")
    return parser.parse_args()


if __name__ == "__main__":
    main()
