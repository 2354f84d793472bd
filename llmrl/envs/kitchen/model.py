"""The kitchen as a table of what may happen: its state, and what was paid for already."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import NamedTuple

from llmrl.envs.kitchen import text
from llmrl.envs.kitchen.pay import NOTHING_PAID, Pay
from llmrl.envs.kitchen.world import Item, Kitchen, KitchenState
from llmrl.envs.model import Outcome, Shown


class PaidState(NamedTuple):
    kitchen: KitchenState
    paid: frozenset[Item]  # ingredients that pay no more in this episode


class KitchenModel:
    """A `WorldModel`. `scene`: what a state shows, kept by the world."""

    def __init__(
        self,
        kitchen: Kitchen,
        pay: Pay,
        max_decisions: int,
        max_primitive_steps: int,
        scene: Callable[[Kitchen, KitchenState], Shown],
    ) -> None:
        self.task = text.task(kitchen)
        self.max_decisions = max_decisions
        self.max_primitive_steps: int | None = max_primitive_steps
        self._kitchen, self._pay, self._scene = kitchen, pay, scene

    def initial(self) -> list[tuple[float, Hashable]]:
        return [(1.0, PaidState(self._kitchen.initial(), NOTHING_PAID))]

    def shown(self, state: Hashable) -> Shown:
        assert isinstance(state, PaidState)
        return self._scene(self._kitchen, state.kitchen)

    def outcomes(self, state: Hashable, action: int) -> list[Outcome]:
        assert isinstance(state, PaidState)
        effect = self._kitchen.apply(state.kitchen, action)
        reward, paid = self._pay(self._kitchen, effect, state.paid)
        served = effect.state.served
        return [Outcome(1.0, PaidState(effect.state, paid), reward, effect.steps, served, served)]
