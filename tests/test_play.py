"""`llmrl play` in this process, on a console of 80 columns."""

from __future__ import annotations

import io
import os
import re
import select
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from eager import make_eager
from omegaconf import OmegaConf
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

import llmrl.play
from llmrl.cli.play_screen import BAR, ask_at_terminal, play, screen_of
from llmrl.config.compose import ConfigError, compose
from llmrl.lm.language_model import Sampling
from llmrl.play import Game, open_game
from llmrl.prompts.project import project
from llmrl.run.load import RunInfo, load_runs
from llmrl.training.trained_agent import changed_config

WIDTH = 80
MENU = ["fetch the tomato", "take the empty bowl", "go to the board", "serve nothing", "chop nothing"]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMRL_CACHE", str(tmp_path_factory.getbasetemp() / "play.sqlite3"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, llama_folder: str) -> RunInfo:
    """A short run with a model of random weights, and a learner that has learned something."""
    from llmrl.train import train

    root = tmp_path_factory.mktemp("trained")
    settings = [
        "env=overcooked_tomato", "lm=hf", f"lm.model={llama_folder}", "lm.device=cpu", "env_steps=64",
        "env.max_decisions=8", "learner.learning_starts=16", "learner.batch=8", "evaluation.every=64",
        "evaluation.episodes=1", f"paths.runs={root}", f"paths.cache={root / 'kept.sqlite3'}",
    ]  # fmt: skip
    train(compose(settings))
    (run,) = load_runs(root)
    return run


def shown(game: Game, typed: list[str] | None = None, steps: int | None = None) -> str:
    """What a person sees of a game; `typed`: what they type, until they close the terminal."""
    console = Console(width=WIDTH, file=io.StringIO(), color_system=None, force_terminal=False)
    ask: Callable[[Text], str] | None = None
    if typed is not None:
        keys = iter(typed)

        def ask(prompt: Text) -> str:
            console.print(prompt)
            try:
                return next(keys)
            except StopIteration:
                raise EOFError from None

    play(game, console, ask, steps)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(cell_len(line) for line in text.splitlines()) <= WIDTH
    return text


def rows(screen: str) -> Iterator[dict[str, str]]:
    """The rows of the first table of actions."""
    heading, *rest = screen[screen.index("      action ") :].splitlines()
    titles = heading.split()
    for line in rest:
        found = re.match(r"(>?) +(\d+) (\*?) +(.*?)  +(.*)$", line)
        if not found:
            return
        chosen, number, expert, action, values = found.groups()
        blocks = "".join(re.findall("[█▏▎▍▌▋▊▉]", values))
        plain = re.sub("[█▏▎▍▌▋▊▉]+", " ", values).split()
        row = {"chosen": chosen, "number": number, "expert": expert, "action": action, "bar": blocks}
        yield row | dict(zip([*titles[1:-1], "share"], plain, strict=True))


# ---- the prompt ---------------------------------------------------------------------------------------------------


def test_a_prompt_waits_for_a_line_or_a_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is there to be read until one of them comes: else waiting would be a busy loop."""
    ours, theirs = os.pipe()
    calls: list[int] = []
    real = select.select

    def watched(read: list[Any], *rest: Any) -> Any:
        calls.append(len(calls))
        assert real(read, [], [], 0)[0] == []
        if len(calls) == 1:
            signal.raise_signal(signal.SIGUSR1)  # which ends nothing
        else:
            os.write(theirs, b"q\n")
        return real(read, *rest)

    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    with os.fdopen(ours) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        monkeypatch.setattr(select, "select", watched)
        try:
            assert ask_at_terminal(Console(file=io.StringIO()))(Text("?")) == "q"
        finally:
            monkeypatch.undo()
            os.close(signal.set_wakeup_fd(-1))
            os.close(theirs)
            signal.signal(signal.SIGUSR1, before)
    assert calls == [0, 1]


# ---- the screen --------------------------------------------------------------------------------------------------


def test_a_trained_agent_shows_prior_draws_q_and_posterior(trained: RunInfo) -> None:
    game = open_game([trained.name], trained.path.parent)
    screen = shown(game, steps=1)
    assert f"{trained.name} · as of decision 64" in " ".join(screen.split())
    assert "decision 1 · return 0.000 · primitive steps 0" in screen
    assert "in the bowl  nothing" in screen  # the drawing
    assert "Cook and serve: tomato salad.\nYou hold nothing. You see a tomato." in screen
    table = list(rows(screen))
    assert [row["action"] for row in table] == MENU
    assert [row["number"] for row in table] == ["1", "2", "3", "4", "5"]
    assert [row["expert"] for row in table] == ["*", "", "", "", ""]
    (chosen,) = (row for row in table if row["chosen"])
    assert all(re.fullmatch(r"\d+%|\d\.\d%|<0\.1%", row["prior"]) for row in table)
    drawn = [row for row in table if row["drawn"] != "-"]
    assert chosen in drawn
    assert sum(int(row["drawn"].removesuffix("/5")) for row in drawn) == 5
    for row in table:  # only what was drawn has a Q and a share of the posterior
        assert (row["Q"] == "-") == (row["share"] == "-") == (row not in drawn)
    assert sum(len(row["bar"]) for row in drawn) >= BAR - 1


@pytest.mark.parametrize(
    ("settings", "prior"),
    [
        (["prior=shuffled"], True),
        (["prior=marginal"], True),
        (["prior=oracle", "prior.error=0.5"], True),
        (["prior.evaluation.uniform=true"], False),
    ],
)
def test_controls_show_what_was_drawn_from(settings: list[str], prior: bool, llama_folder: str) -> None:
    game = Game(compose(["env=overcooked_tomato", "lm=hf", f"lm.model={llama_folder}", *settings]), "untrained", False)
    table = list(rows(shown(game, steps=1)))
    assert ("prior" in table[0], "drawn" in table[0]) == (prior, prior)
    if settings[0] == "prior=oracle":
        assert [row["prior"] for row in table] == ["60%", "10%", "10%", "10%", "10%"]


def test_q_is_the_checkpoints_not_the_initial_networks(trained: RunInfo) -> None:
    settings = [f"{key}={value}" for key, value in (("lm.device", "cpu"), ("prior.evaluation.k", "null"))]
    game = open_game([trained.name, *settings], trained.path.parent)
    learned = {row["action"]: float(row["Q"]) for row in rows(shown(game, steps=1))}
    fresh = Game(changed_config(trained, settings), "untrained", greedy=False)
    initial = {row["action"]: float(row["Q"]) for row in rows(shown(fresh, steps=1))}
    assert learned.keys() == initial.keys() == set(MENU)
    assert learned != initial


def test_the_greedy_policy_takes_the_best_q(trained: RunInfo) -> None:
    game = open_game([trained.name, "prior.evaluation.k=null"], trained.path.parent, greedy=True)
    screen = shown(game, steps=1)
    table = list(rows(screen))
    assert "the greedy policy's choice" in screen
    (chosen,) = (row for row in table if row["chosen"])
    assert float(chosen["Q"]) == max(float(row["Q"]) for row in table)


@pytest.mark.parametrize("redraw", ["never", "visit", "union"])
def test_generated_answers_are_shown_with_what_they_name(llama_folder: str, redraw: str) -> None:
    cfg = compose(
        [
            "learner=dqn_prior_paper", "env=overcooked_tomato", "lm=hf", f"lm.model={llama_folder}", "lm.device=cpu",
            f"prior.evaluation.redraw={redraw}", "prior.limit=2", "prior.projection=whole",
        ]
    )  # fmt: skip
    game = Game(cfg, "random weights", greedy=False)
    screen = shown(game, steps=1)
    assert "the model's answers" in screen
    assert len(re.findall(r" → (nothing|\d)", screen)) == 7  # k=5 and the limit: this model names no action
    assert screen.count("→ nothing") == 7
    assert "no answer names an action: all are equally likely" in " ".join(screen.split())
    assert {row["prior"] for row in rows(screen)} == {"20%"}


def test_an_answer_points_to_the_action_that_its_own_words_name() -> None:
    cfg = compose(["learner=prior_only", "prior=generated", "env=overcooked_tomato", "prior.mix=0"])
    screen = shown(Game(cfg, "the embedded model", greedy=False), steps=1)
    answers = re.findall(r"^['\"](.*?)['\"] +→ (?:nothing|ambiguous|negated|(\d+) (.*?)) *$", screen, re.MULTILINE)
    assert len(answers) >= 5
    for text, number, action in answers:
        index = project(text, MENU).action
        assert (str(index + 1), MENU[index]) == (number, action) if index is not None else number == ""
    table = list(rows(screen))
    assert "Q" not in table[0]
    for row in table:  # without mixing, an action is drawn as often as it is named
        named = sum(number == row["number"] for _, number, _ in answers)
        assert row["drawn"] == (f"{named}/5" if named else "-")


def test_answers_that_are_redrawn_are_those_of_this_visit() -> None:
    cfg = compose(["learner=prior_only", "prior=generated", "env=overcooked_tomato", "prior.evaluation.redraw=visit"])
    game = Game(cfg, "the embedded model", greedy=False)
    sampling = Sampling(cfg.prior.max_tokens, cfg.prior.temperature, cfg.prior.top_p, cfg.prompt.end, cfg.seed)
    game.start()
    first, second = game.decide().explanation, game.decide().explanation
    (texts,) = game.answers.generations([game.prior.prompt.render(game.state)], 20, sampling)
    game.close()
    assert [text for text, _ in first.answers] == texts[: len(first.answers)]
    assert [text for text, _ in second.answers] == texts[10 : 10 + len(second.answers)]


def test_draws_that_add_up_are_counted_over_all_visits() -> None:
    cfg = compose(["learner=dqn", "prior=uniform_k", "env=overcooked_tomato", "prior.evaluation.redraw=union"])
    game = Game(cfg, "untrained", greedy=False)
    screen = shown(game, typed=["r", "r", "q"])
    last = screen[screen.rindex("untrained") :]
    drawn = [row["drawn"] for row in rows(last) if row["drawn"] != "-"]
    assert sum(int(text.removesuffix("/15")) for text in drawn) == 15
    assert "prior" not in next(rows(last))


@pytest.mark.parametrize(
    ("learner", "columns"), [("random", "action w"), ("prior_only", "action w"), ("dqn", "action Q posterior")]
)
def test_only_what_there_is_has_a_column(learner: str, columns: str) -> None:
    cfg = compose([f"learner={learner}", "env=overcooked_tomato"])
    screen = shown(Game(cfg, learner, greedy=False), steps=1)
    heading = next(line for line in screen.splitlines() if line.startswith("      action"))
    assert " ".join(heading.split()) == columns


def test_no_text_of_a_world_breaks_the_screen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wide_world.py").write_text(
        """
from llmrl.envs.base import TextEnv, Turn

class Wide(TextEnv):
    metadata = {"render_modes": ["ansi"]}

    def __init__(self):
        super().__init__(("t",), max_decisions=3)

    def render(self):
        return "#" * 200

    def _reset(self, task_id):
        return "x" * 200, Turn("[bold]not markup[/bold] " + "y" * 200, ("[red] " + "a" * 90, "b [/] 字" * 20))

    def _step(self, index):
        return Turn("It is over.", (), terminated=True)
"""
    )
    (tmp_path / "conf" / "env").mkdir(parents=True)
    (tmp_path / "conf" / "env" / "wide.yaml").write_text("_target_: wide_world.Wide\nname: wide\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    screen = shown(open_game(["env=wide", "learner=dqn"], config_dir=tmp_path / "conf"))
    assert "[bold]not markup[/bold]" in screen
    assert "#" * WIDTH in screen.splitlines()
    assert "wide · dqn, untrained · prior uniform" in screen
    assert "no success · return 0.000 · 1 decision, 1 primitive step" in screen


HOME = ["env=household/heat", "learner=dqn", "env.split=train", "env.count=2"]


@pytest.mark.parametrize("height", [16, 24, 40])
def test_a_screen_fits_the_terminal(height: int) -> None:
    """In a home, whose drawing and whose menu have more lines than that, from the first decision to the last."""
    game = Game(compose([*HOME, "env.max_decisions=5"]), "a home", greedy=False)
    console = Console(width=WIDTH, height=height, file=io.StringIO(), color_system=None, force_terminal=True)
    game.start()
    while not game.over:
        decision = game.decide()
        with console.capture() as captured:
            console.print(screen_of(game, decision, console))
        screen = captured.get()
        assert len(screen.splitlines()) <= height - 2
        others = re.search(r"… (\d+) more actions, <?[\d.]+% together", screen)
        seen = list(rows(screen))
        assert len(seen) + (int(others[1]) if others else 0) == len(game.state.actions)
        assert others or height == 40
        assert [row["action"] for row in seen if row["chosen"]] == [game.state.actions[decision.chosen]]
        with console.capture() as captured:
            console.print(screen_of(game, decision, console, "a"))
        assert [row["action"] for row in rows(captured.get())] == list(game.state.actions)
        game.take(decision.state, decision.chosen)
    with console.capture() as captured:
        console.print(screen_of(game, None, console))
    assert len(captured.get().splitlines()) <= height - 2
    game.close()


def test_views_change_nothing_of_the_game() -> None:
    screen = shown(cook(), typed=["?", "m", "a", "f", "2"])
    help_, drawing, everything, fits, second = re.split(r"^a cook$", screen, flags=re.MULTILINE)[2:]
    assert "take the action that the policy drew" in help_
    assert "in the bowl  nothing" in drawing
    assert "You hold nothing." not in drawing
    assert list(rows(everything)) == list(rows(fits)) != []
    assert "decision 2 · return -0.006" in second


# ---- playing -----------------------------------------------------------------------------------------------------


def cook() -> Game:
    return Game(compose(["learner=random", "env=overcooked_tomato", "env.max_decisions=4"]), "a cook", greedy=False)


def test_enter_takes_the_agents_choice_and_a_number_another() -> None:
    screen = shown(cook(), typed=["2", ""])
    assert "Enter: take" in screen
    _, second, third = re.split(r"^a cook$", screen, flags=re.MULTILINE)[1:]
    assert "You hold the empty bowl." in second
    assert "decision 2 · return -0.006 · primitive steps 6" in second
    (chosen,) = (row["action"] for row in rows(second) if row["chosen"])
    assert "decision 3" in third
    expected = cook()
    expected.start()
    for action in ("take the empty bowl", chosen):
        expected.take(expected.state, expected.state.actions.index(action))
    assert expected.state.observation in third
    expected.close()


def test_an_episode_ends_and_the_next_one_begins() -> None:
    screen = shown(cook(), typed=["5", "5", "5", "5", "", "r", "q"])
    assert "no success: out of time · return -0.004 · 4 decisions, 4 primitive steps" in screen
    starts = re.findall(r"^(episode \d) · overcooked_tomato · decision 1 ", screen, re.MULTILINE)
    assert starts == ["episode 1", "episode 2", "episode 2"]


def test_success_is_said() -> None:
    def a_cook() -> Game:
        return Game(compose(["learner=random", "env=overcooked_tomato"]), "a cook", greedy=False)

    scout, way = a_cook(), []
    scout.start()
    while not scout.over:
        way.append(scout.state.actions.index(min(scout.outcome.info["expert_actions"])))
        scout.take(scout.state, way[-1])
    scout.close()
    screen = shown(a_cook(), typed=[*(str(action + 1) for action in way), "q"])
    assert re.search(r"^success · return 1\.\d+ · 6 decisions, 28 primitive steps", screen, re.MULTILINE)


def test_it_is_told_what_is_waited_for(llama_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_eager(monkeypatch, llmrl.play)
    settings = ["learner=prior_only", "prior=scored", "env=overcooked_tomato", "lm=hf", f"lm.model={llama_folder}"]
    said: list[str] = []
    game = open_game([*settings, "lm.device=cpu", f"paths.cache={tmp_path / 'kept.sqlite3'}"], say=said.append)
    assert said == ["loading overcooked_tomato · prior_only, untrained · prior scored"]
    shown(game, steps=2)
    assert said[1:] == ["loading small-llama", *["0 of 1 prompts asked of hf in 0:00"] * 2]


def test_what_is_no_key_is_asked_again() -> None:
    screen = shown(cook(), typed=["9", "0", "-1", "take", "2"])
    assert screen.count("type Enter, r, q or ?, or a number from 1 to 5") == 4
    assert "You hold the empty bowl." in screen


def test_without_a_person_it_plays_one_episode_or_so_many_decisions() -> None:
    one = shown(cook())
    assert one.count("· decision ") == 4
    assert one.count("out of time") == 1
    six = shown(cook(), steps=6)
    assert six.count("· decision ") == 6
    assert six.count("out of time") == 1
    assert shown(cook(), steps=4).count("out of time") == 1
    assert shown(cook(), steps=6) == six


def test_nothing_is_written_into_the_runs_folder(trained: RunInfo) -> None:
    before = {p: p.read_bytes() for p in trained.path.rglob("*") if p.is_file()}
    shown(open_game([trained.name], trained.path.parent), steps=3)
    assert {p: p.read_bytes() for p in trained.path.rglob("*") if p.is_file()} == before


# ---- what is played ----------------------------------------------------------------------------------------------


def test_a_runs_settings_are_changed_by_overrides(trained: RunInfo) -> None:
    changed = changed_config(trained, ["seed=5", "prior.evaluation={k:15}", "env.max_decisions=9"])
    assert (changed.seed, changed.prior.evaluation.k, changed.env.max_decisions) == (5, 15, 9)
    assert changed_config(trained, []) == compose([f"{key}={value}" for key, value in _typed_settings(trained).items()])
    with pytest.raises(ConfigError, match=r"env\.max_decisions=paper: expected a whole number$"):
        changed_config(trained, ["env.max_decisions=paper"])
    game = open_game([trained.name, "prior.evaluation.k=15"], trained.path.parent)
    drawn = [row["drawn"] for row in rows(shown(game, steps=1)) if row["drawn"] != "-"]
    assert sum(int(text.removesuffix("/15")) for text in drawn) == 15


def test_a_cap_may_be_changed_by_its_name(tmp_path: Path) -> None:
    OmegaConf.save(compose(["env=household/pick", "learner=random"]), tmp_path / "config.yaml")
    run = RunInfo(tmp_path)
    named, numbered = (changed_config(run, [f"env.max_decisions={cap}"]) for cap in ("paper", 61))
    assert named == numbered
    assert named.env.max_decisions == 61
    with pytest.raises(ConfigError, match=r"or paper \(61\)"):
        changed_config(run, ["env.max_decisions=papers"])


def _typed_settings(run: RunInfo) -> dict[str, object]:
    config = run.config
    return {
        "env": "overcooked_tomato", "lm": "hf", "lm.model": config["lm"]["model"], "lm.device": "cpu", "env_steps": 64,
        "env.max_decisions": 8, "learner.learning_starts": 16, "learner.batch": 8, "evaluation.every": 64,
        "evaluation.episodes": 1, "paths.runs": config["paths"]["runs"], "paths.cache": config["paths"]["cache"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("learner.lr=0.1", "too late to change"),
        ("encoder.dim=8", "too late to change"),
        ("prior.behaviour.k=3", "set that"),
        ("prior.evaluation.kk=3", "did you mean prior.evaluation.k=3"),
        ("prior.evaluation.k=0", "at least 1"),
        ("env=overcooked_salad", "a run keeps its parts"),
        ("~lm", "a run keeps its parts"),
        ("seed=1,2", "with one value"),
        ("+seed=1", "with one value"),
        ("seed=x", "expected a whole number"),
    ],
)
def test_overrides_that_make_no_sense_are_refused(trained: RunInfo, override: str, said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        open_game([trained.name, override], trained.path.parent)


def test_two_runs_are_one_too_many(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="one run is played at a time"):
        open_game(["a", "b"], tmp_path)


def test_a_run_before_its_first_checkpoint_says_so(tmp_path: Path) -> None:
    from report.runs_on_disk import make_run

    run = make_run(tmp_path, ["learner=dqn", "env=overcooked_tomato"], lambda step: 0.0)
    with pytest.raises(ValueError, match="has not reached its first checkpoint; one is kept every 1,000 decisions"):
        open_game([run.name], tmp_path)
    (run.path / "config.yaml").unlink()
    with pytest.raises(ValueError, match=r"config\.yaml is missing"):
        open_game([run.name], tmp_path)


def test_weights_that_do_not_fit_say_so(tmp_path: Path) -> None:
    from report.runs_on_disk import make_run

    from llmrl.run.checkpoint import write_checkpoint

    run = make_run(tmp_path, ["learner=dqn", "env=overcooked_tomato"], lambda step: 0.0)
    other = Game(compose(["learner=dqn", "learner.hidden=[8]"]), "smaller", greedy=False)
    write_checkpoint(run.path / "checkpoints" / "1", other.learner.state_dict(), None, {})
    with pytest.raises(ValueError, match=r"checkpoints/1: its weights do not fit the learner in config\.yaml"):
        open_game([run.name], tmp_path)
    write_checkpoint(run.path / "checkpoints" / "2", {}, None, {})
    (run.path / "checkpoints" / "2" / "weights.safetensors").unlink()
    with pytest.raises(ValueError, match=r"its weights\.safetensors cannot be read"):
        open_game([run.name], tmp_path)
    other.close()
