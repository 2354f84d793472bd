"""`llmrl runs`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llmrl.cli.completion import run_names
from llmrl.cli.shell import RUN, Runs, explain_errors, show

app = typer.Typer(help="Look at runs, send them to dashboards, and remove them.", no_args_is_help=True)


@app.command("list")
def runs_list(
    filters: Annotated[
        list[str] | None, typer.Option("--filter", metavar="KEY=VALUE", help="Only runs with this setting; repeatable.")
    ] = None,
    sort: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Sort by a column; -COLUMN in descending order.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for a program.")] = False,
    runs: Runs = Path("runs"),
) -> None:
    """List all runs: the settings that differ, their progress, and their success."""
    with explain_errors():
        from rich.console import Console

        from llmrl.config.compose import ConfigError
        from llmrl.report import listing
        from llmrl.report.select import select
        from llmrl.run.load import is_damaged, load_runs

        for word in filters or []:
            if "=" not in word:
                raise ConfigError(f"--filter {word}: write KEY=VALUE, as in --filter learner=dqn")
        everything = load_runs(runs, aside=True)
        found = listing.rows(select(filters, runs, aside=True) if filters else everything, sort)
        if as_json:
            typer.echo(listing.as_json(found))
            return
        for path in filter(is_damaged, sorted(runs.iterdir()) if runs.is_dir() else ()):
            typer.echo(f"left out: {path}, whose summary.json is missing or cannot be read", err=True)
        if not found:
            typer.echo(f"no runs in {runs}/; `llmrl train` makes one")
            return
        console = Console()
        own, aside = [row for row in found if not row.aside], [row for row in found if row.aside]
        if own:
            console.print(listing.render(own, console))
        if aside:
            typer.echo("set aside (`llmrl runs rm --aside NAME` removes them):")
            console.print(listing.render(aside, console))


@app.command("rm")
def runs_rm(
    words: Annotated[
        list[str],
        typer.Argument(metavar="RUN... [KEY=VALUE]...", help="Runs: folders, globs, parts of names, settings."),
    ],
    aside: Annotated[bool, typer.Option("--aside", help="Also remove their folders that were set aside.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    runs: Runs = Path("runs"),
) -> None:
    """Remove runs, after a question that names them. Files outside the folder of runs stay."""
    with explain_errors():
        from rich.filesize import decimal

        from llmrl.report.select import select
        from llmrl.run.remove import check_removable, remove, size

        found = select(words, runs, aside)
        check_removable(found, runs)
        for run in found:
            typer.echo(f"{run.path}  {run.status}, {decimal(size(run.path))}")
        one = len(found) == 1
        if not (yes or typer.confirm(f"remove {'this run' if one else f'these {len(found)} runs'} for good?")):
            typer.echo("nothing was removed")
            raise typer.Exit(1)
        remove(found, runs)
        typer.echo(f"removed {len(found)} run{'' if one else 's'}")


@app.command("push")
def runs_push(
    words: Annotated[
        list[str],
        typer.Argument(metavar="RUN... [KEY=VALUE]...", help="Runs: folders, globs, parts of names, settings."),
    ],
    to: Annotated[list[str], typer.Option("--to", metavar="LOGGER", help="tensorboard, wandb or trackio; repeatable.")],
    folder: Annotated[str | None, typer.Option(help="TensorBoard's, with a folder for each run.")] = None,
    project: Annotated[str | None, typer.Option(help="The project, of wandb or Trackio.")] = None,
    entity: Annotated[str | None, typer.Option(help="A user or a team of wandb.")] = None,
    mode: Annotated[str | None, typer.Option(help="The mode of wandb: online or offline.")] = None,
    wandb_dir: Annotated[str | None, typer.Option("--dir", help="Holds wandb's own files.")] = None,
    space_id: Annotated[str | None, typer.Option(help="A Hugging Face Space of Trackio, USER/NAME.")] = None,
    runs: Runs = Path("runs"),
) -> None:
    """Send runs to dashboards: what is there of them, and what the dashboard has not got yet.

    An option that is not typed is as the run had it (`logger.wandb.project`), or as `llmrl configs logger` lists it.
    """
    with explain_errors():
        from llmrl.core.overrides import ConfigError, one_of
        from llmrl.loggers.live import push
        from llmrl.loggers.logger import LOGGERS, LoggerError, refuse_missing_package, settings_of
        from llmrl.report.select import select

        typed = {"folder": folder, "project": project, "entity": entity, "mode": mode}
        typed |= {"dir": wandb_dir, "space_id": space_id}
        names = list(dict.fromkeys(to))
        for name in names:
            if name not in LOGGERS:
                raise ConfigError(one_of("--to", name, LOGGERS))
            refuse_missing_package(name, f"--to {name}")
        chosen = [
            (run, name, settings_of(name, run.config, typed, names)) for run in select(words, runs) for name in names
        ]
        failed = False
        for run, name, settings in chosen:
            try:
                done = push(run.path, name, settings)
            except LoggerError as error:
                failed = True
                typer.echo(f"{run.name}: {name} does not have all rows ({error})", err=True)
            else:
                sent = f"{done['new']:,} of {done['rows']:,} rows sent to {name}"
                there = f"all {done['rows']:,} rows are in {name} already"
                typer.echo(f"{run.name}: {sent if done['new'] else there}: {done['where']}")
        if failed:
            raise typer.Exit(1)


@app.command("show")
def runs_show(
    run: Annotated[str, typer.Argument(help=RUN, autocompletion=run_names)], runs: Runs = Path("runs")
) -> None:
    """Show one run: its results, its cost, its provenance, and the command that makes it."""
    with explain_errors():
        from llmrl.report.command import shell_line
        from llmrl.report.tables import run_table
        from llmrl.run.load import find_run
        from llmrl.run.versions import git_state

        git = git_state()
        found = find_run(run, runs)
        show(run_table(found, git["commit"] if git else None))
        try:
            if found.config:
                typer.echo(shell_line(found.config))
        except ValueError as error:
            typer.echo(f"its command is not known: {error}")
