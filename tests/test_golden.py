"""Golden curves: a short run of every learner, compared row by row with the one that was kept.

Where the same config gives other results, raise `numerics` in llmrl/schema/run.py in the same commit (not where only a
preset's or a default's value changed: that is another config), and write them anew with

    python -m tests.test_golden --write

or one of them with `--write NAME`.

The language model is the frozen one in tests/golden/lm (tests/golden/make_lm.py made it), never an embedded one.

A value's type decides how it is compared, never its name. Counts are integers, and are compared exactly. Floats are
compared with a tolerance, since processors round sums in different orders.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf

import llmrl
from llmrl.config.compose import compose
from llmrl.encoders.hash import HashEncoder
from llmrl.learners.weights import What, network, write_weights
from llmrl.run.load import load_runs
from llmrl.schema.run import TrainConfig
from tests.rounding import SHARED_BY, agree, differences

GOLDEN = Path(__file__).parent / "golden"
SHORT = [
    "env=overcooked_tomato", "env_steps=240", "evaluation.every=80", "evaluation.episodes=6",
    "evaluation.exact_up_to=0", "rollout.num_envs=4", f"threads={os.environ.get('OMP_NUM_THREADS', '1')}",
]  # fmt: skip
PAPER_MODEL = ["lm=hf", f"lm.model={GOLDEN / 'lm'}", "lm.device=cpu"]
MODEL = [*PAPER_MODEL, "prompt=plain", "prompt.history_turns=2"]
LEARNS = [
    "learner.learning_starts=40",
    "learner.updates=2",
    "learner.batch=16",
    "learner.hidden=[32]",
    "encoder.dim=64",
    "encoder.history_turns=2",
]
PAPER = [
    "learner.learning_starts=2",
    "learner.update_every=1",
    "learner.updates=8",
    "learner.batch=16",
    "encoder.dim=64",
]
DATA = [
    f"data={GOLDEN / 'tomato.parquet'}",
    "data.size=200",
    "evaluation.episodes=2",
    "learner.gradient_steps=160",
    "learner.batch=16",
    "learner.hidden=[16]",
    "encoder.dim=32",
]  # `llmrl collect env=overcooked_tomato size=240 mix=expert,random noise=0.2:0.5 success=75` made the file
CURVES = {
    "dqn": ["learner=dqn", *LEARNS],
    "dqn-soft": ["learner=dqn", "learner.backup=soft", *LEARNS],
    "dqn-expected": ["learner=dqn", "learner.backup=expected", "learner.discount_by=primitive_steps", *LEARNS],
    "dqn-sampled": ["learner=dqn", "prior=uniform_k", "learner.backup=sampled", "learner.epsilon=0.1", *LEARNS],
    "dqn-prioritised": [
        "learner=dqn",
        "learner.priority=0.6",
        "learner.count_bonus=0.1",
        "learner.optimism=0.3",
        *LEARNS,
    ],
    "dqn_prefilled": ["learner=dqn_prefilled", "prior.uniform_after=120", "learner.prefill=120", *LEARNS, *MODEL],
    "dqn_prior-scored": ["learner=dqn_prior", "prior=scored", "prior.normalise=token", *LEARNS, *MODEL],
    "dqn_prior-sampled": ["learner=dqn_prior", *LEARNS, *MODEL],
    "dqn_prior-trust": ["learner=dqn_prior", "prior.mix=auto", *LEARNS, *MODEL],
    "dqn_prior-calibrated": ["learner=dqn_prior", "prior=calibrated", "prior.labels=20", *LEARNS, *MODEL],
    "dqn_prior-learned": ["learner=dqn_prior", "prior=learned", "prior.labels=20", *LEARNS],
    "dqn_prior-generated": ["learner=dqn_prior", "prior=generated", *LEARNS, *MODEL],
    "dqn_prior_paper": ["learner=dqn_prior_paper", *PAPER, *PAPER_MODEL],
    "dqn_prior_paper_salad": [
        "learner=dqn_prior_paper_salad",
        "episodes=7",
        "prompt.history_turns=1",
        *PAPER,
        *PAPER_MODEL,
    ],
    "drrn": [
        "learner=drrn",
        "learner.history_turns=2",
        "learner.learning_starts=40",
        "learner.batch=16",
        "learner.embedding=8",
        "learner.hidden=8",
        "learner.n_step=3",
        "learner.discount_by=primitive_steps",
    ],
    "bc": ["learner=bc", "learner.hidden=[32]", "encoder.dim=64", "encoder.history_turns=2"],
    "bc-data": ["learner=bc", *DATA],
    "bc_filtered": ["learner=bc_filtered", *DATA],
    "bc_prior": ["learner=bc_prior", *DATA, *MODEL],
    "cql": ["learner=cql", "learner.n_step=3", "learner.discount_by=primitive_steps", *DATA],
    "cql_prior": ["learner=cql_prior", *DATA, *MODEL],
    "cql_prior-whole": [
        "learner=cql_prior",
        "prior=scored",
        "learner.join=true",
        "learner.regulariser=prior",
        "learner.backup=soft",
        *DATA,
        *MODEL,
    ],
    "cql_prior_joined": ["learner=cql_prior_joined", *DATA, *MODEL],
    "cql_prior_soft": ["learner=cql_prior_soft", *DATA, *MODEL],
    "cql_prior_paper": ["learner=cql_prior_paper", *DATA, *PAPER_MODEL],
    "iql": ["learner=iql", *DATA],
    "iql-scored": ["learner=iql", "prior=scored", "learner.alpha=0.5", *DATA, *MODEL],
    "dqn_pretrained": ["learner=dqn_pretrained", *LEARNS],
    "saycan": ["learner=saycan", *LEARNS, *MODEL],
    "prior_only": ["learner=prior_only", *MODEL],
    "random": ["learner=random"],
}
LEARN_NOTHING = ("bc", "prior_only", "random")  # `bc` plays what was learned before
TRAINED: dict[str, What] = {"bc": "policy", "dqn_pretrained": "q"}  # what the file they start from holds


def curve(name: str, root: Path) -> dict[str, Any]:
    """What is kept of a run."""
    short = SHORT if not name.startswith("dqn_prior_paper") else [o for o in SHORT if not o.startswith("rollout.")]
    given = {o.partition("=")[0]: o for o in (*short, *CURVES[name])}  # the last word counts
    overrides = [*given.values(), f"paths.runs={root}", f"paths.cache={root / 'kept.sqlite3'}"]
    if name in TRAINED:
        overrides.append(f"learner.weights={root / 'trained.safetensors'}")
        _write_trained(root / "trained.safetensors", TRAINED[name], compose(overrides))
    llmrl.train(compose(overrides))
    (run,) = load_runs(root)
    return {"numerics": TrainConfig.numerics, "metrics": run.metrics}


def _write_trained(path: Path, what: What, cfg: DictConfig) -> None:
    """Weights as they were drawn: whatever they are, the run starts from them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        net = network(cfg.encoder.dim, cfg.learner.hidden)
    encoder = HashEncoder(OmegaConf.to_object(cfg.encoder))  # type: ignore[arg-type]
    write_weights(path, net, what, encoder, cfg.learner.hidden, {})


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if "paper" in n else []) for n in CURVES])
def test_a_curve_is_as_it_was(name: str, tmp_path: Path) -> None:
    golden = json.loads((GOLDEN / f"{name}.json").read_text())
    found = curve(name, tmp_path)
    assert found["numerics"] == golden["numerics"], "numerics was raised: write the golden curves anew"
    assert differences(found["metrics"], golden["metrics"]) == []


@pytest.mark.parametrize("name", ["dqn", "cql_prior"])
def test_a_computed_metric_may_differ_by_rounding_and_by_no_more(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each layer's output errs by some float32 roundings, as on another processor; then by one part in 100."""
    golden = json.loads((GOLDEN / f"{name}.json").read_text())["metrics"]
    linear = torch.nn.functional.linear

    def changed(size: float) -> list[dict[str, Any]]:
        random = torch.Generator().manual_seed(0)

        def erring(*args: torch.Tensor) -> torch.Tensor:
            out = linear(*args)
            return out * (1 + size * (2 * torch.rand(out.shape, generator=random) - 1))

        monkeypatch.setattr(torch.nn.functional, "linear", erring)
        return curve(name, tmp_path / str(size))["metrics"]

    rounded = changed(1e-6)
    assert rounded != golden
    assert differences(rounded, golden) == []
    assert any("loss/td" in found for found in differences(changed(1e-2), golden))


@given(st.integers(1, SHARED_BY), st.data())
def test_one_more_in_a_count_or_in_a_share_is_a_difference(whole: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, whole - 1))
    assert not agree(count + 1, count)
    assert not agree(10**9 + count + 1, 10**9 + count)
    assert not agree((count + 1) / whole, count / whole)
    assert not agree(count / whole, (count + 1) / whole)


@pytest.mark.parametrize(("now", "then"), [(1, 1.0), (1.0, 1), (True, 1), (0.0, None), (None, 0.0), (math.nan, 0.5)])
def test_a_value_of_another_type_is_a_difference(now: object, then: object) -> None:
    assert not agree(now, then)


def test_a_row_or_a_metric_more_or_less_is_a_difference() -> None:
    rows = [{"env_steps": 0, "loss/td": 0.5}, {"env_steps": 80, "loss/td": 0.25}]
    assert differences(rows, rows) == []
    assert differences(rows[:1], rows) != []
    assert differences([{**rows[0], "loss/policy": 0.5}, rows[1]], rows) != []
    assert differences([rows[0], {"env_steps": 80}], rows) != []
    assert differences([rows[0], {"env_steps": 81, "loss/td": 0.25}], rows) == ["row 1, env_steps: 81, once 80"]


def test_every_learner_and_backup_has_a_curve() -> None:
    learners = {p.stem for p in (Path(__file__).parent.parent / "configs" / "learner").glob("*.yaml")}
    assert {o.removeprefix("learner=") for c in CURVES.values() for o in c if o.startswith("learner=")} == learners
    assert {p.stem for p in GOLDEN.glob("*.json")} == set(CURVES)


def test_the_curves_show_learning_and_asking() -> None:
    """A golden run that never learns, or asks nothing, would not notice a change."""
    rows = {name: json.loads((GOLDEN / f"{name}.json").read_text())["metrics"] for name in CURVES}
    for name, metrics in rows.items():
        assert metrics[-1]["env_steps"] + metrics[-1].get("transitions", 0) <= SHARED_BY, name
        losses = [key for key in metrics[-1] if key.startswith("loss/")]
        assert bool(losses) == (name not in LEARN_NOTHING), name
        assert all(metrics[-1][loss] != 0 for loss in losses), name
        if DATA[0] in CURVES[name]:
            assert metrics[-1]["gradient_steps"] == 160, name
            assert 0 < metrics[-1]["data/coverage"] <= 1, name
            assert all(metrics[0][loss] != metrics[-1][loss] for loss in losses), name
        elif MODEL[0] in CURVES[name]:
            assert metrics[-1]["lm/queries"] > metrics[0]["lm/queries"], name
            assert 0 < metrics[-1]["prior/coverage"] <= 1, name
    assert rows["dqn_prior-generated"][-1]["lm/parse_failures"] > 0
    assert len({json.dumps(metrics) for metrics in rows.values()}) == len(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description="Writes the golden curves anew.")
    parser.add_argument("--write", nargs="*", choices=CURVES, required=True, metavar="NAME", help="by default all")
    args = parser.parse_args()
    for name in args.write or CURVES:
        with tempfile.TemporaryDirectory() as folder:
            kept = curve(name, Path(folder))
        (GOLDEN / f"{name}.json").write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")
        print(name, [row["eval/success"] for row in kept["metrics"]])


if __name__ == "__main__":
    main()
