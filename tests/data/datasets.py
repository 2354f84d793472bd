"""Data sets for tests, made up row by row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from llmrl.data.dataset import Builder, DataSet


def row(episode: int, at: int, of: int, **changed: Any) -> dict[str, Any]:
    """Row `at` of an episode of `of`, in a world of numbered rooms."""
    last = at == of - 1
    return {
        "episode": episode, "task": f"task {episode % 2}", "observation": f"room {at}", "actions": ["east", "west"],
        "action": "east", "reward": float(last), "duration": 2, "terminated": last, "truncated": False,
        "next_observation": f"room {at + 1}", "next_actions": [] if last else ["east", "west"], "success": True,
        "task_id": f"t{episode % 2}", "agent": "random",
    } | changed  # fmt: skip


def rows(*lengths: int) -> list[dict[str, Any]]:
    return [row(episode, at, of) for episode, of in enumerate(lengths) for at in range(of)]


def built(rows: Sequence[dict[str, Any]], where: str = "made up", **about: Any) -> DataSet:
    builder = Builder(where)
    for each in rows:
        builder.add(each)
    return builder.done(about)


_text = st.text(st.characters(codec="utf-8"), max_size=6)
_menu = st.lists(_text, min_size=1, max_size=4, unique=True)


@st.composite
def any_rows(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Whole episodes of anything."""
    out = []
    for episode in range(draw(st.integers(1, 4))):
        task, task_id, agent, success = draw(st.tuples(_text, _text, _text, st.sampled_from([True, False, None])))
        observation, menu = draw(_text), draw(_menu)
        length = draw(st.integers(1, 5))
        for at in range(length):
            last, terminated = at == length - 1, draw(st.booleans())
            ended = last and terminated
            then, later = draw(_text), draw(st.just([]) | _menu if ended else _menu)
            out.append({
                "episode": episode, "task": task, "observation": observation, "actions": menu,
                "action": draw(st.sampled_from(menu)), "reward": draw(st.floats(allow_nan=False, allow_infinity=False)),
                "duration": draw(st.integers(1, 99)), "terminated": ended, "truncated": last and not ended,
                "next_observation": then, "next_actions": later, "success": success, "task_id": task_id, "agent": agent,
            })  # fmt: skip
            observation, menu = then, later
    return out
