"""Kills runs at random moments, and looks whether anything was lost, doubled or different.

    python -m scripts.bench.kill [--kills 50] [--seed 0] [OVERRIDES ...]

A run is killed again and again (SIGKILL, SIGTERM, SIGINT, at moments drawn over most of the time that a whole run
takes, loading included) and begun by the same command, until it is complete; then another one, until there were so many
kills. An attempt begins where the last one stopped, so that all of the run is met.
Each must end with the bytes of a run that was never interrupted: result files, weights, and kept answers.

Then: four processes with seeds of their own share one new file of answers, and one of them is killed and begun
again. The file must hold the answers that four files of their own hold together, and each run its own bytes.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from llmrl.answers.inspection import verify

DEFAULTS = ("env_steps=1200", "checkpoint_every=50", "evaluation.every=200")
SPAN = 0.7  # of a whole run's time: more, and it is often complete before it is killed
RESULTS = ("metrics.jsonl", "episodes.jsonl", "summary.json")
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
# While Python itself starts or ends, a signal ends the process as it does by default.
EXPECTED = {signal.SIGKILL: {-9}, signal.SIGTERM: {143, -15}, signal.SIGINT: {130, -2}}
MOST_SECONDS = 300.0
SEEDS = (0, 1, 2, 3)


class Place:
    """The folder of a run, and the file of answers it reads."""

    def __init__(self, runs: Path, cache: Path, overrides: Sequence[str]) -> None:
        self.runs, self.cache = runs, cache
        self.command = [
            sys.executable,
            "-m",
            "llmrl",
            "train",
            *overrides,
            f"paths.runs={runs}",
            f"paths.cache={cache}",
        ]

    def start(self) -> subprocess.Popen[bytes]:
        environ = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(self.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environ)

    def finish(self) -> float:
        """Runs to the end; the seconds that took."""
        start = time.perf_counter()
        with self.start() as process:
            code = _ended(process, MOST_SECONDS)
        if code != 0:
            raise SystemExit(f"{' '.join(self.command)} ended with {code}")
        return time.perf_counter() - start

    def killed(self, after: float, by: signal.Signals) -> int | None:
        """Kills the run so many seconds after its start; its exit code, None where it was complete before."""
        with self.start() as process:
            try:
                process.wait(after)
            except subprocess.TimeoutExpired:
                process.send_signal(by)
                return _ended(process, MOST_SECONDS)
        if process.returncode != 0:
            raise SystemExit(f"{' '.join(self.command)} ended with {process.returncode}")
        return None

    def results(self) -> dict[str, bytes]:
        """The files that must be the same: result files, and the weights at the end."""
        (run,) = (p for p in self.runs.iterdir() if p.is_dir() and ".aside-" not in p.name)
        last = max((run / "checkpoints").iterdir(), key=lambda p: int(p.name))
        weights = {f"{last.name}/weights.safetensors": (last / "weights.safetensors").read_bytes()}
        return {name: (run / name).read_bytes() for name in RESULTS} | weights

    def answers(self) -> dict[bytes, dict[str, Any]]:
        return kept(self.cache)


def kept(cache: Path) -> dict[bytes, dict[str, Any]]:
    """Key -> name -> answer. Stops at a cache that is damaged, and at an answer that is kept twice."""
    found = verify(cache)
    if found.problems:
        raise SystemExit(f"{cache}: {found.problems}")
    records: dict[bytes, dict[str, Any]] = {}
    with closing(sqlite3.connect(cache)) as db:
        for key, part in db.execute("SELECT key, answers FROM answers ORDER BY key, part"):
            answers = json.loads(part)
            if twice := records.setdefault(key, {}).keys() & answers.keys():
                raise SystemExit(f"{cache}: {len(twice)} answers are kept twice")
            records[key].update(answers)
    return records


def kill_one_run(scratch: Path, overrides: Sequence[str], kills: int, rng: random.Random) -> list[str]:
    reference = Place(scratch / "reference", scratch / "reference.sqlite3", overrides)
    whole = reference.finish()
    again = Place(scratch / "again", reference.cache, overrides)
    whole = min(whole, again.finish())  # the first one waits for files that nobody has read yet
    expected, answers = reference.results(), reference.answers()
    print(f"never interrupted: {whole:.1f} s, {sum(map(len, answers.values())):,} answers", flush=True)
    wrong: list[str] = []
    codes: Counter[str] = Counter()
    runs = done = 0
    while done < kills:
        runs += 1
        place = Place(scratch / f"killed{runs}", scratch / f"killed{runs}.sqlite3", overrides)
        before = done
        while done < kills:
            after, by = rng.uniform(0.0, SPAN * whole), rng.choice(SIGNALS)
            code = place.killed(after, by)
            if code is None:
                break
            done += 1
            codes[f"{by.name} {code}"] += 1
            if code not in EXPECTED[by]:
                wrong.append(f"{by.name} after {after:.2f} s: exit code {code}")
        place.finish()
        different = [name for name, data in expected.items() if place.results().get(name) != data]
        wrong += [f"run {runs}: {name} differs" for name in different]
        if place.answers() != answers:
            wrong.append(f"run {runs}: its answers differ")
        print(f"run {runs}: killed {done - before} times, {'DIFFERENT' if different else 'the same bytes'}", flush=True)
    print(f"{done} kills of {runs} runs: " + ", ".join(f"{what}: {n}" for what, n in sorted(codes.items())))
    return wrong


def share_one_cache(scratch: Path, overrides: Sequence[str], kills: int, rng: random.Random) -> list[str]:
    alone = [Place(scratch / f"alone{s}", scratch / f"alone{s}.sqlite3", [*overrides, f"seed={s}"]) for s in SEEDS]
    whole = max(place.finish() for place in alone)
    shared = [Place(scratch / f"shared{s}", scratch / "shared.sqlite3", [*overrides, f"seed={s}"]) for s in SEEDS]
    others = [place.start() for place in shared[1:]]
    try:
        for _ in range(kills):
            shared[0].killed(rng.uniform(0.0, whole), signal.SIGKILL)
        codes = [_ended(process, MOST_SECONDS) for process in others]
    finally:
        for process in others:
            process.kill()
            process.wait()
    shared[0].finish()
    wrong = [f"seed {s}: exit code {code}" for s, code in zip(SEEDS[1:], codes, strict=True) if code]
    for seed, own, common in zip(SEEDS, alone, shared, strict=True):
        if own.results() != common.results():
            wrong.append(f"seed {seed}: its results differ")
    together: dict[bytes, dict[str, Any]] = {}
    for place in alone:
        for key, answers in place.answers().items():
            together.setdefault(key, {}).update(answers)
    found = shared[0].answers()
    if found != together:
        lost = sum(len(answers.keys() - found.get(key, {}).keys()) for key, answers in together.items())
        wrong.append(f"the shared answers are not those of four files together; {lost} are missing")
    counted = sum(map(len, found.values()))
    print(f"four processes, one file, {kills} kills: {len(found):,} records, {counted:,} answers, none twice")
    return wrong


def _ended(process: subprocess.Popen[bytes], within: float) -> int:
    try:
        return process.wait(within)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise SystemExit(f"process {process.pid} did not end within {within:.0f} s") from None


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help=f"settings of the run; by default {' '.join(DEFAULTS)}")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0, help="of the moments and the signals")
    args = parser.parse_args(arguments)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it, and so would runs
    overrides, rng = args.overrides or list(DEFAULTS), random.Random(args.seed)
    with tempfile.TemporaryDirectory() as scratch:
        wrong = kill_one_run(Path(scratch), overrides, args.kills, rng)
        wrong += share_one_cache(Path(scratch), overrides, max(1, args.kills // 10), rng)
    print("\n".join(wrong) or "nothing was lost, doubled or different")
    if wrong:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
