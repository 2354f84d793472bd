"""The settings: the type, default, range and choices of each, and the combinations that are refused.

`run.py` has the run itself, its data, rollout and evaluation; `priors.py` priors and prompts.
"""
