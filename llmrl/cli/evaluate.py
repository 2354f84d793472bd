"""`llmrl evaluate`."""

from __future__ import annotations

from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from llmrl.cli import completion
from llmrl.cli.shell import ConfigDir, Runs, explain_errors, show


class Played(StrEnum):
    behaviour = "behaviour"
    greedy = "greedy"
    expert = "expert"


def evaluate(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN... [KEY=VALUE]...",
            help="Runs: folders, globs, parts of names. Then settings to change: env.split=valid_unseen env.count=50",
            autocompletion=completion.run_names,
            show_default=False,
        ),
    ],
    episodes: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Episodes of each task. By default success is computed where a run computes it; else 100 in all.",
            show_default=False,
        ),
    ] = None,
    policy: Annotated[
        Played, typer.Option(help="expert: the best action that the prior proposes, by the world's expert.")
    ] = Played.behaviour,
    runs: Runs = Path("runs"),
    config_dir: ConfigDir = None,
) -> None:
    """Evaluate trained agents in other games, or with another model. They learn nothing there."""
    with explain_errors("stopped; the same command resumes with the runs that are left"):
        from llmrl.config.compose import ConfigError
        from llmrl.evaluate import Asked, evaluate_all, plan_all
        from llmrl.report.games import evaluations_table
        from llmrl.report.select import filters_of, select

        overrides = tuple(filters_of(arguments))
        names = [word for word in arguments if word not in overrides]
        if not names:
            raise ConfigError(
                "which run? llmrl evaluate RUN... [KEY=VALUE]..., where KEY=VALUE is a setting to change after "
                "training; `llmrl runs list` shows the runs there are"
            )
        say = partial(typer.echo, err=True)
        planned = plan_all(select(names, runs), Asked(overrides, episodes, policy.value), config_dir)
        judged = evaluate_all(planned, say)
        show(evaluations_table(judged))
        for each in judged:
            typer.echo(each.path)
