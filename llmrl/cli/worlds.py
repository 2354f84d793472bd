"""`llmrl worlds`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from llmrl.cli.shell import explain_errors

app = typer.Typer(help="Check the data of worlds, and make some.", no_args_is_help=True)


class WorldWithData(StrEnum):
    alfworld = "alfworld"


@app.command("generate")
def worlds_generate(
    world: Annotated[WorldWithData, typer.Argument(help="alfworld: homes of ours in ALFWorld's layout.")],
    out: Annotated[Path, typer.Argument(help="The folder to write to; ALFWORLD_DATA then names it.")],
    split: Annotated[list[str] | None, typer.Option(help="Only this split; by default all three.")] = None,
    task: Annotated[list[str] | None, typer.Option(help="Only this type of task; by default all six.")] = None,
    count: Annotated[int, typer.Option(min=1, help="The number of games of each type in each split.")] = 10,
    index: Annotated[int, typer.Option(min=0, help="The number of the first game.")] = 0,
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
    """Count the games that can be played, and name those left out with the reason. The exit code is 1 without games."""
    with explain_errors():
        from llmrl.envs.alfworld.check import check_games

        for line in check_games():
            typer.echo(line)
