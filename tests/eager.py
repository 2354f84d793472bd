"""What takes long, told without a wait."""

from __future__ import annotations

from typing import Any

import pytest

from llmrl.report import progress


class Eager(progress.Speaker):
    """Looks by itself at each change, and never from a thread."""

    def doing(self, what: str, done: int, total: int) -> None:
        super().doing(what, done, total)
        self.speak_up()

    def listen(self) -> None:
        return


def make_eager(patch: pytest.MonkeyPatch, module: Any) -> None:
    """The speakers of `module` say the first word on each thing at once."""
    patch.setattr(progress, "FIRST", 0.0)
    patch.setattr(module, "Speaker", Eager)
