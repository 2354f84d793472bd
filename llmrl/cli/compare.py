"""`llmrl plot` and `llmrl compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from llmrl.cli import completion
from llmrl.cli.shell import Runs, explain_errors, show, typed_options

Columns = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=2,
        help="The columns of a paper: a picture 3.25 (1) or 6.75 (2) inches wide; by default for a screen.",
    ),
]


def plot(
    run: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN... [KEY=VALUE]...",
            help="Runs: folders, globs, parts of names, narrowed by their settings.",
            autocompletion=completion.run_names,
        ),
    ],
    metric: Annotated[str, typer.Option(help="The metric to draw, by its name.")] = "eval/success",
    x: Annotated[str, typer.Option(help="The metric of the horizontal axis.")] = "env_steps",
    out: Annotated[Path, typer.Option(help="The file to write: .png, .svg or .pdf.")] = Path("curve.png"),
    columns: Columns = None,
    runs: Runs = Path("runs"),
) -> None:
    """Draw learning curves. Runs that differ only in their seed become one line with its interval."""
    with explain_errors():
        from llmrl.report.compare_tables import PICTURES, check_suffix
        from llmrl.report.select import select
        from llmrl.training.preflight import refuse_output

        check_suffix(out, PICTURES)
        refuse_output("--out", out)
        from llmrl.report.plots import curve

        typer.echo(curve(select(run, runs), out, metric, x, columns))


def compare(
    ctx: typer.Context,
    run: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN... --against RUN...",
            help="Runs on either side: folders, globs, parts of names. KEY=VALUE of their settings narrows both sides.",
            autocompletion=completion.run_names,
        ),
    ],
    at: Annotated[str, typer.Option(help="Thresholds of success, in percent.")] = "50,80,95",
    x: Annotated[
        str, typer.Option(help="The cost to count: env_steps, lm/distinct_prompts, seconds, ...")
    ] = "env_steps",
    metric: Annotated[str, typer.Option(help="eval/success or eval_greedy/success.")] = "eval/success",
    with_training: Annotated[bool, typer.Option("--with-training", help="Count the training of models too.")] = False,
    allow_dirty: Annotated[
        bool, typer.Option("--allow-dirty", help="Take runs of uncommitted code, and mark them.")
    ] = False,
    allow_different: Annotated[
        bool, typer.Option("--allow-different", help="Take groups of different worlds or evaluations, and mark them.")
    ] = False,
    out: Annotated[
        list[Path] | None, typer.Option(help="A file to write: .md, .json, or a picture (.png, .svg, .pdf).")
    ] = None,
    columns: Columns = None,
    runs: Runs = Path("runs"),
) -> None:
    """Compare groups of runs with another group: the ratio of decisions to a success, with its interval."""
    with explain_errors():
        from llmrl.report.comparable import Refused
        from llmrl.report.compare import compare as compare_runs
        from llmrl.report.compare import percentages
        from llmrl.report.compare_tables import check_suffix, render, write
        from llmrl.report.select import two_sides
        from llmrl.report.suggest import working_command
        from llmrl.training.preflight import refuse_output

        for file in out or []:
            check_suffix(file)
            refuse_output("--out", file)
        levels = percentages(at)
        a, b, told = two_sides(run, runs)
        asked: dict[str, Any] = {
            "x": x, "with_training": with_training, "allow_dirty": allow_dirty, "allow_different": allow_different,
        }  # fmt: skip
        try:
            found = compare_runs(a, b, metric=metric, levels=levels, told=told, **asked)
        except Refused as refused:
            command = working_command(run, typed_options(ctx), a, b, runs, asked)
            raise Refused(f"{refused}\nthis works:\n{command}" if command else str(refused)) from None
        show(render(found))
        for file in out or []:
            typer.echo(write(found, file, columns))
