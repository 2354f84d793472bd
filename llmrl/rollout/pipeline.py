"""A rollout in two halves, so that a slow model is asked about one while the other acts and is learned from.

The halves take turns. A turn hands over what its half did a turn of its own before, acts, steps, and begins to ask
about the states it came to, without waiting; the answers are needed when this half's turn comes again. So a learner
sees each half one turn late. The schedule is a function of counters alone: what is asked, drawn and learned is the same
whether the model answers at once or after an hour.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llmrl.core.transitions import Transition
from llmrl.rollout.rollout import Chooser, Rollout, Tick, _Taken


class Pipeline(Rollout):
    """A Rollout in which each tick is the turn of one half of the environments."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        n = self.pool.num_envs
        assert n > 1, "one environment has no halves"
        self._halves = (range((n + 1) // 2), range((n + 1) // 2, n))
        self._turn = 0  # whose: the first half's, or the second's
        self._waiting: list[list[_Taken]] = [[], []]  # of each half: what it did, and has not handed over

    def start(self) -> None:
        super().start()
        for half in self._halves:
            self._ask_ahead(half)

    def due(self, at_most: int) -> Sequence[int]:
        return self._halves[self._turn][:at_most]

    def tick(self, choose: Chooser, active: Sequence[int] | None = None, learning: bool = True) -> Tick:
        assert learning, "evaluations have no pipeline"
        half, active = self._turn, self.due(self.pool.num_envs) if active is None else active
        handed_over = self._learned_from(self._waiting[half])
        tick, self._waiting[half] = self._act(choose, active)
        tick.transitions += handed_over
        self._begin_again(self._waiting[half])
        self._ask_ahead(active, self._waiting[half])
        self._turn = 1 - half
        return tick

    def rest(self) -> list[Transition]:
        rest = [t for half in (self._turn, 1 - self._turn) for t in self._learned_from(self._waiting[half])]
        self._waiting = [[], []]
        return rest

    def save(self) -> Any:
        waiting = [
            [
                {"transition": t.transition.save(), "expert": None if t.expert is None else sorted(t.expert)}
                for t in half
            ]
            for half in self._waiting
        ]
        return {"environments": super().save(), "turn": self._turn, "waiting": waiting}

    def restore(self, saved: Any) -> list[int]:
        """Restores as `Rollout.restore`. Waiting transitions of a lost episode are lost too."""
        self._turn = saved["turn"]
        self._waiting = [
            [
                _Taken(Transition.from_saved(t["transition"]), None if t["expert"] is None else frozenset(t["expert"]))
                for t in half
            ]
            for half in saved["waiting"]
        ]
        lost = super().restore(saved["environments"])
        self._waiting = [[t for t in half if t.transition.env not in lost or t.ended] for half in self._waiting]
        for half in self._halves:
            self._ask_ahead(half, self._waiting[self._halves.index(half)])
        return lost

    def _ask_ahead(self, envs: Sequence[int], taken: Sequence[_Taken] = ()) -> None:
        """Begins to ask about the states whose candidates this half's next turn needs.

        Not of episodes that use no prior; nor for targets where it is drawn, when they are read, whether they use it.
        """
        came_to = [t.transition.next_state for t in taken if not t.transition.terminated and self.trust is None]
        here = [self.states[e] for e in envs if self._uses[e]]
        self.prior.begin({"target": came_to, "behaviour": here})
