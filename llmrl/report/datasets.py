"""The texts of `llmrl data` and `llmrl collect` about data sets."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from llmrl.data.dataset import UNKNOWN, DataSet

_LONGEST = 60  # characters of a text that is shown among others


def info(path: Path, data: DataSet) -> Iterator[str]:
    """A data set in a dozen lines: how much, of what, how good, and where it comes from."""
    starts = data.starts
    success = data["success"][starts]
    returns = np.add.reduceat(data["reward"], starts)
    lengths = np.diff(np.append(starts, len(data)))
    known = success != UNKNOWN
    size = f", {path.stat().st_size:,} bytes" if path.is_file() else ""
    yield f"{path}: {len(data):,} transitions, {len(starts):,} episodes{size}"
    yield f"content     {data.content()}"
    share = f"{success[known].mean():.1%} of {known.sum():,}" if known.any() else "not known"
    yield f"success     {share}" + (f"; of {(~known).sum():,} not known" if known.any() and not known.all() else "")
    yield f"return      {returns.mean():.3f} ({returns.min():.3f} to {returns.max():.3f})"
    yield f"decisions   {lengths.mean():.1f} an episode ({lengths.min()} to {lengths.max()})"
    ends = data["terminated"].sum()
    yield f"ends        {ends:,} terminated, {data['truncated'].sum():,} truncated"
    seen = len(np.unique(np.stack([data["task"], data["observation"], data["actions"]]), axis=1).T)
    taken = len(np.unique(np.stack([data["task"], data["observation"], data["actions"], data["action"]]), axis=1).T)
    menus = np.array([len(menu) for menu in data.menus])[data["actions"]]
    yield f"states      {seen:,} distinct, {taken:,} with the action taken; {menus.mean():.1f} actions on a menu"
    for name, title in (("agent", "agents"), ("task_id", "tasks")):
        counts = Counter(data.texts[i] for i in data[name][starts].tolist())
        shown = [f"{text or '(not named)'} {n:,}" for text, n in counts.most_common(6)]
        more = f", and {len(counts) - 6:,} more" if len(counts) > 6 else ""
        yield f"{title:<11} {', '.join(shown)}{more} (episodes)"
    for name, value in data.about.items():
        yield f"{name:<11} {json.dumps(value, ensure_ascii=False)}"


def head(data: DataSet, rows: int) -> Iterator[str]:
    """The first rows, a few lines each."""
    for number, row in enumerate(data.rows(0, rows)):
        if number == 0 or row["episode"] != data["episode"][number - 1]:
            yield f"episode {row['episode']}: {row['task']}"
        ended = " terminated" * row["terminated"] + " truncated" * row["truncated"]
        yield f"  row {number}: {_short(row['observation'])}"
        yield f"    {row['action']!r} of {len(row['actions'])} -> reward {row['reward']:g}{ended}"


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
