"""Whether an episode uses the prior at all, learned from the run's own episodes: `prior.mix=auto`.

Each training episode either uses the prior, mixed with uniform by MIX, or has no prior: then all admissible actions are
candidates with equal weights, as in DQN. A bandit with these two arms chooses by the successes of the episodes so far,
or by their returns in a world that tells no success. (Where wrong attempts are punished, the return of an idle agent
is the better one before anybody succeeds.) It is discounted Thompson sampling (Qi, Wang and Zhu, arXiv 2305.10718,
Gaussian variant), since a learner that gets better changes what each arm is worth. After t episodes, of which the i-th
had the arm m_i and the outcome x_i,

    N_m = sum_i gamma^(t-i) [m_i = m]        X_m = sum_i gamma^(t-i) [m_i = m] x_i                                 (1)
    mu_m = (X_m + xbar) / (N_m + 1)          theta_m ~ Normal(mu_m, s^2 / (N_m + 1))                               (2)
    the next episode's m = argmax theta_m                                                                          (3)

where xbar and s^2 are the mean and the variance of all outcomes, discounted alike: no scale of returns is assumed, and
an arm that nothing is known of is worth what the other is worth, with its spread. An arm that was not played for long
is forgotten, and tried again. Until outcomes differ, each arm has half of the episodes, and a wrong prior's are long.

A target's state is given the prior or not by a draw of its own, by (2) and (3). Evaluations use the arm of the larger
mu_m. One Q is learned from all episodes: those without the prior are not lost where it is good, nor the others where it
is bad.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from llmrl.core.seeding import stream

MIX = 0.05  # of an episode that uses the prior: the default of prior.mix
GAMMA = 0.98  # of an episode: what is 50 episodes old counts 1/e
SMALLEST_VARIANCE = 1e-12  # equal outcomes: chance decides


class Trust:
    """The bandit; its arms are False (no prior) and True.

    What it has learned is `state_dict`; the draws of targets have a stream, and go on from `save`.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._n, self._x, self._xx = (np.zeros(2) for _ in range(3))  # (1), and the same of x^2
        self._targets = stream(seed, "trust", "target")

    def draw(self, *episode: str | int) -> bool:
        """Whether an episode uses the prior. It depends on the episode's name and on the outcomes so far alone."""
        return self._draw(stream(self.seed, "trust", *episode), 1)[0]

    def draw_for_targets(self, n: int) -> list[bool]:
        return self._draw(self._targets, n)

    def hear(self, used: bool, outcome: float) -> None:
        """Takes the outcome of an episode, with or without the prior."""
        arm = np.array([not used, used])
        self._n = GAMMA * self._n + arm
        self._x = GAMMA * self._x + arm * outcome
        self._xx = GAMMA * self._xx + arm * outcome**2

    @property
    def best(self) -> bool:
        """The better arm; of equal ones the prior."""
        without, using = self._posterior()[0]
        return bool(using >= without)

    def metrics(self) -> dict[str, float | None]:
        played, (without, using) = self._n.sum(), self._posterior()[0]
        share = float(self._n[1] / played) if played else None
        return {"prior/used": share, "prior/worth": float(using), "prior/worth_without": float(without)}

    def state_dict(self) -> dict[str, np.ndarray]:
        return {"n": self._n, "x": self._x, "xx": self._xx}

    def load_state_dict(self, arrays: Mapping[str, np.ndarray]) -> None:
        self._n, self._x, self._xx = (np.array(arrays[name], dtype=np.float64) for name in ("n", "x", "xx"))

    def save(self) -> dict[str, Any]:
        return {"targets": self._targets.bit_generator.state}

    def restore(self, saved: Mapping[str, Any]) -> None:
        self._targets.bit_generator.state = saved["targets"]

    def _draw(self, rng: np.random.Generator, n: int) -> list[bool]:
        mu_M, deviation_M = self._posterior()
        theta_NM = mu_M + deviation_M * rng.standard_normal((n, 2))
        drawn: list[bool] = (theta_NM[:, 1] > theta_NM[:, 0]).tolist()
        return drawn

    def _posterior(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of each arm's normal distribution, (2)."""
        played = max(self._n.sum(), SMALLEST_VARIANCE)
        mean = self._x.sum() / played
        variance = max(self._xx.sum() / played - mean**2, SMALLEST_VARIANCE)
        return (self._x + mean) / (self._n + 1), np.sqrt(variance / (self._n + 1))
