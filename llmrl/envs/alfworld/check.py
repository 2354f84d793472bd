"""`llmrl worlds` for ALFWorld's games: those that can be played, those left out, and those written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

from llmrl.envs.alfworld import packages
from llmrl.envs.alfworld.games import DATA, NoGames, Split, collect, data_hash, data_root
from llmrl.envs.alfworld.generate import generate
from llmrl.envs.household.game import TASKS


def check_games() -> Iterator[str]:
    """A line for each split, and one for each game that is left out. Raises NoGames where none can be played."""
    versions = packages.versions()
    yield "packages: " + (", ".join(f"{name} {version}" for name, version in versions.items()) or "none of the extra")
    root = data_root()
    playable = 0
    for split in get_args(Split):
        if not (root / DATA / split).is_dir():
            yield f"{split}: no folder"
            continue
        try:
            found = collect(root, split)
        except NoGames as nothing:
            yield f"{split}: {nothing}"
            continue
        playable += len(found.games)
        kinds = Counter(game.task for game in found.games)
        told = ", ".join(f"{kinds[task]} {task}" for task in TASKS if kinds[task])
        instructions = len({game.instruction for game in found.games})
        yield (
            f"{split}: {len(found.games)} games ({told}), {instructions} instructions, "
            f"data {data_hash(found.games)[:12]}"
        )
        for why, names in found.left_out.items():
            yield from (f"  left out, {why}: {name}" for name in names)
    if not playable:
        raise NoGames(f"{root / DATA} has no game that can be played")


def generate_games(
    out: Path, splits: Sequence[str] | None, tasks: Sequence[str] | None, count: int, index: int
) -> Iterator[str]:
    """A line for each type in each split, then what to type next. Raises ValueError."""
    written: Counter[tuple[str, str]] = Counter()
    chosen = _refuse_unknown("split", splits, get_args(Split)), _refuse_unknown("task", tasks, TASKS)
    for one in generate(out, *chosen, count=count, index=index):
        written[one.split, one.task] += 1
        if written[one.split, one.task] == count:
            yield f"{one.split}: {count} games of {one.task}"
    yield f"{written.total()} games, each solved by ALFWorld's engine; to play them:"
    yield f"export ALFWORLD_DATA={out.resolve()}"


def _refuse_unknown(option: str, given: Sequence[str] | None, choices: Sequence[Any]) -> Sequence[Any]:
    if unknown := [name for name in given or () if name not in choices]:
        raise ValueError(f"--{option} {unknown[0]}: choose one of {', '.join(choices)}")
    return given or choices
