"""The `llmrl` command: parse, call, print. What is heavy is imported by the command that needs it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmrl.cli import cache, completion, configs, data, lm, models, runs, worlds
from llmrl.cli.shell import (
    GOES_ON,
    PAUSED,
    ConfigDir,
    Runs,
    drop_what_nobody_reads,
    explained,
    show,
    signals,
    stop,
    typed_options,
)

if TYPE_CHECKING:
    from omegaconf import DictConfig

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)
RUN_IT, LOOK, MODELS, MAINTAIN = "Run", "Look", "Models and data", "Maintain"
for name, commands, panel in (
    ("runs", runs, LOOK), ("data", data, MODELS), ("lm", lm, MODELS), ("models", models, MODELS),
    ("worlds", worlds, MODELS), ("cache", cache, MAINTAIN),
):  # fmt: skip
    app.add_typer(commands.app, name=name, rich_help_panel=panel)


def _version(wanted: bool) -> None:
    if wanted:
        from llmrl.doctor import version

        typer.echo(f"llmrl {version()}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version, and the commit.")
    ] = False,
) -> None:
    """How much faster does an agent learn when a language model tells it which actions make sense?"""


class Shown(StrEnum):
    job = "job"


class Played(StrEnum):
    behaviour = "behaviour"
    greedy = "greedy"
    expert = "expert"


@app.command(rich_help_panel=RUN_IT)
def train(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            help="GROUP=OPTION and KEY=VALUE, as in learner=dqn seed=3",
            show_default=False,
            autocompletion=completion.overrides,
        ),
    ] = None,
    multirun: Annotated[
        bool,
        typer.Option("--multirun", "-m", help="One run for each combination: seed='range(0,5)' learner=dqn,dqn_prior"),
    ] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Runs of a sweep at the same time.")] = 1,
    cfg: Annotated[Shown | None, typer.Option(help="Print the resolved config, and do nothing.")] = None,
    config_dir: ConfigDir = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Begin anew; what there is of this run is kept aside.")
    ] = False,
    allow_drift: Annotated[
        bool, typer.Option("--allow-drift", help="Go on though numbers may differ on this machine; the run is marked.")
    ] = False,
    cached_only: Annotated[
        bool, typer.Option("--cached-only", help="Compute no answer: use kept ones, and say which are missing.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="End before training where data or prior do not fit the world.")
    ] = False,
) -> None:
    """Train an agent. Without arguments: DQN-Prior in a text kitchen, with the embedded model.

    The same command is the same run: it goes on where it stopped, and is shown when it is done.
    """
    flags = {"cached_only": cached_only, "strict": strict}
    overrides = (overrides or []) + [f"{name}=true" for name, on in flags.items() if on]
    with explained(GOES_ON):
        in_sweep = _die_with_the_sweep()
        from llmrl.config.compose import compose, unread_overrides

        if multirun:
            passed_on = [f"--{name}" for name, on in (("fresh", fresh), ("allow-drift", allow_drift)) if on]
            _sweep(overrides, config_dir, jobs, cfg is not None, passed_on)
            return
        config = compose(overrides, config_dir)
        if cfg is not None:
            _print_config(config)
            return
        for line in unread_overrides(overrides, config, config_dir):
            typer.echo(line, err=True)
        _train(config, fresh, allow_drift, in_sweep)


@app.command(rich_help_panel=RUN_IT)
def collect(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="out=FILE size=N mix=WHO[:SHARE],... [success=PERCENT] [noise=SHARE] [KEY=VALUE]...",
            help="WHO: expert, random, prior, or a run's name. noise: of uniform actions, or a range as in 0.2:0.6.",
            show_default=False,
        ),
    ],
    runs: Runs = Path("runs"),
    config_dir: ConfigDir = None,
) -> None:
    """Collect episodes into a data set. The same command goes on where it stopped, and gives the same bytes."""
    with explained():
        from llmrl.collect import collect as collect_episodes
        from llmrl.collect import parse_order
        from llmrl.config.compose import compose
        from llmrl.training.ready import refuse_output

        order, overrides = parse_order(arguments)
        refuse_output("out", order.out)
        typer.echo(collect_episodes(compose(overrides, config_dir), order, runs, partial(typer.echo, err=True)))


@app.command(rich_help_panel=LOOK)
def play(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN|OVERRIDE",
            help="A run, to play with its last weights; without one, an untrained agent. Then KEY=VALUE.",
            autocompletion=completion.runs_and_overrides,
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
    with explained():
        from rich.console import Console

        from llmrl.play import open_game, typed
        from llmrl.play import play as play_game

        console = Console()
        game = open_game(arguments or [], runs, config_dir, greedy, partial(typer.echo, err=True))
        asks = not auto and sys.stdin.isatty() and sys.stdout.isatty()
        play_game(game, console, typed(console) if asks else None, steps)


@app.command(rich_help_panel=RUN_IT)
def evaluate(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN... [KEY=VALUE]...",
            help="Runs: folders, globs, parts of names. Then what is to be other: env.split=valid_unseen env.count=50",
            autocompletion=completion.run_names,
            show_default=False,
        ),
    ],
    episodes: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Of each task. By default success is computed where a run computes it, else there are 100 in all.",
            show_default=False,
        ),
    ] = None,
    policy: Annotated[
        Played, typer.Option(help="expert: who knows the way plays the best of what the prior proposes.")
    ] = Played.behaviour,
    runs: Runs = Path("runs"),
    config_dir: ConfigDir = None,
) -> None:
    """Evaluate trained agents in other games, or with another model. They learn nothing there."""
    with explained("stopped; the same command goes on with the runs that are left"):
        from llmrl.config.compose import ConfigError
        from llmrl.evaluate import Asked, evaluate_all, plan_all
        from llmrl.report.games import evaluations_table
        from llmrl.report.select import filters_of, select

        overrides = tuple(filters_of(arguments))
        names = [word for word in arguments if word not in overrides]
        if not names:
            raise ConfigError(
                "which run? llmrl evaluate RUN... [KEY=VALUE]..., where KEY=VALUE is what is to be other than in "
                "training; `llmrl runs list` shows the runs there are"
            )
        say = partial(typer.echo, err=True)
        planned = plan_all(select(names, runs), Asked(overrides, episodes, policy.value), config_dir)
        judged = evaluate_all(planned, say)
        show(evaluations_table(judged))
        for each in judged:
            typer.echo(each.path)


@app.command(rich_help_panel=RUN_IT)
def tune(
    space: Annotated[str, typer.Option(help="What is searched: a name in configs/tune/, or a YAML file.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            help="Settings of every trial, as in learner=dqn env_steps=4000",
            show_default=False,
            autocompletion=completion.overrides,
        ),
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
    with explained(GOES_ON):
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


@app.command(rich_help_panel=LOOK)
def plot(
    run: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN... [KEY=VALUE]...",
            help="Runs: folders, globs, parts of names, narrowed by their settings.",
            autocompletion=completion.run_names,
        ),
    ],
    metric: Annotated[str, typer.Option(help="What is drawn: a metric's name.")] = "eval/success",
    x: Annotated[str, typer.Option(help="Over what: another metric's name.")] = "env_steps",
    out: Annotated[Path, typer.Option(help="The file to write: .png, .svg or .pdf.")] = Path("curve.png"),
    runs: Runs = Path("runs"),
) -> None:
    """Draw learning curves; runs that differ only in their seed become one line with its interval."""
    with explained():
        from llmrl.report.compare_tables import PICTURES, check_suffix
        from llmrl.report.select import select
        from llmrl.training.ready import refuse_output

        check_suffix(out, PICTURES)
        refuse_output("--out", out)
        from llmrl.report.plots import curve

        typer.echo(curve(select(run, runs), out, metric, x))


@app.command(
    rich_help_panel=LOOK, context_settings={"ignore_unknown_options": True}
)  # so that --against stays where it was typed
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
    with explained():
        from llmrl.report.comparable import Refused
        from llmrl.report.compare import compare as compare_runs
        from llmrl.report.compare import percentages
        from llmrl.report.compare_tables import check_suffix, shown, write
        from llmrl.report.select import two_sides
        from llmrl.report.suggest import working_command
        from llmrl.training.ready import refuse_output

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
        show(shown(found))
        for file in out or []:
            typer.echo(write(found, file))


app.command(rich_help_panel=LOOK)(configs.configs)
app.command(rich_help_panel=MODELS, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(
    lm.serve
)


@app.command(rich_help_panel=MAINTAIN)
def doctor(runs: Runs = Path("runs")) -> None:
    """What is installed, where things are kept, and what is missing."""
    with explained():
        from llmrl.doctor import findings, findings_table

        found = list(findings(runs))
        show(findings_table(found))
        if any(finding.status == "broken" for finding in found):
            raise typer.Exit(1)


def main() -> None:
    drop_what_nobody_reads()
    signal.signal(signal.SIGTERM, stop)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is to be ignored
        signal.signal(signal.SIGINT, stop)
    try:
        app(prog_name="llmrl")
    except (KeyboardInterrupt, SystemExit) as end:
        # Typer, and modules that are being imported, make something else of it where no command has begun.
        failed = not isinstance(end, SystemExit) or bool(end.code)
        if signals and failed:
            raise SystemExit(128 + signals[0]) from None
        raise


def _die_with_the_sweep() -> bool:
    """Whether this is a cell of a sweep; one that was killed would otherwise let it go on, and hold its run."""
    sweep = os.environ.pop("LLMRL_SWEEP", None)
    if sweep is None:
        return False
    if sys.platform == "linux":
        import ctypes

        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, int(signal.SIGTERM))
    if sweep != str(os.getppid()):  # it was killed before this process got here
        raise typer.Exit(128 + signal.SIGTERM)
    return True


def _train(config: DictConfig, fresh: bool, allow_drift: bool, in_sweep: bool) -> None:
    from llmrl.report.progress import Events, reporter
    from llmrl.train import train

    shown = Events() if in_sweep else reporter(config.progress)
    try:
        train(config, shown, fresh=fresh, allow_drift=allow_drift)
    finally:
        shown.close()


def _sweep(overrides: list[str], config_dir: Path | None, jobs: int, only_print: bool, flags: Sequence[str]) -> None:
    from llmrl.config.compose import unread_overrides
    from llmrl.sweep import launch, plan, refuse_unready_cells

    planned = plan(overrides, config_dir)
    if only_print:
        for cell in planned:
            typer.echo(f"--- # {' '.join(cell.overrides)}")
            _print_config(cell.cfg)
        return
    lines = [line for cell in planned for line in unread_overrides(cell.overrides, cell.cfg, config_dir)]
    for line in dict.fromkeys(lines):
        typer.echo(line, err=True)
    refuse_unready_cells(planned, fresh="--fresh" in flags)
    from llmrl.lm.serve import served_for
    from llmrl.report import sweeps
    from llmrl.report.tables import sweep_table

    shared = set.intersection(*(set(cell.overrides) for cell in planned)) if len(planned) > 1 else set()
    names = [" ".join(word for word in cell.overrides if word not in shared) for cell in planned]
    waiting = [cell.cfg for cell in planned if "--fresh" in flags or not cell.is_complete]
    with served_for(waiting, typer.echo), sweeps.Screen(names) as screen:
        codes = launch(planned, config_dir, jobs, screen, flags)
    rows = []
    for cell, code in zip(planned, codes, strict=True):
        run = cell.run()
        status = "paused" if code == PAUSED else "failed" if code or run is None else run.status
        rows.append((cell.overrides, run, status))
    show(sweep_table(rows))
    made = [run for _, run, _ in rows if run is not None]
    if found := sweeps.arms(made):
        typer.echo()
        show(sweeps.arms_table(found))
        for path in sweeps.keep(found, made, Path(planned[0].cfg.paths.runs)):
            typer.echo(path)
    if any(codes):
        alike = set(codes) - {0}
        raise typer.Exit(alike.pop() if alike in ({PAUSED}, {2}) else 1)


def _print_config(config: DictConfig) -> None:
    from omegaconf import OmegaConf

    typer.echo(OmegaConf.to_yaml(config), nl=False)
