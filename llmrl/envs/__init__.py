"""Worlds of text. Importing this package registers them in gymnasium; it imports nothing else of llmrl."""

from __future__ import annotations

import gymnasium

for _id, _factory in {
    "OvercookedTomato-v0": "overcooked_tomato",
    "OvercookedSalad-v0": "overcooked_salad",
    "OvercookedRandom-v0": "overcooked_random",
}.items():
    gymnasium.register(id=f"llmrl/{_id}", entry_point=f"llmrl.envs.kitchen.env:{_factory}")
