"""ALFWorld's games on disk: where they are, which can be played, and what was left out and why.

    $ALFWORLD_DATA/json_2.1.1/SPLIT/TYPE-OBJECT-MOVABLE-RECEPTACLE-SCENE/TRIAL/{traj_data.json,game.tw-pddl,...}

The rules of selection are those of the original's collector (`alfworld.agents.environment.alfred_tw_env`); the order is
that of the names, where the original takes what the file system gives. Needs no package of the extra.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from llmrl.envs.alfworld.problem import OFFICIAL
from llmrl.envs.household.game import Task

Split = Literal["train", "valid_seen", "valid_unseen"]
DATA, TRAJECTORY, GAME, PDDL = "json_2.1.1", "traj_data.json", "game.tw-pddl", "initial_state.pddl"
LOGIC = ("pddl_domain", "grammar", "pddl_problem")
SHOWN = 3  # names of games that a message gives for each reason
_TASK_OF = {official: task for task, official in OFFICIAL.items()}
_SENTENCE = re.compile(r'"(Your task is to: (?:[^"\\]|\\.)*)"')


class NoGames(ValueError):
    """There is nothing to play. The message says what was looked for, what was found and what to type."""


@dataclass(frozen=True)
class GameFile:
    name: str  # FOLDER/TRIAL
    path: Path  # of the trial's folder
    task: Task
    sentence: str  # "Your task is to: ..."
    sha256: str  # of the game file

    @property
    def instruction(self) -> str:
        """The instruction, without the words around it: "put some mug on desk"."""
        return self.sentence.removeprefix("Your task is to: ").strip().rstrip(".")

    def logic(self) -> dict[str, str]:
        """Domain, grammar and problem. Raises NoGames when the file is another than the one that was collected."""
        data = (self.path / GAME).read_bytes()
        if hashlib.sha256(data).hexdigest() != self.sha256:
            raise NoGames(f"{self.path / GAME} was changed while it was in use: start again")
        game = json.loads(data)
        return {part: game[part] for part in LOGIC}

    def trajectory(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.path / TRAJECTORY).read_bytes())
        return found


class Collection(NamedTuple):
    games: tuple[GameFile, ...]
    left_out: Mapping[str, tuple[str, ...]]  # why -> names

    @property
    def note(self) -> str:
        """The games left out, in words for a person; "" where none was."""
        if not self.left_out:
            return ""
        reasons = "; ".join(
            f"{len(names)} {why} ({', '.join(names[:SHOWN])}{', ...' if len(names) > SHOWN else ''})"
            for why, names in self.left_out.items()
        )
        total = len(self.games) + sum(map(len, self.left_out.values()))
        return f"{total - len(self.games)} of {total} games are left out: {reasons}"


def data_root() -> Path:
    """The folder that ALFWORLD_DATA names. Raises NoGames."""
    named = os.environ.get("ALFWORLD_DATA")
    if not named:
        raise NoGames(f"ALFWORLD_DATA is not set, and env=alfworld/* finds its games there. {_how('$HOME/alfworld')}")
    root = Path(named).expanduser()
    if not (root / DATA).is_dir():
        raise NoGames(f"ALFWORLD_DATA={named} has no folder {DATA}. {_how(named)}")
    return root


def collect(root: Path, split: Split, tasks: Sequence[Task] = get_args(Task)) -> Collection:
    """The playable games of some types, in the order of their names. Raises NoGames where there is none."""
    if split not in get_args(Split):
        raise NoGames(f"split={split}: choose one of {', '.join(get_args(Split))}")
    top = root / DATA / split
    if not top.is_dir():
        there = ", ".join(sorted(p.name for p in (root / DATA).iterdir() if p.is_dir())) or "none"
        raise NoGames(f"{top}: there is no such folder; splits found: {there}. {_how(str(root))}")
    games: list[GameFile] = []
    left_out: dict[str, list[str]] = {}
    for folder in sorted(found.parent for found in top.rglob(TRAJECTORY)):
        name = folder.relative_to(top).as_posix()
        if _is_another(name, tasks):
            continue
        try:
            game = _game(folder, name)
        except _LeftOut as reason:
            left_out.setdefault(str(reason), []).append(name)
            continue
        if game.task in tasks:
            games.append(game)
    collection = Collection(tuple(games), {why: tuple(names) for why, names in sorted(left_out.items())})
    if not games:
        wanted = ", ".join(OFFICIAL[task] for task in tasks)
        raise NoGames(f"{top} has no game to play of {wanted}. {collection.note or _how(str(root))}")
    return collection


def data_hash(games: Sequence[GameFile]) -> str:
    """A name for what these games are: SHA-256, in hex, over their names and contents."""
    lines = "".join(f"{game.name} {game.sha256}\n" for game in games)
    return hashlib.sha256(lines.encode()).hexdigest()


class _LeftOut(Exception):
    """Why a game is not played."""


_known: dict[Path, tuple[tuple[int, ...], GameFile | _LeftOut]] = {}  # by folder, while its files stay the same


def _game(folder: Path, name: str) -> GameFile:
    if "movable" in name or "Sliced" in name:
        raise _LeftOut("with movable receptacles or sliced objects")
    stamp = tuple(n for file in (TRAJECTORY, GAME) for n in _stamp(folder / file))
    kept = _known.get(folder)
    if kept is None or kept[0] != stamp:
        try:
            found: GameFile | _LeftOut = _read(folder, name)
        except _LeftOut as reason:
            found = reason
        kept = _known[folder] = stamp, found
    if isinstance(kept[1], _LeftOut):
        raise kept[1]
    return kept[1]


def _stamp(file: Path) -> tuple[int, int]:
    try:
        status = file.stat()
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


def _read(folder: Path, name: str) -> GameFile:
    task = _TASK_OF.get(str(_json(folder / TRAJECTORY)[1].get("task_type")))
    if task is None:
        raise _LeftOut("of another type")
    if not (folder / GAME).is_file():
        raise _LeftOut(f"without {GAME}")
    data, game = _json(folder / GAME)
    if not all(isinstance(game.get(part), str) for part in LOGIC):
        raise _LeftOut("torn")
    if "solvable" not in game:
        raise _LeftOut("never checked for being solvable")
    if not game["solvable"]:
        raise _LeftOut("unsolvable")
    sentence = _SENTENCE.search(game["grammar"])
    if sentence is None:
        raise _LeftOut("without a sentence that says what is asked")
    try:
        said = json.loads(f'"{sentence[1]}"')
    except ValueError:
        raise _LeftOut("with a sentence that cannot be read") from None
    return GameFile(name, folder, task, said, hashlib.sha256(data).hexdigest())


def _json(file: Path) -> tuple[bytes, dict[str, Any]]:
    try:
        data = file.read_bytes()
        found = json.loads(data)
    except (OSError, ValueError, RecursionError):
        raise _LeftOut("torn") from None
    if not isinstance(found, dict):
        raise _LeftOut("torn")
    return data, found


def _is_another(name: str, tasks: Sequence[Task]) -> bool:
    """Whether a folder's name says that its type was not asked for, so that its files need not be read."""
    official = _TASK_OF.get(name.partition("-")[0])
    return official is not None and official not in tasks


def _how(folder: str) -> str:
    return (
        f"Two commands get ALFWorld's games: `export ALFWORLD_DATA={folder}` and `alfworld-download` (which comes with "
        "the extra); `llmrl worlds generate alfworld FOLDER` writes games of ours in the same layout instead"
    )
