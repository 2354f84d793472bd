"""The kitchen as a text world: its rewards, and the end of an episode. `world` has the rules, `text` the words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count

from llmrl.envs.base import TextEnv, Turn
from llmrl.envs.kitchen import drawing, text
from llmrl.envs.kitchen.expert import expert_actions
from llmrl.envs.kitchen.layouts import TOMATO, TOMATO_LETTUCE, Split, overcooked_a, random_kitchen
from llmrl.envs.kitchen.model import KitchenModel
from llmrl.envs.kitchen.pay import NOTHING_PAID, Pay, Reward
from llmrl.envs.kitchen.world import Item, Kitchen, KitchenState
from llmrl.envs.model import Shown


def overcooked_tomato(
    *,
    reward: Reward = "once",
    max_decisions: int = 31,
    max_primitive_steps: int = 200,
    render_mode: str | None = None,
) -> KitchenEnv:
    """Map A: chop a tomato and serve it in the bowl.

    The shortest way: 6 decisions, 28 primitive steps, return 1.11028.
    """
    return KitchenEnv(
        [overcooked_a(TOMATO)],
        reward=reward,
        max_decisions=max_decisions,
        max_primitive_steps=max_primitive_steps,
        render_mode=render_mode,
    )


def overcooked_salad(
    *,
    reward: Reward = "once",
    max_decisions: int = 51,
    max_primitive_steps: int = 200,
    render_mode: str | None = None,
) -> KitchenEnv:
    """Map A: tomato and lettuce, and an onion nobody asked for.

    The shortest way: 10 decisions, 45 primitive steps, return 1.33810.
    """
    return KitchenEnv(
        [overcooked_a(TOMATO_LETTUCE)],
        reward=reward,
        max_decisions=max_decisions,
        max_primitive_steps=max_primitive_steps,
        render_mode=render_mode,
    )


def overcooked_random(
    *,
    split: Split = "dev",
    index: int = 0,
    count: int = 1,
    ingredients: int | None = 3,
    reward: Reward = "once",
    max_decisions: int = 71,
    max_primitive_steps: int = 400,
    render_mode: str | None = None,
) -> KitchenEnv:
    """Generated kitchens `index` to `index + count - 1` of a split, one task each (see `layouts.random_kitchen`)."""
    if count < 1:
        raise ValueError(f"count={count}: ask for at least 1 kitchen")
    return KitchenEnv(
        [random_kitchen(split, number, ingredients) for number in range(index, index + count)],
        reward=reward,
        max_decisions=max_decisions,
        max_primitive_steps=max_primitive_steps,
        render_mode=render_mode,
    )


class KitchenEnv(TextEnv):
    """One task per kitchen, named as the kitchen is.

    A decision is a macro-action and pays sum_i gamma_primitive^i r_i over its primitive steps: -0.001 a step, +0.2 when
    a food that the order asks for becomes chopped, +1 for the dish, which ends the episode, and -0.1 for serving
    anything else. `reward="original"` pays every chop, so that chopping and spoiling the same food for ever beats
    serving it; "once" pays each ingredient's first chop in an episode. At `max_primitive_steps` the episode is
    truncated, once the running macro-action has finished.

    Source of the world and its pay: the text kitchen of TWOSOME (arXiv 2401.14151).
    """

    metadata = {"render_modes": ["ansi"], "render_fps": 4}  # noqa: RUF012  (declared so by gymnasium)

    def __init__(
        self,
        kitchens: Sequence[Kitchen],
        *,
        max_decisions: int,
        reward: Reward = "once",
        gamma_primitive: float = 0.99,
        max_primitive_steps: int = 200,
        render_mode: str | None = None,
    ) -> None:
        self.pay = Pay(reward, gamma_primitive)
        if max_primitive_steps < 1:
            raise ValueError(f"max_primitive_steps={max_primitive_steps}: an episode needs at least 1 primitive step")
        super().__init__([k.name for k in kitchens], max_decisions=max_decisions, render_mode=render_mode)
        self.kitchens = dict(zip(self.task_ids, kitchens, strict=True))
        self.max_primitive_steps = max_primitive_steps
        self.kitchen: Kitchen = kitchens[0]  # that of the episode
        self.state: KitchenState = self.kitchen.initial()
        self.primitive_steps = 0
        self._paid: frozenset[Item] = NOTHING_PAID
        self._scenes: dict[tuple[str, KitchenState], Shown] = {}
        self._menus: dict[tuple[str, ...], tuple[str, ...]] = {}

    def model(self, task_id: str) -> KitchenModel:
        kitchen = self.kitchens[task_id]
        return KitchenModel(kitchen, self.pay, self.max_decisions, self.max_primitive_steps, self._scene)

    def practice(self) -> Iterator[KitchenEnv]:
        """Generated kitchens of the split train, with as many ingredients as this world's. No dish is of two splits."""
        if own := [name for name in self.task_ids if name.startswith("overcooked_random/train/")]:
            raise ValueError(f"examples come from kitchens of the split train, and {own[0]} is one of them")
        sizes = {len(kitchen.dish) for kitchen in self.kitchens.values()}
        ingredients = sizes.pop() if len(sizes) == 1 else None
        return (overcooked_random(split="train", index=number, ingredients=ingredients) for number in count())

    def render(self) -> str:
        """The kitchen and the cook in plain text, at most 80 columns wide, whatever `render_mode` says."""
        return drawing.draw(self.kitchen, self.state)

    def _reset(self, task_id: str) -> tuple[str, Turn]:
        self.kitchen = self.kitchens[task_id]
        self.state = self.kitchen.initial()
        self.primitive_steps = 0
        self._paid = NOTHING_PAID
        shown = self._scene(self.kitchen, self.state)
        return text.task(self.kitchen), Turn(shown.observation, shown.actions, expert_actions=shown.expert_actions)

    def _step(self, index: int) -> Turn:
        effect = self.kitchen.apply(self.state, index)
        self.state = effect.state
        self.primitive_steps += effect.steps
        pay, self._paid = self.pay(self.kitchen, effect, self._paid)
        shown = self._scene(self.kitchen, self.state)
        return Turn(
            shown.observation,
            shown.actions,
            reward=pay,
            terminated=self.state.served,
            truncated=self.primitive_steps >= self.max_primitive_steps,
            success=self.state.served,
            duration=effect.steps,
            expert_actions=shown.expert_actions,
        )

    def _scene(self, kitchen: Kitchen, state: KitchenState) -> Shown:
        """Everything the state alone decides, made once: a state is met again and again."""
        key = (kitchen.name, state)
        shown = self._scenes.get(key)
        if shown is None:
            menu = text.menu(kitchen, state)
            menu = self._menus.setdefault(menu, menu)  # many states share a menu
            best = frozenset(menu[action] for action in expert_actions(kitchen, state))
            shown = self._scenes[key] = Shown(text.observation(kitchen, state), menu, best)
        return shown
