"""`llmrl cache`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llmrl.cli.shell import RUN, Runs, explain_errors, show

app = typer.Typer(help="Look after the cache of answers and feature rows, and share it.", no_args_is_help=True)


Cache = Annotated[
    Path | None,
    typer.Option(help="The cache; by default $LLMRL_CACHE, or the one in your cache folder.", show_default=False),
]


@app.command("info")
def cache_info(cache: Cache = None) -> None:
    """Show the models whose answers the cache holds, how many, and since when."""
    with explain_errors():
        from llmrl.answers.cache_file import cache_path
        from llmrl.answers.inspection import info
        from llmrl.report.cache_tables import info_tables

        for part in info_tables(info(cache_path(cache))):
            show(part)


@app.command("verify")
def cache_verify(cache: Cache = None) -> None:
    """Check every entry of the cache, and change nothing. The exit code is 1 where an entry is wrong."""
    with explain_errors():
        from llmrl.answers.cache_file import cache_path
        from llmrl.answers.inspection import verify
        from llmrl.report.cache_tables import verify_lines

        found = verify(cache_path(cache))
        for line in verify_lines(found):
            typer.echo(line)
        if found.problems:
            raise typer.Exit(1)


@app.command("prune")
def cache_prune(
    cache: Cache = None,
    model: Annotated[list[str] | None, typer.Option(help="Entries of this model; may be given more than once.")] = None,
    mode: Annotated[str | None, typer.Option(help="score, generate, or rows: feature rows.")] = None,
    before: Annotated[
        str | None, typer.Option(help="Entries stored before a time: 2026-01-31, or 2026-01-31T12:00.")
    ] = None,
    damaged: Annotated[bool, typer.Option("--damaged", help="Entries that `llmrl cache verify` finds wrong.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Remove them; without it, only count them.")] = False,
) -> None:
    """Remove the entries that match every option given."""
    with explain_errors():
        from llmrl.answers.cache_file import cache_path
        from llmrl.answers.pruning import Selection, prune
        from llmrl.answers.records import as_utc
        from llmrl.report.cache_tables import prune_line

        selection = Selection(model or (), mode, as_utc(before) if before else None, damaged)
        typer.echo(prune_line(prune(cache_path(cache), selection, yes), yes))


@app.command("export")
def cache_export(
    out: Annotated[Path, typer.Argument(help="The file to write; it must not exist.")],
    cache: Cache = None,
    model: Annotated[list[str] | None, typer.Option(help="Entries of this model; may be given more than once.")] = None,
    run: Annotated[list[str] | None, typer.Option(help=f"Entries of this run's models. {RUN}")] = None,
    runs: Runs = Path("runs"),
) -> None:
    """Write answers and feature rows to a new file, to share or to publish with a run."""
    with explain_errors():
        from llmrl.answers.cache_file import cache_path
        from llmrl.answers.transfer import export
        from llmrl.report.cache_tables import export_lines
        from llmrl.run.load import models_of

        source = cache_path(cache)
        for line in export_lines(out, export(source, out, model or (), models_of(run or [], runs))):
            typer.echo(line)


@app.command("import")
def cache_import(
    file: Annotated[Path, typer.Argument(help="An export, another cache, or one that was set aside.")],
    cache: Cache = None,
) -> None:
    """Add the entries that this cache lacks, and keep those it has. From a damaged file, add those that can be read."""
    with explain_errors():
        from llmrl.answers.answers import AnswerCache
        from llmrl.answers.cache_file import cache_path
        from llmrl.answers.transfer import import_
        from llmrl.report.cache_tables import import_lines

        into = AnswerCache(cache_path(cache))
        if into.note:
            typer.echo(into.note, err=True)
        for line in import_lines(file, into.path, import_(into, file)):
            typer.echo(line)
        into.close()
