"""`llmrl play`."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from llmrl.cli import completion
from llmrl.cli.shell import ConfigDir, Runs, explain_errors


def play(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN|OVERRIDE",
            help="A run, to play with its last weights. Without one, an untrained agent plays. Then KEY=VALUE.",
            autocompletion=completion.runs_and_overrides,
            show_default=False,
        ),
    ] = None,
    greedy: Annotated[bool, typer.Option("--greedy", help="Play the greedy policy.")] = False,
    auto: Annotated[
        bool, typer.Option("--auto", help="Play one episode, or --steps decisions, without asking.")
    ] = False,
    steps: Annotated[int | None, typer.Option(min=1, help="End after this many decisions.")] = None,
    runs: Runs = Path("runs"),
    config_dir: ConfigDir = None,
) -> None:
    """Watch an agent decide: the model's answers, the prior, Q, the posterior, and the outcome."""
    with explain_errors():
        from rich.console import Console

        from llmrl.cli.play_screen import ask_at_terminal
        from llmrl.cli.play_screen import play as play_game
        from llmrl.play import open_game

        console = Console()
        game = open_game(arguments or [], runs, config_dir, greedy, partial(typer.echo, err=True))
        asks = not auto and sys.stdin.isatty() and sys.stdout.isatty()
        play_game(game, console, ask_at_terminal(console) if asks else None, steps)
