"""The `llmrl` command: parse, call, print. What is heavy is imported by the command that needs it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from rich.console import RenderableType

app = typer.Typer(
    help="How much faster does an agent learn when a language model tells it which actions make sense?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
runs_app = typer.Typer(help="Look at runs.", no_args_is_help=True)
app.add_typer(runs_app, name="runs")


class Shown(StrEnum):
    job = "job"


ConfigDir = Annotated[
    Path | None, typer.Option(help="A folder with config groups of your own (env/mine.yaml, learner/mine.yaml, ...).")
]
Runs = Annotated[Path, typer.Option("--runs", help="Where runs are kept.")]
RUN = "A run's folder, or a part of its name that no other has."


@app.command()
def train(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="GROUP=OPTION and KEY=VALUE, as in learner=dqn seed=3", show_default=False),
    ] = None,
    multirun: Annotated[
        bool,
        typer.Option("--multirun", "-m", help="One run for each combination: seed='range(0,5)' learner=dqn,dqn_prior"),
    ] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Runs of a sweep at the same time.")] = 1,
    cfg: Annotated[Shown | None, typer.Option(help="Print the resolved config, and do nothing.")] = None,
    config_dir: ConfigDir = None,
) -> None:
    """Train an agent. Without arguments: DQN-Prior in a text kitchen, with the embedded model."""
    overrides = overrides or []
    with _explained():
        from llmrl.config import compose

        if config_dir is not None:
            sys.path.insert(0, str(Path.cwd()))  # so that its `_target_`s are found, as by `python -m llmrl`
        if multirun:
            _sweep(overrides, config_dir, jobs, cfg is not None)
            return
        config = compose(overrides, config_dir)
        if cfg is not None:
            _print_config(config)
            return
        _train(config)


@app.command()
def play(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN|OVERRIDE",
            help="A run, to play with its last weights; without one, an untrained agent. Then KEY=VALUE.",
            show_default=False,
        ),
    ] = None,
    greedy: Annotated[bool, typer.Option("--greedy", help="Play the greedy policy.")] = False,
    auto: Annotated[bool, typer.Option("--auto", help="Play one episode, or --steps, without asking.")] = False,
    steps: Annotated[int | None, typer.Option(min=1, help="End after so many decisions.")] = None,
    runs: Runs = Path("runs"),
    config_dir: ConfigDir = None,
) -> None:
    """Watch an agent decide: what the model says, what Q adds, and what comes of it."""
    with _explained():
        from rich.console import Console

        from llmrl.play import open_game
        from llmrl.play import play as play_game

        if config_dir is not None:
            sys.path.insert(0, str(Path.cwd()))
        console = Console()
        game = open_game(arguments or [], runs, config_dir, greedy)
        asks = not auto and sys.stdin.isatty() and sys.stdout.isatty()
        play_game(game, console, console.input if asks else None, steps)


@runs_app.command("list")
def runs_list(runs: Runs = Path("runs")) -> None:
    """All runs: how far they are, and how well they do."""
    with _explained():
        from llmrl.report.tables import runs_table
        from llmrl.run.load import load_runs

        found = load_runs(runs)
        if found:
            _print(runs_table(found))
        else:
            typer.echo(f"no runs in {runs}/; `llmrl train` makes one")


@runs_app.command("show")
def runs_show(run: Annotated[str, typer.Argument(help=RUN)], runs: Runs = Path("runs")) -> None:
    """One run: its settings, results, cost, and where it comes from."""
    with _explained():
        from llmrl.report.tables import run_table
        from llmrl.run.load import find_run
        from llmrl.run.versions import git_state

        git = git_state()
        _print(run_table(find_run(run, runs), git["commit"] if git else None))


@app.command()
def tune(
    space: Annotated[str, typer.Option(help="What is searched: a name in configs/tune/, or a YAML file.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="Settings of every trial, as in learner=dqn env_steps=4000", show_default=False),
    ] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="The budget; by default the space's.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where log and runs are kept; by default tune/SPACE.")] = None,
    task: Annotated[
        list[str] | None, typer.Option(help="A development world, instead of the space's: 'env=... env.index=3'.")
    ] = None,
    seed: Annotated[list[int] | None, typer.Option(min=0, help="A seed, instead of the space's.")] = None,
    sampler_seed: Annotated[int, typer.Option(min=0, help="The seed of the search itself.")] = 0,
    jobs: Annotated[int, typer.Option(min=1, help="Runs at the same time.")] = 1,
    config_dir: ConfigDir = None,
) -> None:
    """Search settings with a fixed budget, on development tasks. The same command continues a search that stopped."""
    with _explained():
        from llmrl.tune.plan import plan

        if config_dir is not None:
            sys.path.insert(0, str(Path.cwd()))
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


@app.command()
def plot(
    run: Annotated[list[str], typer.Argument(help=RUN)],
    metric: Annotated[str, typer.Option(help="What is drawn: a metric's name.")] = "eval/success",
    x: Annotated[str, typer.Option(help="Over what: another metric's name.")] = "env_steps",
    out: Annotated[Path, typer.Option(help="The file to write: .png, .svg or .pdf.")] = Path("curve.png"),
    runs: Runs = Path("runs"),
) -> None:
    """Draw learning curves; runs that differ only in their seed become one line with its interval."""
    with _explained():
        from llmrl.report.plots import curve
        from llmrl.run.load import find_run

        typer.echo(curve([find_run(text, runs) for text in run], out, metric, x))


@app.command(context_settings={"ignore_unknown_options": True})  # so that --against stays where it was typed
def compare(
    run: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN... --against RUN...",
            help="Runs on either side: folders, globs, parts of names, and KEY=VALUE of their settings.",
        ),
    ],
    at: Annotated[str, typer.Option(help="Thresholds of success, in percent.")] = "50,80,95",
    x: Annotated[str, typer.Option(help="What is counted: env_steps, lm/distinct_prompts, seconds, ...")] = "env_steps",
    metric: Annotated[str, typer.Option(help="eval/success or eval_greedy/success.")] = "eval/success",
    with_training: Annotated[bool, typer.Option("--with-training", help="Count the training of models, too.")] = False,
    allow_dirty: Annotated[bool, typer.Option("--allow-dirty", help="Runs of uncommitted code, marked.")] = False,
    allow_different: Annotated[
        bool, typer.Option("--allow-different", help="Groups of different worlds or evaluations, marked.")
    ] = False,
    out: Annotated[
        list[Path] | None, typer.Option(help="A file to write: .md, .json, or a picture (.png, .svg, .pdf).")
    ] = None,
    runs: Runs = Path("runs"),
) -> None:
    """Compare groups of runs with another group: how many times fewer decisions, and how sure that is."""
    with _explained():
        from llmrl.report.compare import compare as compare_runs
        from llmrl.report.compare import percentages
        from llmrl.report.comparison import check_suffix, shown, write
        from llmrl.report.select import select, sides

        for file in out or []:
            check_suffix(file)
        a, b = (select(words, runs) for words in sides(run))
        found = compare_runs(
            a, b, metric=metric, x=x, levels=percentages(at), with_training=with_training, allow_dirty=allow_dirty,
            allow_different=allow_different,
        )  # fmt: skip
        _print(shown(found))
        for file in out or []:
            typer.echo(write(found, file))


@app.command()
def doctor(runs: Runs = Path("runs")) -> None:
    """What is installed, where things are kept, and what is missing."""
    with _explained():
        from llmrl.doctor import findings
        from llmrl.report.tables import findings_table

        found = list(findings(runs))
        _print(findings_table(found))
        if any(finding.status == "broken" for finding in found):
            raise typer.Exit(1)


def main() -> None:
    app(prog_name="llmrl")


def _train(config: DictConfig) -> None:
    from llmrl.progress import reporter
    from llmrl.train import train

    shown = reporter(config.progress)
    try:
        train(config, shown)
    finally:
        shown.close()


def _sweep(overrides: list[str], config_dir: Path | None, jobs: int, only_print: bool) -> None:
    from llmrl.report.tables import sweep_table
    from llmrl.sweep import launch, plan

    planned = plan(overrides, config_dir)
    if only_print:
        for cell in planned:
            typer.echo(f"--- # {' '.join(cell.overrides)}")
            _print_config(cell.cfg)
        return
    codes = launch(planned, config_dir, jobs, typer.echo)
    rows = []
    for cell, code in zip(planned, codes, strict=True):
        run = cell.run()
        status = "failed" if code or run is None else run.status
        rows.append((cell.overrides, run, status))
    _print(sweep_table(rows))
    if any(codes):
        raise typer.Exit(1)


def _print_config(config: DictConfig) -> None:
    from omegaconf import OmegaConf

    typer.echo(OmegaConf.to_yaml(config), nl=False)


def _print(shown: RenderableType) -> None:
    from rich.console import Console

    Console().print(shown)


@contextmanager
def _explained() -> Iterator[None]:
    """Errors in one line, and the exit codes: 2 for what was typed, 1 for what failed, 130 for Ctrl-C."""
    try:
        yield
    except KeyboardInterrupt:
        _fail("stopped; the same command runs it again, and asks for no answer twice", 130)
    except (typer.Exit, typer.Abort, BrokenPipeError):
        raise
    except Exception as error:
        if os.environ.get("LLMRL_DEBUG") == "1":
            raise
        from llmrl.overrides import ConfigError

        if isinstance(error, ConfigError):
            _fail(str(error), 2)
        _fail(_one_line(error), 1)


def _one_line(error: Exception) -> str:
    """A ValueError's message, and that of an error of ours, is for a person; else the type, and where to look."""
    notes = getattr(error, "__notes__", [])
    if isinstance(error, ValueError) or type(error).__module__.startswith("llmrl."):
        return "; ".join([str(error), *notes])
    if not notes:
        notes = ["LLMRL_DEBUG=1 shows the traceback"]
    return "; ".join([f"{type(error).__name__}: {error}", *notes])


def _fail(text: str, code: int) -> NoReturn:
    typer.secho("error: " if code != 130 else "", fg=typer.colors.RED, err=True, nl=False)
    typer.echo(text, err=True)
    raise typer.Exit(code)
