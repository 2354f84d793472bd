"""`llmrl tune`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llmrl.cli import completion
from llmrl.cli.shell import GOES_ON, ConfigDir, explain_errors


def tune(
    space: Annotated[str, typer.Option(help="The search space: a name in configs/tune/, or a YAML file.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            help="Settings of every trial, as in learner=dqn env_steps=4000",
            show_default=False,
            autocompletion=completion.overrides,
        ),
    ] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="The budget in trials; by default the space's.")] = None,
    out: Annotated[Path | None, typer.Option(help="The folder of log and runs; by default tune/SPACE.")] = None,
    task: Annotated[
        list[str] | None, typer.Option(help="A development world, instead of the space's: 'env=... env.index=3'.")
    ] = None,
    seed: Annotated[list[int] | None, typer.Option(min=0, help="A seed, instead of the space's.")] = None,
    sampler_seed: Annotated[int, typer.Option(min=0, help="The seed of the search itself.")] = 0,
    jobs: Annotated[int, typer.Option(min=1, help="Runs at the same time.")] = 1,
    config_dir: ConfigDir = None,
) -> None:
    """Search settings with a fixed budget, on development tasks. The same command resumes a search that stopped."""
    with explain_errors(GOES_ON):
        from llmrl.tune.plan import plan

        planned = plan(
            space,
            overrides or [],
            tasks=task or [],
            seeds=seed or [],
            trials=trials,
            sampler_seed=sampler_seed,
            config_dir=config_dir,
        )
        from llmrl.tune.screen import Screen
        from llmrl.tune.search import search

        search(planned, out or Path("tune") / planned.space.name, jobs, Screen())
