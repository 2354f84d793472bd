"""The whole comparison, one command: control models, cloned weights, every study, its table and its figures.

    python -m scripts.laptop --jobs 2        overnight on two cores; stop it at any time, the same command goes on
    python -m scripts.laptop --list          what there is to do, and what is done
    python -m scripts.laptop --seeds 3       a first look: fewer seeds of everything, the same runs

Everything lies under `runs/`: models in `runs/models`, a folder of runs for each study, tables and figures in
`runs/tables`. A model that is complete is not trained again, a run that is complete is not run again, and a run that
was cut short goes on from its checkpoint. Searches (`llmrl tune`) are not among it: what they found is in the studies.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from llmrl.collect import parse_order
from llmrl.core.files import publish
from llmrl.run.folder import is_complete
from llmrl.run.identity import identify_run
from scripts import offline
from scripts.study import Study, table
from scripts.tiny.ladder import RUNGS

RUNS = Path("runs")
MODELS, TABLES = RUNS / "models", RUNS / "tables"
STUDIES = Path(__file__).parent / "studies"
ORDER: dict[str, dict[str, str]] = {  # study -> its tables: how its arms begin, and the arm they are compared with
    "correctness": {"tomato": "tomato_dqn", "lake": "lake_dqn"},
    "claim": {"": "dqn"},
    "salad": {"": "dqn"},
    "kitchens": {f"kitchen_{i}": f"kitchen_{i}_dqn" for i in (0, 3, 5)},
    "salad_settings": {"": "base"},
    "cost": {"": "dqn"},
    "homes_memory": {"": "none"},
    "homes_pick": {"": "dqn"},
    "homes_examine": {"": "dqn"},
    "offline_salad": {"": "cql"},
    "offline_kitchen": {"": "cql"},
    "offline_home": {"": "cql"},
    "offline_home_quarter": {"": "cql"},
    "mixing": {"salad": "salad_dqn", "tomato": "tomato_dqn"},
    # These ask small real models: `llmrl models get smollm2`, and gemma3-270m.
    "labels": {"": "uniform"},
    "real_alone": {world: f"{world}_uniform" for world in ("tomato", "salad", "kitchen", "homes")},
    "real_online": {world: f"{world}_dqn" for world in ("tomato", "salad", "kitchen")},
}
# That read what tiny-2 read: the width, layers and steps of each.
READ_HOMES = {"h-s": (64, 2, 1500), "h-1000": (128, 3, 1000)}
CLONES = {"clone_policy_h0": "policy", "clone_q_authors_h0": "q"}


@dataclass(frozen=True)
class Step:
    name: str
    command: list[str]
    done: int
    total: int


def models() -> Iterator[Step]:
    """One process each, so that they may be trained side by side."""
    for rung in RUNGS:
        built = (MODELS / rung / "card.json").is_file()
        yield Step(f"model {rung}", ["scripts.tiny.ladder", rung, "--out", str(MODELS)], built, 1)
    for name, (width, layers, steps) in READ_HOMES.items():
        read = ["--kitchens", "200", "--howtos", "300", "--games", "1800", "--vocab", "1024"]
        size = f"--width {width} --layers {layers} --steps {steps}".split()
        built = (MODELS / name / "card.json").is_file()
        yield Step(f"model {name}", ["scripts.tiny.build", *read, *size, "--out", str(MODELS / name)], built, 1)
    for file, what in CLONES.items():
        path = MODELS / f"{file}.safetensors"
        yield Step(f"weights {file}", ["scripts.clone", "--what", what, "--out", str(path)], path.is_file(), 1)


def study(name: str, seeds: int | None, jobs: int) -> Step:
    """Needs the models and the data, which the study collects first: what is in them names the runs."""
    found = Study.read(STUDIES / f"{name}.yaml")
    runs = RUNS / name
    cells = list(found.cells(seeds=seeds))
    done = 0
    if all(parse_order(words)[0].out.exists() for words in found.collect):
        composed = (cell.compose() for cell in cells)
        done = sum(is_complete(identify_run(cfg).folder(runs)) for cfg in composed)
    command = ["scripts.study", str(STUDIES / f"{name}.yaml"), "--runs", str(runs), "--jobs", str(jobs)]
    return Step(f"study {name}", [*command, *(["--seeds", str(seeds)] if seeds else [])], done, len(cells))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=2, help="processes at the same time (default: 2)")
    parser.add_argument("--seeds", type=int, help="only the first so many of every arm")
    parser.add_argument("--studies", nargs="+", choices=ORDER, default=list(ORDER), help="only these")
    parser.add_argument("--list", action="store_true", help="say what is done and what is not, and do nothing")
    args = parser.parse_args()
    start = time.monotonic()
    if args.list:
        missing = [step for step in models() if not step.done]
        for step in missing:
            print(f"{step.name}: to be trained")
        for name in args.studies if not missing else []:
            step = study(name, args.seeds, args.jobs)
            print(f"{step.name}: {step.done} of {step.total} runs")
        return
    with ThreadPoolExecutor(args.jobs) as pool:
        trained = list(pool.map(_run, [step for step in models() if not step.done]))
    if not all(trained):
        raise SystemExit("a model could not be trained; what is above says why")
    failed = []
    for name in args.studies:
        step = study(name, args.seeds, args.jobs)
        print(f"{step.name}: {step.done} of {step.total} runs are there", flush=True)
        if step.done < step.total and not _run(step):
            failed.append(step.name)
        file = str(STUDIES / f"{name}.yaml")
        if Study.read(Path(file)).judged["judge"] and not _run(
            Step("games", ["scripts.homes", file, "--runs", str(RUNS / name), "--jobs", str(args.jobs)], 0, 1)
        ):
            failed.append(f"{name}, judged in other games")
        if (tables := write_tables(name)) is not None:
            print(tables, flush=True)
        print(f"{step.name}: {(time.monotonic() - start) / 60:.0f} minutes since the start", flush=True)
    if "salad" in args.studies:
        out = TABLES / "quality.png"
        _run(Step("figure", ["scripts.quality", str(STUDIES / "salad.yaml"), "--out", str(out)], 0, 1))
    if failed:
        raise SystemExit(f"{', '.join(failed)}: some runs failed; the same command runs what is missing")


def write_tables(name: str) -> Path | None:
    """What can be said so far; None, and why, where no arm can be compared yet."""
    found = Study.read(STUDIES / f"{name}.yaml")
    parts = []
    for prefix, against in ORDER[name].items():
        own = [arm for arm in found.arms if arm.startswith(prefix)]
        try:
            lines = _offline(found, against) if found.sizes else table(found, RUNS / name, against, own)
            parts.append("\n".join(lines) + "\n")
        except (SystemExit, ValueError) as error:  # too few runs, or made by uncommitted code
            print(f"no table of {prefix or name} against {against}: {error}", flush=True)
    if not parts:
        return None
    TABLES.mkdir(parents=True, exist_ok=True)
    publish(TABLES / f"{name}.md", "\n".join(parts))
    return TABLES / f"{name}.md"


def _offline(found: Study, against: str) -> list[str]:
    """Its table; its figure lies beside it."""
    arms = offline.found(found, RUNS / found.name)
    lines = list(offline.table(arms, against))
    TABLES.mkdir(parents=True, exist_ok=True)
    return [*lines, "", f"figure: {offline.draw({found.name: arms}, TABLES / f'{found.name}.png')}"]


def _run(step: Step) -> bool:
    """Whether it went well."""
    print(f"{step.name}: python -m {' '.join(step.command)}", flush=True)
    return subprocess.run([sys.executable, "-m", *step.command]).returncode == 0


if __name__ == "__main__":
    main()
