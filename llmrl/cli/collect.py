"""`llmrl collect`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from llmrl.cli.shell import ConfigDir, Runs, explain_errors


def collect(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="out=FILE size=N mix=POLICY[:SHARE],... [success=PERCENT] [noise=SHARE] [KEY=VALUE]...",
            help="POLICY: expert, random, prior, or a run's name. noise: the share of uniform actions, or a range "
            "such as 0.2:0.6.",
            show_default=False,
        ),
    ],
    runs: Runs = Path("runs"),
    config_dir: ConfigDir = None,
) -> None:
    """Collect episodes into a data set. The same command resumes where it stopped, and writes the same bytes."""
    with explain_errors():
        from llmrl.collect import collect as collect_episodes
        from llmrl.collect import parse_order
        from llmrl.config.compose import compose
        from llmrl.training.preflight import refuse_output

        order, overrides = parse_order(arguments)
        refuse_output("out", order.out)
        typer.echo(collect_episodes(compose(overrides, config_dir), order, runs, partial(typer.echo, err=True)))
