"""How far the prior is believed, learned from the run's own episodes: `prior.mix=auto`.

Each training episode is played with one weight m out of WEIGHTS, and its candidates come from w <- (1-m) w + m uniform.
Which m, is a bandit's choice by the successes of the episodes so far, or by their returns in a world that tells no
success. (Where wrong attempts are punished, the return of who tries nothing is the better one long before anybody
succeeds.) It is discounted Thompson sampling (Qi, Wang and Zhu, arXiv 2305.10718, Gaussian variant), since a learner
that gets better changes what every weight is worth: after t episodes, of which the i-th had the weight m_i and the
outcome x_i,

    N_m = sum_i gamma^(t-i) [m_i = m]        X_m = sum_i gamma^(t-i) [m_i = m] x_i                                 (1)
    mu_m = (X_m + xbar) / (N_m + 1)          theta_m ~ Normal(mu_m, s^2 / (N_m + 1))                               (2)
    the next episode's m = argmax theta_m                                                                          (3)

where xbar and s^2 are the mean and the variance of all outcomes, discounted alike: no scale of returns is assumed, and
a weight that nothing is known of is worth what the others are worth, with their spread. A weight that was not played
for long is forgotten, and tried again.

The candidates of a target's state are drawn with a weight of its own, by (2) and (3): on average over visits the
mixture is the bandit's belief. Evaluations use the weight of the largest mu_m. One Q is learned from all episodes,
whatever their weight, so that those without the prior are not lost where it is good, nor the others where it is bad.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from llmrl.run.seeding import stream

WEIGHTS = (0.05, 0.5, 1.0)  # the least is the default of prior.mix: no action is for ever out of reach
GAMMA = 0.98  # of an episode: what is 50 episodes old counts 1/e
SMALLEST_VARIANCE = 1e-12  # equal outcomes: chance decides


class Mixing:
    """The bandit. What it has learned is `state_dict`; the draws of targets have a stream, and go on from `save`."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._weights = np.array(WEIGHTS)
        self._n, self._x, self._xx = (np.zeros(len(WEIGHTS)) for _ in range(3))  # (1), and the same of x^2
        self._targets = stream(seed, "mix", "target")

    def draw(self, *episode: str | int) -> float:
        """The weight of an episode, by its name and what was heard so far: drawn again, it is the same."""
        return float(self._drawn(stream(self.seed, "mix", *episode), 1)[0])

    def draw_for_targets(self, n: int) -> list[float]:
        weights: list[float] = self._drawn(self._targets, n).tolist()
        return weights

    def hear(self, weight: float, outcome: float) -> None:
        """What came of an episode of this weight."""
        is_its = self._weights == weight
        assert is_its.sum() == 1
        self._n = GAMMA * self._n + is_its
        self._x = GAMMA * self._x + is_its * outcome
        self._xx = GAMMA * self._xx + is_its * outcome**2

    @property
    def best(self) -> float:
        """Of equals the least."""
        return float(self._weights[self._believed()[0].argmax()])

    def metrics(self) -> dict[str, float | None]:
        """prior/mix: the mean weight of the episodes so far, discounted; prior/mix/M: mu of each weight."""
        played, mu_M = self._n.sum(), self._believed()[0]
        now = float(self._weights @ self._n / played) if played else None
        return {"prior/mix": now} | {f"prior/mix/{m:g}": float(mu) for m, mu in zip(WEIGHTS, mu_M, strict=True)}

    def state_dict(self) -> dict[str, np.ndarray]:
        return {"n": self._n, "x": self._x, "xx": self._xx}

    def load_state_dict(self, arrays: Mapping[str, np.ndarray]) -> None:
        self._n, self._x, self._xx = (np.array(arrays[name], dtype=np.float64) for name in ("n", "x", "xx"))

    def save(self) -> dict[str, Any]:
        return {"targets": self._targets.bit_generator.state}

    def restore(self, saved: Mapping[str, Any]) -> None:
        self._targets.bit_generator.state = saved["targets"]

    def _drawn(self, rng: np.random.Generator, n: int) -> np.ndarray:
        mu_M, deviation_M = self._believed()
        theta_NM = mu_M + deviation_M * rng.standard_normal((n, len(WEIGHTS)))
        drawn: np.ndarray = self._weights[theta_NM.argmax(-1)]
        return drawn

    def _believed(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of each weight's normal distribution, (2)."""
        played = max(self._n.sum(), SMALLEST_VARIANCE)
        mean = self._x.sum() / played
        variance = max(self._xx.sum() / played - mean**2, SMALLEST_VARIANCE)
        return (self._x + mean) / (self._n + 1), np.sqrt(variance / (self._n + 1))
