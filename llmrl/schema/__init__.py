"""Every setting there is: its type, default, range and choices, and what settings may not be together.

`run.py` has the run itself, its data, rollout and evaluation; `priors.py` priors and prompts.
"""
