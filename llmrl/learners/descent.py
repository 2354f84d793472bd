"""One step down a gradient: clipped by its norm, refused where it diverged, and taken by AdamW.

It does what `torch.nn.utils.clip_grad_norm_` and `torch.optim.AdamW(fused=True)` do, to the bit, by the kernels that
they call. With networks as small as ours both spend most of their time on finding out, parameter by parameter and in
every step, what never changes (`tests/learners/test_descent.py` compares the two).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from llmrl.learners.learner import refuse_divergence

BETAS, EPSILON = (0.9, 0.999), 1e-8


class Descent:
    """Of these parameters, which stay the same tensors."""

    def __init__(self, parameters: Sequence[Tensor], lr: float, weight_decay: float, clip: float) -> None:
        self.parameters, self.lr, self.weight_decay, self.clip = [*parameters], lr, weight_decay, clip
        self._means = [torch.zeros_like(p) for p in self.parameters]  # of the gradient
        self._squares = [torch.zeros_like(p) for p in self.parameters]
        self._steps = [torch.zeros(()) for _ in self.parameters]

    def step(self, loss: Tensor) -> None:
        """Raises Diverged before anything is changed. `loss` depends on every parameter."""
        grads = [*torch.autograd.grad(loss, self.parameters)]
        with torch.no_grad():
            norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads)))
            refuse_divergence("the loss or its gradient", torch.stack([loss.detach(), norm]), self.lr)
            torch._foreach_mul_(grads, (self.clip / (norm + 1e-6)).clamp(max=1.0))
            torch._foreach_add_(self._steps, 1)
            torch._fused_adamw_(
                self.parameters, grads, self._means, self._squares, [], self._steps, lr=self.lr, beta1=BETAS[0],
                beta2=BETAS[1], weight_decay=self.weight_decay, eps=EPSILON, amsgrad=False, maximize=False,
            )  # fmt: skip

    def save(self) -> list[dict[str, Tensor]]:
        """Per parameter, its moments and its number of steps, named as torch's optimisers name them."""
        return [
            {"step": step, "exp_avg": mean, "exp_avg_sq": square}
            for step, mean, square in zip(self._steps, self._means, self._squares, strict=True)
        ]

    def restore(self, saved: Sequence[Mapping[str, Tensor]]) -> None:
        for mine, found in zip(self.save(), saved, strict=True):
            for name, tensor in mine.items():
                tensor.copy_(found[name])
