"""The screens of `llmrl play`, one for each decision. A screen shows the state, the model's answers and the prior.
Then it shows Q, the posterior, and the choice of the agent or of a person.
"""

from __future__ import annotations

import select
import signal
import socket
import sys
from collections.abc import Callable, Sequence

import numpy as np
from rich.bar import Bar
from rich.console import Console, Group, RenderableType
from rich.rule import Rule
from rich.segment import Segment, Segments
from rich.table import Table
from rich.text import Text

from llmrl.play import Decision, Game

BAR = 12  # columns of a full bar
VIEWS = ("f", "a", "m", "?")  # as much as fits on the terminal; all; the world's drawing; help
FEWEST = 4  # rows of the table of actions, and lines of text, however small the terminal
PROMPT = 2  # lines below a screen
HELP = """\
Enter     take the action that the policy drew (>)
a number  take that action instead
a         show everything, however long
f         show as much as fits on the terminal
m         show the drawing of the environment
r         start the same episode once more
q         quit

The table has a row for each action:
>          the policy drew this action
*          the action begins a shortest way to success
prior      probability of the action under the prior, before any draw
drawn      how many of the k draws from the prior are this action
w          weight of the action among the candidates; it sums to 1
Q          learned value of the action
posterior  probability that the agent takes the action: w exp(Q/alpha) / Z"""


def ask_at_terminal(console: Console) -> Callable[[Text], str]:
    """An `ask` at a terminal.

    A signal that comes just before `input` reads would wait for the next line. So a signal writes to a socket, and
    `ask` waits for either.
    """
    hears, told = socket.socketpair()
    for end in (hears, told):
        end.setblocking(False)
    signal.set_wakeup_fd(told.detach(), warn_on_full_buffer=False)  # open for as long as the process

    def ask(prompt: Text) -> str:
        console.print(prompt, end="")
        while sys.stdin not in select.select([sys.stdin, hears], [], [])[0]:
            hears.recv(1024)  # a signal that does not end the command, such as a change of the window's size
        return input()

    return ask


def play(game: Game, console: Console, ask: Callable[[Text], str] | None = None, steps: int | None = None) -> None:
    """Shows a screen for each decision and each end of an episode.

    `ask` shows a prompt and returns what a person typed; EOFError ends the game. Without it the agent plays by itself,
    one episode. `steps`: that many decisions, over as many episodes as they take.
    """
    taken = 0
    try:
        if game.cache is not None and game.cache.note:
            console.print(Text(game.cache.note, style="yellow"))
        game.start()
        while True:
            if not game.over and taken == steps:
                return
            decision = None if game.over else game.decide()
            key, view = VIEWS[0], VIEWS[0]
            while key in VIEWS:
                view = key
                if ask is None:
                    console.print(Rule(style="dim"))
                else:
                    console.clear()
                console.print(screen_of(game, decision, console, view))
                if game.over and (taken == steps or (ask is None and steps is None)):
                    return
                key = "" if ask is None else _read_choice(ask, console, decision)
            if key == "q":
                return
            if key == "r" or decision is None:
                game.start(again=key == "r")
                continue
            game.take(decision.state, decision.chosen if key == "" else int(key) - 1)
            taken += 1
    except EOFError:
        return
    finally:
        game.close()


def screen_of(game: Game, decision: Decision | None, console: Console, view: str = VIEWS[0]) -> Group:
    """Everything about this moment, or one of VIEWS of it; `decision` is None at the end of an episode.

    On a terminal the first view has no more lines than the terminal: the drawing goes first, then the actions that
    are least likely, then the end of long texts.
    """
    head: list[RenderableType] = [Text(game.title, style="bold"), _where(game, decision)]
    drawing = _drawing(game)
    if view == "?":
        return Group(*head, Text(""), Text(HELP))
    if view == "m":
        return Group(*head, Text(""), drawing or Text("This environment has no drawing."))
    told: list[RenderableType] = [Text(game.state.task), Text(game.state.observation), Text("")]
    if decision is None:
        foot: list[RenderableType] = [_end(game)]
    else:
        told += _show_answers(decision)
        foot = [_legend(game, decision)]
    room = console.height - PROMPT if console.is_terminal and view == VIEWS[0] else None

    def lines(parts: Sequence[RenderableType]) -> int:
        return len(console.render_lines(Group(*parts))) if parts else 0

    actions = len(decision.state.actions) + 1 if decision is not None else 0
    with_drawing = [*head, Text(""), drawing, Text("")] if drawing else [*head, Text("")]
    if room is None or lines([*with_drawing, *told, *foot]) + actions <= room:
        return Group(*with_drawing, *told, *_menu(game, decision), *foot)
    if drawing:
        foot = [Text("m: the drawing of the environment", style="dim"), *foot]
    left = room - lines([*head, *foot]) - min(actions, FEWEST + 2)
    told = [_crop(console, told, max(left, FEWEST))]
    rows = room - lines([*head, *told, *foot])
    return Group(*head, *told, *_menu(game, decision, rows if rows < actions else None), *foot)


def _menu(game: Game, decision: Decision | None, lines: int | None = None) -> list[RenderableType]:
    """The table of actions. With `lines`, it has the likeliest actions, and the number of the others."""
    if decision is None:
        return []
    expert = game.outcome.info.get("expert_actions") or ()
    shares = decision.shares()
    shown = range(len(shares))
    if lines is not None:
        first = sorted(shown, key=lambda a: (a != decision.chosen, game.state.actions[a] not in expert, -shares[a]))
        shown_actions = sorted(first[: max(lines - 2, FEWEST)])
    else:
        shown_actions = list(shown)
    is_trusted = game.prior.trust is None or game.prior.trust.best
    informed = game.prior.cfg.source != "uniform" and not game.prior.cfg.evaluation.uniform and is_trusted
    table = _actions_table(decision, expert, informed, shown_actions)
    others = len(shares) - len(shown_actions)
    if not others:
        return [table]
    rest = _percent(max(0.0, 1 - sum(shares[a] for a in shown_actions)))
    return [table, Text(f"  … {others} more actions, {rest} together · a: all of them", style="dim")]


def _end(game: Game) -> Text:
    success = bool(game.outcome.info.get("success", False))
    how = "success" if success else "no success" if game.outcome.terminated else "no success: out of time"
    steps = f"{_count_in_words(game.decisions, 'decision')}, {_count_in_words(game.primitive_steps, 'primitive step')}"
    text = f"{how} · return {game.ret:.3f} · {steps}"
    return Text(text, style="bold green" if success else "bold red")


def _where(game: Game, decision: Decision | None) -> Text:
    parts = [f"episode {game.episode + 1}", str(game.outcome.info.get("task_id", ""))]
    if decision is not None:
        parts += [
            f"decision {game.decisions + 1}",
            f"return {game.ret:.3f}",
            f"primitive steps {game.primitive_steps}",
        ]
    return Text(" · ".join(filter(None, parts)), style="dim")


def _drawing(game: Game) -> Text | None:
    if "ansi" not in game.env.metadata.get("render_modes", ()):
        return None
    drawn = game.env.render()
    if not isinstance(drawn, str):
        return None
    text = Text.from_ansi(drawn)
    text.no_wrap, text.overflow = True, "crop"
    return text


def _legend(game: Game, decision: Decision) -> Text:
    policy = "the greedy policy's choice" if game.greedy else "the policy's draw"
    parts = [f"> {policy}"]
    if game.outcome.info.get("expert_actions"):
        parts.append("* begins a shortest way to success")
    if decision.explanation.answers and all(a is None for _, (a, _) in decision.explanation.answers):
        parts.append("no answer names an action: all are equally likely")
    return Text(" · ".join(parts), style="dim")


def _show_answers(d: Decision) -> list[RenderableType]:
    """The model's thoughts and free answers, if the prior asked for some."""
    thoughts = d.explanation.thoughts
    parts: list[RenderableType] = []
    for i, thought in enumerate(thoughts):
        number = "" if len(thoughts) == 1 else f" {i + 1}"
        parts += [Text(f"thought{number}: {thought.strip()}", style="italic"), Text("")]
    return [*parts, _answers_table(d), Text("")] if d.explanation.answers else parts


def _crop(console: Console, parts: Sequence[RenderableType], lines: int) -> RenderableType:
    """The first `lines` lines. The last of them says that the text is longer."""
    rendered = console.render_lines(Group(*parts), pad=False)
    if len(rendered) <= lines:
        return Group(*parts)
    kept = [segment for line in rendered[: lines - 1] for segment in (*line, Segment.line())]
    return Group(Segments(kept), Text("… a: the whole of it", style="dim"))


def _actions_table(
    d: Decision, expert: Sequence[str] | frozenset[str], informed: bool, actions: Sequence[int]
) -> Table:
    """A row for each of `actions`. `informed`: whether a prior is known here; then its weights may have a column."""
    draws, weights = d.explanation.draws, d.explanation.weights
    w = dict(zip(d.candidates.actions.tolist(), np.exp(d.candidates.log_weights).tolist(), strict=True))
    pi = dict(zip(d.candidates.actions.tolist(), d.posterior.tolist(), strict=True))
    q = dict(zip(d.candidates.actions.tolist(), d.q.tolist(), strict=True)) if d.q is not None else {}
    shown: dict[str, Callable[[int], str]] = {}
    if informed and (weights is not None or draws is None):
        of_prior = [weights[a] if weights is not None else w.get(a, 0.0) for a in range(len(d.state.actions))]
        if d.q is not None or any(_percent(of_prior[a]) != _percent(pi.get(a, 0.0)) for a in range(len(of_prior))):
            shown["prior"] = lambda a: _percent(of_prior[a])
    if draws is not None:
        shown["drawn"] = lambda a: f"{round(w[a] * draws)}/{draws}" if a in w else "-"
    if d.q is not None:
        shown["Q"] = lambda a: f"{q[a]:.3f}" if a in q else "-"
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), expand=True)
    table.add_column("", no_wrap=True)
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("action", overflow="fold", ratio=1)
    for title in shown:
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("posterior" if d.q is not None else "w", no_wrap=True, min_width=BAR)
    table.add_column("", justify="right", no_wrap=True)
    for a in actions:
        action = d.state.actions[a]
        table.add_row(
            ">" if a == d.chosen else "",
            str(a + 1),
            "*" if action in expert else "",
            Text(action),
            *(show(a) for show in shown.values()),
            Bar(1, 0, pi.get(a, 0.0), width=BAR, color="cyan"),
            _percent(pi[a]) if a in pi else "-",
            style="bold" if a == d.chosen else "" if a in pi else "dim",
        )
    return table


def _answers_table(d: Decision) -> Table:
    """The model's answers, one a row, and the action that each names."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("the model's answers", overflow="fold")
    table.add_column("", no_wrap=True)
    table.add_column("", overflow="fold")
    for answer, found in d.explanation.answers:
        taken = "" if found.action is None else f"{found.action + 1} {d.state.actions[found.action]}"
        failed = f"{found.how}, taken for {taken}" if taken else found.how
        table.add_row(Text(repr(answer)), "→", Text(failed, style="red") if found.failed else Text(taken))
    return table


def _read_choice(ask: Callable[[Text], str], console: Console, decision: Decision | None) -> str:
    """One of r, q, VIEWS, the number of an action, and nothing for Enter."""
    if decision is None:
        prompt, numbers = "Enter: next episode · r: this one again · ?: help · q: quit ", range(0)
    else:
        prompt = f"Enter: take {decision.chosen + 1} · a number: take that one · ?: help · q: quit "
        numbers = range(1, len(decision.state.actions) + 1)
    while True:
        key = ask(Text(prompt, style="dim")).strip().lower()
        key = "?" if key in ("h", "help") else key
        if key in ("", "r", "q", *VIEWS):
            return key
        if key.isdecimal() and int(key) in numbers:
            return key
        numbered = f", or a number from 1 to {len(numbers)}" if numbers else ""
        console.print(Text(f"{key}: type Enter, r, q or ?{numbered}"))


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.1 or share == 0 else "<0.1%" if share < 0.001 else f"{share:.1%}"


def _count_in_words(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"
