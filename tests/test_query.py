"""`llmrl lm`: who is waited for is told."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from llmrl import query as ask
from llmrl.config.compose import compose
from llmrl.lm.language_model import ModelIdentity, Score


class Slow:
    """A model that says what it waits for, as one behind a server does."""

    identity = ModelIdentity("slow", "1", "float32", "none")
    engine = "test"
    provenance: dict[str, str] = {}  # noqa: RUF012

    def hear(self, say: Callable[[str], None]) -> None:
        self.say = say

    def score(self, prompts: Sequence[str], continuations: Sequence[Sequence[str]]) -> list[list[Score]]:
        self.say("waiting for somebody")
        return [[Score(-1.0, 1) for _ in texts] for texts in continuations]


def test_what_a_model_waits_for_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(ask, "build_model", lambda cfg: Slow())
    ask.score(compose(["env=frozen_lake"]), None, [])
    assert capsys.readouterr().err.splitlines() == ["loading tiny-1", "waiting for somebody"]
