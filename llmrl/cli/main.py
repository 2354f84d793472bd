"""The `llmrl` command: its commands, one file each. A command imports its own heavy packages, when it runs."""

from __future__ import annotations

import signal
from typing import Annotated

import typer

from llmrl.cli import (
    cache,
    collect,
    compare,
    configs,
    data,
    doctor,
    evaluate,
    lm,
    models,
    play,
    report,
    reproduce,
    runs,
    table,
    train,
    tune,
    worlds,
)
from llmrl.cli.shell import drop_what_nobody_reads, signals, stop

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)
RUN_IT, LOOK, MODELS, MAINTAIN = "Run", "Look", "Models and data", "Maintain"
IN_ORDER = {"ignore_unknown_options": True}  # so that --against stays where it was typed
FOR_VLLM = {"ignore_unknown_options": True, "allow_extra_args": True}
for command, panel, context in (
    (train.train, RUN_IT, None), (collect.collect, RUN_IT, None), (play.play, LOOK, None),
    (evaluate.evaluate, RUN_IT, None), (tune.tune, RUN_IT, None),
    (reproduce.reproduce, RUN_IT, None), (table.table, LOOK, None), (report.report, LOOK, None),
    (compare.plot, LOOK, None),
    (compare.compare, LOOK, IN_ORDER), (configs.configs, LOOK, None), (lm.serve, MODELS, FOR_VLLM),
    (doctor.doctor, MAINTAIN, None),
):  # fmt: skip
    app.command(rich_help_panel=panel, context_settings=context)(command)
for name, group, panel in (
    ("runs", runs, LOOK), ("data", data, MODELS), ("lm", lm, MODELS), ("models", models, MODELS),
    ("worlds", worlds, MODELS), ("cache", cache, MAINTAIN),
):  # fmt: skip
    app.add_typer(group.app, name=name, rich_help_panel=panel)


def _version(wanted: bool) -> None:
    if wanted:
        from llmrl.doctor import version

        typer.echo(f"llmrl {version()}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and the commit.")
    ] = False,
) -> None:
    """Run experiments with RL agents that use a language model as a prior over actions."""


def main() -> None:
    drop_what_nobody_reads()
    signal.signal(signal.SIGTERM, stop)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else SIGINT is ignored
        signal.signal(signal.SIGINT, stop)
    try:
        app(prog_name="llmrl")
    except (KeyboardInterrupt, SystemExit) as end:
        # Before a command begins, Typer and imports turn the signal into another exception.
        failed = not isinstance(end, SystemExit) or bool(end.code)
        if signals and failed:
            raise SystemExit(128 + signals[0]) from None
        raise
