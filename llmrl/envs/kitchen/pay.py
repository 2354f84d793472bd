"""The reward of a kitchen for a macro-action."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from llmrl.envs.kitchen.world import Effect, Item, Kitchen

Reward = Literal["once", "original"]

STEP_COST, CHOPPED, SERVED, WRONGLY_SERVED = -0.001, 0.2, 1.0, -0.1
NOTHING_PAID: frozenset[Item] = frozenset()


@dataclass(frozen=True)
class Pay:
    """sum_i gamma^i r_i over the macro-action's primitive steps.

    `once`: +0.2 for each ingredient when it is first chopped in an episode; `original`: at every chop, which pays for
    serving the wrong thing and chopping again. Raises ValueError for another reward, or a discount out of range.
    """

    reward: Reward
    gamma: float  # per primitive step

    def __post_init__(self) -> None:
        if self.reward not in get_args(Reward):
            raise ValueError(f"reward={self.reward!r}: choose one of {', '.join(get_args(Reward))}")
        if not 0 < self.gamma <= 1:
            raise ValueError(f"gamma_primitive={self.gamma}: a discount is above 0 and at most 1")

    def __call__(self, kitchen: Kitchen, effect: Effect, paid: frozenset[Item]) -> tuple[float, frozenset[Item]]:
        """(reward, ingredients paid for by now)."""
        last = self.gamma ** (effect.steps - 1)
        pay = STEP_COST * sum(self.gamma**i for i in range(effect.steps))
        if effect.chopped in kitchen.dish and effect.chopped not in paid:
            pay += CHOPPED * last
            if self.reward == "once":
                paid = paid | {effect.chopped}
        if effect.delivery:
            pay += (SERVED if effect.delivery > 0 else WRONGLY_SERVED) * last
        return pay, paid
