"""w exp(v/alpha) / Z over candidates: how learners without padding and batches turn values into choices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from llmrl.core.candidates import Candidates, Proposal, draw, greedy_over_draws, posterior_over_draws


def posterior(values: np.ndarray, candidates: Candidates, alpha: float) -> Candidates:
    """The same actions, weighted anew. `values`: float [actions] of the whole menu; alpha=0: the best, ties by w."""
    log_w, v = candidates.log_weights, values[candidates.actions].astype(np.float64)
    allowed = log_w > -np.inf
    if alpha == 0:
        logits = np.where(v == v[allowed].max(), log_w, -np.inf)
    else:
        logits = log_w + np.where(allowed, v / alpha, 0.0)
    logits -= logits.max()
    return Candidates(candidates.actions, logits - np.log(np.exp(logits).sum()))


def choose(
    values: Sequence[np.ndarray], candidates: Sequence[Candidates], alpha: float, rng: np.random.Generator
) -> np.ndarray:
    """int64 [states]: one draw from each posterior."""
    weighted = [posterior(v, c, alpha) for v, c in zip(values, candidates, strict=True)]
    return np.array([draw(c, u) for c, u in zip(weighted, rng.random(len(weighted)), strict=True)])


def choice_probabilities(values: Sequence[np.ndarray], proposals: Sequence[Proposal], alpha: float) -> list[np.ndarray]:
    """float64 [actions] per state: how likely `choose` takes each action, candidates drawn as `proposals` say."""
    values = [v.astype(np.float64) for v in values]
    if alpha == 0:
        return greedy_over_draws(proposals, values)
    return posterior_over_draws(proposals, [v / alpha for v in values])
