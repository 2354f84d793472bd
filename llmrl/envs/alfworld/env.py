"""ALFWorld's text games, played by its own engine. Which games there are: `games`; how they are played: `engine`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

from llmrl.envs.alfworld import packages
from llmrl.envs.alfworld.games import Collection, GameFile, NoGames, Split, collect, data_hash, data_root
from llmrl.envs.alfworld.memory import Memory, Remembered
from llmrl.envs.alfworld.shadow import Shadow, shadow_of
from llmrl.envs.base import TextEnv, Turn
from llmrl.envs.household.game import TASKS, Task
from llmrl.envs.household.instructions import Unit

if TYPE_CHECKING:
    from llmrl.envs.alfworld.engine import Engine, Shown

Grammar = Literal["packaged", "file"]
WELCOME = "-= Welcome to TextWorld, ALFRED! =-\n\n"


def alfworld(
    *,
    task: Task | Literal["mixed"] = "mixed",
    split: Split = "train",
    index: int = 0,
    count: int | None = None,
    unit: Unit = "games",
    without: Sequence[str] = (),
    memory: Remembered = "none",
    grammar: Grammar = "packaged",
    max_decisions: int = 50,
) -> AlfworldEnv:
    """The games of one of the six types, or of all, that a split of $ALFWORLD_DATA has; one task each.

    `index` and `count` (None: all) choose among them in the order of their names; with `unit="instructions"` among the
    instructions, in the order in which games first give them, and all games that give them are played. Games whose
    instruction is one of `without` are left out before anything is counted. Raises ValueError where nothing is chosen.
    """
    packages.require()
    if task != "mixed" and task not in TASKS:
        raise ValueError(f"task={task}: choose one of {', '.join(TASKS)}, mixed")
    found = collect(data_root(), split, TASKS if task == "mixed" else (task,))
    games = choose_games(found.games, index, count, unit, without)
    return AlfworldEnv(found._replace(games=games), memory=memory, grammar=grammar, max_decisions=max_decisions)


class AlfworldEnv(TextEnv):
    """One task per game, named as its folder in the split.

    The goal pays 1 and ends the episode with success; nothing else pays. A decision is one primitive step. The texts
    are the engine's own; the first one is shown without its greeting and without the instruction, which is the task.
    With `memory` they are followed by what a player would remember (see `memory`). What experts do is known for games
    of ours (`llmrl worlds generate`), and unknown for others.

    Game files are untrusted: a grammar holds expressions that are evaluated, so that of the package is used, with the
    file's instruction put into it as plain text. `grammar="file"` uses the file's own: for files that one trusts.
    """

    def __init__(
        self,
        games: Collection,
        *,
        max_decisions: int,
        memory: Remembered = "none",
        grammar: Grammar = "packaged",
        fast: bool = True,
    ) -> None:
        """`fast=False`: TextWorld's engine as it is, which says the same, and takes some fifty times as long."""
        if grammar not in get_args(Grammar):
            raise ValueError(f"grammar={grammar}: choose one of {', '.join(get_args(Grammar))}")
        if memory not in get_args(Remembered):
            raise ValueError(f"memory={memory}: choose one of {', '.join(get_args(Remembered))}")
        super().__init__([game.name for game in games.games], max_decisions=max_decisions)
        self.games = dict(zip(self.task_ids, games.games, strict=True))
        self.note = games.note  # what was left out, for a person
        self.provenance: Mapping[str, Any] = {
            "packages": packages.require(),
            "games": len(games.games),
            "data": data_hash(games.games),
            "left_out": {why: len(names) for why, names in games.left_out.items()},
            "success": "won",  # the engine's own word for it
        }
        self._packaged, self._fast = grammar == "packaged", fast
        self._engine: Engine | None = None
        self._loaded: GameFile | None = None
        self._shadow: Shadow | None = None
        self._remembered: Remembered = memory
        self._memory: Memory | None = None

    def close(self) -> None:
        if self._engine is not None:
            self._engine.close()
            self._engine = self._loaded = None

    def _reset(self, task_id: str) -> tuple[str, Turn]:
        game = self.games[task_id]
        engine = self._load(game)
        shown = engine.reset()
        if self._shadow is not None:
            self._shadow.reset()
        text = shown.text.removeprefix(WELCOME).removesuffix(f"\n\n{game.sentence}")
        if self._memory is not None:
            self._memory.reset(text)
        return game.instruction, self._turn(shown, text)

    def _step(self, index: int) -> Turn:
        assert self._engine is not None
        command = self._actions[index]
        shown = self._engine.step(command)
        if self._shadow is not None:
            self._shadow.step(command)
        return self._turn(shown, shown.text)

    def _turn(self, shown: Shown, text: str) -> Turn:
        if self._memory is not None:
            self._memory.observe(text)
            text = f"{text}\n{self._memory.describe()}"
        return Turn(
            text,
            shown.commands,
            reward=float(shown.won),
            terminated=shown.won,
            success=shown.won,
            expert_actions=None if self._shadow is None else self._shadow.expert_actions(),
        )

    def _load(self, game: GameFile) -> Engine:
        if self._engine is None:
            from llmrl.envs.alfworld.engine import Engine

            self._engine = Engine(self._fast)
        if self._loaded != game:
            self._loaded = None
            logic = game.logic()
            try:
                if self._packaged:
                    self._engine.load(logic | {"grammar": packages.packaged_logic()[1]}, game.sentence)
                else:
                    self._engine.load(logic)
            except (Exception, SystemExit) as error:  # the parsers end the process over what they cannot read
                raise NoGames(
                    f"{game.path} cannot be played ({type(error).__name__}: {' '.join(str(error).split())}): "
                    "get the file again, or move its folder away"
                ) from error
            self._shadow = shadow_of(game)
            self._memory = Memory(self._remembered, game.trajectory()) if self._remembered != "none" else None
            self._loaded = game
        return self._engine


def choose_games(
    games: Sequence[GameFile], index: int, count: int | None, unit: Unit, without: Sequence[str]
) -> tuple[GameFile, ...]:
    """See `alfworld`."""
    if unit not in get_args(Unit):
        raise ValueError(f"unit={unit}: choose one of {', '.join(get_args(Unit))}")
    given = {game.instruction for game in games}
    if unknown := [text for text in without if text not in given]:
        said = ", ".join(sorted(given)[:5])
        raise ValueError(f"without={unknown[0]!r}: no game says this; what games say: {said}, ...")
    left = [game for game in games if game.instruction not in without]
    units: list[Any] = list(dict.fromkeys(game.instruction for game in left)) if unit == "instructions" else left
    wanted = set(units[index : None if count is None else index + count])
    if not wanted or (count is not None and len(wanted) < count):
        raise ValueError(
            f"index={index}, count={'null' if count is None else count}: there are {len(units)} {unit}, numbered from 0"
        )
    return tuple(game for game in left if (game.instruction if unit == "instructions" else game) in wanted)
