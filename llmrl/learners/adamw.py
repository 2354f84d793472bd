"""AdamW (Loshchilov and Hutter, arXiv 1711.05101), by torch's fused kernel.

It computes what `torch.optim.AdamW` does, bit for bit; weight_decay=0 is Adam. The first use of that class imports
torch's compiler (`torch._dynamo`, sympy), which is never used here and takes as long as `import torch`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw


class AdamW:
    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, weight_decay: float = 0.0) -> None:
        self.parameters, self.lr, self.weight_decay = list(parameters), lr, weight_decay
        self._moments: list[dict[str, Tensor]] = [{} for _ in self.parameters]

    def zero_grad(self) -> None:
        for p in self.parameters:
            p.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Parameters without a gradient stay as they are."""
        moved = [(p, p.grad, m) for p, m in zip(self.parameters, self._moments, strict=True) if p.grad is not None]
        for p, _, m in moved:
            if not m:
                m |= {"step": torch.zeros(()), "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
        steps, means, squares = ([m[name] for _, _, m in moved] for name in ("step", "exp_avg", "exp_avg_sq"))
        adamw(
            [p for p, _, _ in moved], [grad for _, grad, _ in moved], means, squares, [], steps,
            fused=True, amsgrad=False, beta1=0.9, beta2=0.999, lr=self.lr, weight_decay=self.weight_decay, eps=1e-8,
            maximize=False,
        )  # fmt: skip

    def save(self) -> list[dict[str, Tensor]]:
        """Per parameter, its moments and its number of steps; {} where there was no step. Settings are the config's."""
        return self._moments

    def restore(self, saved: Sequence[Mapping[str, Tensor]]) -> None:
        assert len(saved) == len(self.parameters)
        self._moments = [dict(found) for found in saved]
