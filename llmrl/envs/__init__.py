"""Worlds of text. Importing this package registers them in gymnasium; it imports nothing else of llmrl."""

from __future__ import annotations

import gymnasium

for _id, _factory in {
    "OvercookedTomato-v0": "kitchen.env:overcooked_tomato",
    "OvercookedSalad-v0": "kitchen.env:overcooked_salad",
    "OvercookedRandom-v0": "kitchen.env:overcooked_random",
    "Household-v0": "household.env:household",
    "FrozenLake-v0": "lake.env:frozen_lake",
}.items():
    gymnasium.register(id=f"llmrl/{_id}", entry_point=f"llmrl.envs.{_factory}")
