"""The cloned policy, and the files that networks trained before a run come in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from llmrl.core.candidates import Candidates, Proposal
from llmrl.core.state import TextState
from llmrl.encoders.encoder import FeatureTable
from llmrl.encoders.hash import HashEncoder
from llmrl.learners.bc import BC
from llmrl.learners.weights import network, read_about, read_weights, write_weights
from llmrl.schema.encoders import EncoderConfig
from llmrl.schema.learners import BCConfig

STATE = TextState("Find the door.", "A corridor.", ("left", "right", "up"))
OTHER = TextState("Find the door.", "A hall.", ("left", "right"))
HIDDEN = [8]


def encoder(**changed: Any) -> HashEncoder:
    return HashEncoder(EncoderConfig(**{"dim": 16, "history_turns": 0, **changed}))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "made" / "policy.safetensors"
    write_weights(path, network(16, HIDDEN), "policy", encoder(), HIDDEN, {"episodes": 3, "corpus": {"kitchens": 2}})
    return path


def cloned(file: Path, **changed: Any) -> BC:
    return BC(BCConfig(**{"weights": str(file), "hidden": HIDDEN, **changed}), 0, FeatureTable(encoder()))


def logits(file: Path, state: TextState) -> np.ndarray:
    net = network(16, HIDDEN)
    net.load_state_dict(safetensors.torch.load_file(file))
    (features,) = encoder().encode([(f"{state.task}\n{state.observation}", state.actions)])
    return net(torch.from_numpy(features)).squeeze(-1).detach().numpy()


def all_of(state: TextState) -> Proposal:
    return Proposal(np.full(len(state.actions), 1 / len(state.actions)), None)


@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_it_plays_the_softmax_of_its_logits(file: Path, alpha: float) -> None:
    agent = cloned(file, alpha=alpha)
    found = agent.policy([STATE, OTHER], [all_of(STATE), all_of(OTHER)], greedy=False)
    for state, pi in zip((STATE, OTHER), found, strict=True):
        weights = np.exp(logits(file, state) / alpha)
        assert pi == pytest.approx(weights / weights.sum(), rel=1e-5)


def test_greedy_is_the_likeliest_action(file: Path) -> None:
    candidates = Candidates(np.arange(3), np.full(3, -np.log(3)))
    (chosen,) = cloned(file).evaluate([STATE], [candidates], np.random.default_rng(0), greedy=True)
    assert chosen == logits(file, STATE).argmax()


def test_thousands_of_states_may_be_asked_about_at_once(file: Path) -> None:
    states = [TextState("Find the door.", f"Room {i}.", ("left", "right")) for i in range(3000)]
    found = cloned(file).policy(states, [all_of(s) for s in states], greedy=False)
    weights = np.exp(logits(file, states[-1]))
    assert found[-1] == pytest.approx(weights / weights.sum(), rel=1e-5)


def test_it_never_learns(file: Path) -> None:
    agent = cloned(file)
    before = {name: tensor.clone() for name, tensor in agent.state_dict().items()}
    agent.observe([])
    assert agent.update() == {}
    assert all(torch.equal(tensor, before[name]) for name, tensor in agent.state_dict().items())


def test_a_file_tells_what_it_is(file: Path) -> None:
    about = read_about(file)
    assert about["what"] == "policy"
    assert about["hidden"] == HIDDEN
    assert about["corpus"] == {"kitchens": 2}
    settings = {key: about["encoder"][key] for key in ("dim", "history_turns", "ngrams", "seed")}
    assert settings == {"dim": 16, "history_turns": 0, "ngrams": 3, "seed": 0}
    assert list(read_weights(file, "policy", encoder(), HIDDEN)) == ["0.bias", "0.weight", "2.bias", "2.weight"]


@pytest.mark.parametrize(
    ("what", "changed", "hidden", "said"),
    [
        ("q", {}, HIDDEN, ["cloned policy", "give one of a q"]),
        ("policy", {"history_turns": 2}, HIDDEN, ["history_turns=0", "turns=2", "type encoder.history_turns=0"]),
        ("policy", {"dim": 32}, HIDDEN, ["dim=16", "dim=32"]),
        ("policy", {"seed": 5}, HIDDEN, ["seed=0", "seed=5"]),
        ("policy", {}, [8, 8], ["[8]", "[8, 8]", "type learner.hidden=[8]"]),
    ],
)
def test_a_file_that_does_not_fit_is_refused_with_both(
    file: Path, what: Any, changed: dict[str, Any], hidden: list[int], said: list[str]
) -> None:
    with pytest.raises(ValueError, match=str(file)) as error:
        read_weights(file, what, encoder(**changed), hidden)
    assert all(words in str(error.value) for words in said), error.value


def test_another_kind_of_encoder_is_refused_by_name(file: Path) -> None:
    class Other:
        dim, history_turns = 16, 0

        def encode(self, texts: Any) -> list[np.ndarray]:
            raise NotImplementedError

    with pytest.raises(ValueError, match=r"class=HashEncoder.* class=Other"):
        read_weights(file, "policy", Other(), HIDDEN)


def test_what_is_no_such_file_is_said_so(tmp_path: Path, file: Path) -> None:
    with pytest.raises(ValueError, match="there is no such file"):
        read_weights(tmp_path / "absent.safetensors", "q", encoder(), HIDDEN)
    other = tmp_path / "text.safetensors"
    other.write_text("not tensors")
    with pytest.raises(ValueError, match="cannot be read"):
        read_weights(other, "q", encoder(), HIDDEN)
    safetensors.torch.save_file({"0.weight": torch.zeros(1)}, other)
    with pytest.raises(ValueError, match="does not name its contents"):
        read_weights(other, "q", encoder(), HIDDEN)
    tensors = safetensors.torch.load_file(file)
    del tensors["0.bias"]
    safetensors.torch.save_file(tensors, file, _metadata(file))
    with pytest.raises(ValueError, match="is damaged"):
        read_weights(file, "policy", encoder(), HIDDEN)


def _metadata(file: Path) -> dict[str, str]:
    from safetensors import safe_open

    with safe_open(str(file), "pt") as opened:
        return dict(opened.metadata())
