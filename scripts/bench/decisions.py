"""Questions of `llmrl train` to a server per second, without cached answers, and the questions as a file for another
client.

    python -m scripts.bench.decisions --url http://127.0.0.1:8123/v1 --model shapes-7B --prior generated

Time and decisions are those between the end of the first evaluation and the beginning of the last. The model is only
declared, and its answers need not make sense: of a generated prior exactly k answers are read, whatever they name.

A decision asks nothing where its state's answers are kept already, so what can be compared with another client is what
was asked: of a generated prior prompts, each with k answers; of a scored one rows, each a prompt (with what leads to a
node of the trie) and one token. The file has a line for each, with the prompt's text.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import DictConfig

import llmrl
from llmrl.config.compose import compose
from llmrl.lm.http.connection import Connection
from llmrl.lm.language_model import PROBES
from llmrl.training.base import Training
from llmrl.training.evaluator import ENVS
from scripts.bench.calibration import told

T = TypeVar("T")


def main() -> None:
    args = _arguments()
    print(told())
    steps = args.ticks * args.envs
    with tempfile.TemporaryDirectory() as scratch:
        cfg = compose([
            "env=overcooked_random", "env.count=64", "env.max_decisions=20", "prompt.history_turns=6",
            f"env_steps={steps}", f"rollout.num_envs={args.envs}", f"rollout.pipeline={str(args.pipeline).lower()}",
            "evaluation.exact_up_to=0", f"evaluation.episodes={ENVS}", f"evaluation.every={steps}",
            "progress=false", f"checkpoint_every={steps}", "learner=dqn_prior", f"prior={args.prior}", "lm=vllm",
            "prompt=plain", f"lm.model={args.model}", "lm.tokenizer=declared", f"lm.url={args.url}",
            f"lm.dtype={args.dtype}", f"paths.runs={scratch}/runs", f"paths.cache={scratch}/kept.sqlite3",
            *(["prior.limit=0"] if args.prior == "generated" else []),
        ])  # fmt: skip
        kept = Path(scratch) / "kept.sqlite3"
        with _counted() as asked:
            seen = between_evaluations(cfg, lambda: (time.perf_counter(), asked["rows"], len(_prompts(kept))))
        began, ended = seen[1], seen[2]
        seconds, rows, distinct = (b - a for a, b in zip(began, ended, strict=True))
        prompts = _prompts(kept)[int(began[2]) : int(ended[2])]
    each = 1 if args.prior == "generated" else rows / max(1, distinct)
    what = "prompts" if args.prior == "generated" else "rows"
    count = distinct if args.prior == "generated" else rows
    print(f"prior={args.prior}, {args.envs} environments, pipeline={args.pipeline}: {steps / seconds:.1f} decisions/s, "
          f"{distinct / seconds:.1f} distinct prompts/s; asked {count / seconds:.1f} {what}/s")  # fmt: skip
    if args.prompts:
        lines = [json.dumps({"prompt": prompt}) + "\n" for prompt in prompts for _ in range(round(each))]
        Path(args.prompts).write_text("".join(lines))


@contextmanager
def _counted() -> Iterator[Counter[str]]:
    """Rows of the completions that are asked for, as they are sent."""
    asked: Counter[str] = Counter()
    exchange = Connection._exchange

    async def counted(self: Connection, lane: Any, path: str, body: Any, optional: bool) -> Any:
        if path == "completions":
            asked["rows"] += len(body["prompt"]) if isinstance(body["prompt"], list) else 1
        return await exchange(self, lane, path, body, optional)

    Connection._exchange = counted  # type: ignore[method-assign]
    try:
        yield asked
    finally:
        Connection._exchange = exchange  # type: ignore[method-assign]


def between_evaluations(cfg: DictConfig, look: Callable[[], T]) -> list[T]:
    """Trains, and looks before and after each evaluation: [2] is what is seen when the last one begins."""
    seen: list[T] = []
    evaluate = Training.evaluate

    def watched(self: Training) -> None:
        seen.append(look())
        evaluate(self)
        seen.append(look())

    Training.evaluate = watched  # type: ignore[method-assign]
    try:
        llmrl.train(cfg)
    finally:
        Training.evaluate = evaluate  # type: ignore[method-assign]
    return seen


def _prompts(cache: Path) -> list[str]:
    if not cache.exists():
        return []
    with closing(sqlite3.connect(cache)) as db:
        texts = [
            json.loads(question)["text"] for (question,) in db.execute("SELECT question FROM questions ORDER BY rowid")
        ]
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
