"""The cost of asking a server: figures that are ratios from one run.

python -m scripts.bench.serving trie --env .venv-vllm     the trie against prompt_logprobs, on a vLLM that it starts
python -m scripts.bench.serving client                    the client's own time, and how busy it keeps a server
"""

from __future__ import annotations

import argparse
import functools
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from llmrl.config.compose import compose
from llmrl.lm.language_model import Sampling, distance
from llmrl.lm.openai_lm import VllmLM
from llmrl.lm.vllm import Serving, find_vllm, serving
from llmrl.prompts.prompt import Prompt
from llmrl.query import distinct_states
from scripts.bench.calibration import told
from scripts.bench.decisions import between_evaluations

STATES, ACTIONS = 16, 10
STATES_IN_A_PROMPT = 10  # of a kitchen, one after the other: some 300 tokens, as a world with a history has
ENVS, TICKS = 32, 24
RUN_LATENCY = 0.2


def main() -> None:
    args = _arguments()
    print(told())
    if args.what == "client":
        client(args.latency, args.repeats)
    elif args.url:
        trie(args.url, args.model, args.dtype, args.repeats, args.declared)
    else:
        what = Serving(args.model, dtype=args.dtype, max_model_len=1024)
        with serving(find_vllm(args.env), what, print) as server:
            trie(server.url, args.model, server.dtype, args.repeats)


def trie(url: str, model: str, dtype: str, repeats: int, declared: bool = False) -> None:
    """Both ways, interleaved, each time with prompts that the server has not seen."""
    lm = VllmLM(model, url=url, dtype=dtype, tokenizer="declared" if declared else None)
    cfg = compose(["env=overcooked_random", "env.count=32"])
    found = distinct_states(cfg, Prompt(cfg.prompt), 400)
    texts = [prompt for prompt, _ in found]
    actions = sorted({f" {action}\n" for _, menu in found for action in menu})
    rng = random.Random(0)

    def questions() -> tuple[list[str], list[list[str]]]:
        prompts = [" ".join(rng.sample(texts, STATES_IN_A_PROMPT)) for _ in range(STATES)]
        return prompts, [rng.sample(actions, ACTIONS) for _ in prompts]

    both = questions()  # a warm-up, and the check that both say the same
    apart = distance(lm.score(*both), lm.score_reference(*both))
    seconds: dict[str, list[float]] = {"trie": [], "prompt_logprobs": []}
    for _ in range(repeats):
        for way, ask in (("trie", lm.score), ("prompt_logprobs", lm.score_reference)):
            asked = questions()
            seconds[way].append(_timed(lambda ask=ask, asked=asked: ask(*asked)))  # type: ignore[misc]
    fast, slow = (statistics.median(seconds[way]) for way in ("trie", "prompt_logprobs"))
    n, tokens = STATES * ACTIONS, [_tokens(url, model, prompt) for prompt in both[0]]
    print(f"{lm.provenance['server']}, {model} {dtype}: {STATES} states x {ACTIONS} actions, prompts of "
          f"{min(tokens)} to {max(tokens)} tokens")  # fmt: skip
    print(f"trie {n / fast:.0f} actions/s, prompt_logprobs {n / slow:.0f} actions/s: {slow / fast:.2f}x (goal 2x); "
          f"{apart:.1e} nats apart")  # fmt: skip
    lm.close()


def client(latency: float, repeats: int) -> None:
    with _fixed(latency) as url:
        lm = VllmLM("fixed", url=url, tokenizer="fixed")
        menus = [[f" do thing {a} with it\n" for a in range(ACTIONS)]] * ENVS
        lm.score(["Ready?"], menus[:1])
        for what, rounds in (("scored", 2), ("generated", 1)):
            took, own = [], []
            for i in range(repeats):
                prompts = [f"Question {i} of environment {e}: what now?" for e in range(ENVS)]
                cpu = time.process_time()
                if what == "scored":
                    took.append(_timed(lambda prompts=prompts: lm.score(prompts, menus)))  # type: ignore[misc]
                else:
                    seeds = [range(5)] * ENVS
                    ask = functools.partial(lm.sample, prompts, seeds, Sampling())
                    took.append(_timed(ask))
                own.append(time.process_time() - cpu)
            seconds, cpu = statistics.median(took), statistics.median(own)
            print(f"{what}: {ENVS} states in {seconds:.3f} s, {rounds * latency:.3f} s of it the server's; the client "
                  f"computes for {cpu:.3f} s, {cpu / seconds:.1%} (goal below 5%)")  # fmt: skip
        lm.close()
    for pipeline in (False, True):
        with _fixed(RUN_LATENCY) as url:
            busy = _run(url, pipeline)
        share = busy["busy"] / busy["seconds"]
        print(f"a run: {ENVS} environments, nothing kept, {RUN_LATENCY} s an answer, pipeline={pipeline}: a request is "
              f"under way {share:.0%} of the time (goal 80%)")  # fmt: skip


def _run(url: str, pipeline: bool) -> dict[str, float]:
    """Measures the server's busy share in a training run, from its first decision to its last."""
    steps = TICKS * ENVS
    with tempfile.TemporaryDirectory() as scratch:
        cfg = compose([
            "env=overcooked_random", "env.count=16", "env.max_decisions=20", "prompt.history_turns=4",
            f"env_steps={steps}", f"rollout.num_envs={ENVS}", f"rollout.pipeline={str(pipeline).lower()}",
            "evaluation.exact_up_to=0", "evaluation.episodes=1", f"evaluation.every={steps}", "progress=false",
            f"checkpoint_every={steps}", "lm=vllm", "prompt=plain", "lm.model=fixed", "lm.tokenizer=fixed",
            f"lm.url={url}", f"paths.runs={scratch}/runs", f"paths.cache={scratch}/kept.sqlite3",
        ])  # fmt: skip
        return between_evaluations(cfg, lambda: _get(url))[2]


def _get(url: str) -> dict[str, float]:
    with urllib.request.urlopen(url.removesuffix("/v1") + "/busy") as answer:
        found: dict[str, float] = json.load(answer)
        return found


@contextmanager
def _fixed(latency: float) -> Iterator[str]:
    command = [sys.executable, "-m", "scripts.bench.fixed_server", "--latency", str(latency)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        yield process.stdout.readline().strip()
        process.stdin.close()


def _tokens(url: str, model: str, prompt: str) -> int:
    body = json.dumps({"model": model, "prompt": prompt}).encode()
    request = urllib.request.Request(url.removesuffix("/v1") + "/tokenize", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return int(json.load(answer)["count"])


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["trie", "client"])
    parser.add_argument("--env", help="the environment that has vLLM; by default the one on PATH")
    parser.add_argument("--url", help="a server that runs already")
    parser.add_argument("--model", default="tiny-1")
    parser.add_argument("--declared", action="store_true", help="the model cannot be looked at from here")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--latency", type=float, default=0.5, help="seconds the fixed server takes for an answer")
    parser.add_argument("--repeats", type=int, default=5)
    return parser.parse_args()


if __name__ == "__main__":
    main()
