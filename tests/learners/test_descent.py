"""Steps are those of torch's own clipping and optimiser, bit by bit."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from llmrl.learners.descent import Descent
from llmrl.learners.learner import Diverged


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 1))


def loss_of(model: nn.Sequential, step: int, scale: float = 1.0) -> Tensor:
    x = torch.randn(11, 7, generator=torch.Generator().manual_seed(step))
    return scale * model(x).square().mean()


def descent(model: nn.Sequential, weight_decay: float = 0.1, clip: float = 0.5) -> Descent:
    return Descent([*model.parameters()], lr=0.01, weight_decay=weight_decay, clip=clip)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("clip", [1e-3, 1e3])
def test_it_is_clipping_and_adamw_to_the_bit(weight_decay: float, clip: float) -> None:
    a, b = net(), net()
    own = descent(a, weight_decay, clip)
    torchs = torch.optim.AdamW(b.parameters(), lr=0.01, weight_decay=weight_decay, fused=True)
    for step in range(6):
        own.step(loss_of(a, step))
        torchs.zero_grad()
        loss_of(b, step).backward()
        nn.utils.clip_grad_norm_(b.parameters(), clip)
        torchs.step()
    assert not torch.equal(a[0].weight, net()[0].weight)
    for p, q, kept in zip(a.parameters(), b.parameters(), own.save(), strict=True):
        assert torch.equal(p, q)
        assert kept.keys() == torchs.state[q].keys()
        assert all(torch.equal(kept[name], value) for name, value in torchs.state[q].items())


def test_it_goes_on_from_what_was_saved() -> None:
    a = net()
    first = descent(a)
    for step in range(3):
        first.step(loss_of(a, step))
    b = net()
    b.load_state_dict(a.state_dict())
    second = descent(b)
    second.restore([{name: value.clone() for name, value in saved.items()} for saved in first.save()])
    first.step(loss_of(a, 3))
    second.step(loss_of(b, 3))
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


@pytest.mark.parametrize("scale", [float("nan"), float("inf"), 1e35])
def test_nothing_is_changed_where_it_diverges(scale: float) -> None:
    a = net()
    own = descent(a)
    with pytest.raises(Diverged, match="nothing was done with it"):
        own.step(loss_of(a, 0, scale))
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), net().parameters(), strict=True))
    assert all(not value.any() for saved in own.save() for value in saved.values())
