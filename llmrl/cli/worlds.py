"""`llmrl worlds`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from llmrl.cli.shell import explain_errors

app = typer.Typer(help="Look at the data of worlds, and make some.", no_args_is_help=True)


class WorldWithData(StrEnum):
    alfworld = "alfworld"


@app.command("generate")
def worlds_generate(
    world: Annotated[WorldWithData, typer.Argument(help="alfworld: homes of ours in ALFWorld's layout.")],
    out: Annotated[Path, typer.Argument(help="The folder to write to; ALFWORLD_DATA then names it.")],
    split: Annotated[list[str] | None, typer.Option(help="Of this split; all three without.")] = None,
    task: Annotated[list[str] | None, typer.Option(help="Of this type of task; all six without.")] = None,
    count: Annotated[int, typer.Option(min=1, help="Games of each type in each split.")] = 10,
    index: Annotated[int, typer.Option(min=0, help="The first one's number.")] = 0,
) -> None:
    """Write games that another engine can play. The same command writes the same files."""
    with explain_errors():
        from llmrl.envs.alfworld.check import generate_games

        for line in generate_games(out, split, task, count, index):
            typer.echo(line)


@app.command("check")
def worlds_check(
    world: Annotated[WorldWithData, typer.Argument(help="alfworld: the games in $ALFWORLD_DATA.")],
) -> None:
    """How many games there are to play, and which are left out and why; exit code 1 where there is none."""
    with explain_errors():
        from llmrl.envs.alfworld.check import check_games

        for line in check_games():
            typer.echo(line)
