from __future__ import annotations

import csv
import io
import json
import re
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from report.runs_on_disk import make_runs
from rich.console import Console

from llmrl.config.compose import ConfigError, check
from llmrl.core.files import publish
from llmrl.report.compare import Comparison, compare, percentages
from llmrl.report.compare_tables import as_json, escape_latex, markdown, render, write
from llmrl.report.groups import group_runs, settings
from llmrl.report.pretraining import Pretraining, cost, pretrainings
from llmrl.report.select import select, sides
from llmrl.run.identity import identify_run
from llmrl.run.load import RunInfo
from llmrl.run.provenance import provenance

WORLD = ["env=overcooked_salad"]
SEEDS = 10


def make(
    root: Path, learner: str, at: int, seeds: int | list[int] = SEEDS, *more: str, late: int = 100, **options: Any
) -> list[RunInfo]:
    """Runs whose policy succeeds always from `at` decisions on, each seed `late` decisions later than the one before.

    They have 20,000 decisions and an exact evaluation every 1,000.
    """
    every = options.pop("every", 1000)
    world = [] if any(word.startswith("env=") for word in more) else WORLD
    return make_runs(
        root,
        [f"learner={learner}", *world, f"env_steps={20 * every}", f"evaluation.every={every}", *more],
        list(range(seeds)) if isinstance(seeds, int) else seeds,
        lambda seed: lambda step: float(step >= at + late * seed),
        20 * every,
        every,
        **options,
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    make(root, "dqn_prior", 100)
    make(root, "dqn", 11_000)
    make(root, "random", 10**6)
    return root


@pytest.fixture(scope="module")
def sampled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sampled")
    make(root, "dqn_prior", 100, exact=False)
    make(root, "dqn", 11_000, exact=False)
    return root


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("small")
    for learner in ("dqn_prior", "dqn", "random"):
        make(root, learner, 100, 2)
    return root


def text(found: Comparison) -> str:
    console = Console(width=80, file=io.StringIO(), color_system=None)
    console.print(render(found))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@cache
def named(words: str, root: Path) -> list[RunInfo]:
    """Reading a config takes 20 ms, so it is done once."""
    return select(words.split(), root)


def chosen(root: Path, a: str, b: str, **options: Any) -> Comparison:
    return compare(named(a, root), named(b, root), **options)


def edit(run: RunInfo, name: str, **changed: object) -> None:
    value = json.loads((run.path / name).read_text())
    publish(run.path / name, json.dumps(value | changed))


# ---- figures -----------------------------------------------------------------------------------------------------


def test_two_groups_of_runs(root: Path) -> None:
    found = chosen(root, "dqn_prior", "dqn")
    (prior,), dqn, (pair,) = found.groups, found.against, found.pairs
    assert (prior.label, dqn.label, prior.seeds) == ("dqn_prior", "dqn", list(range(SEEDS)))
    assert prior.final.low == dqn.final.low == 1
    assert prior.area is not None
    assert dqn.area is not None
    assert prior.area.low == pytest.approx(1 - 500 / 20_000)  # all reach it at the second evaluation
    assert [n.low for n in prior.needed] == [1000] * 3
    assert [n.low for n in dqn.needed] == [12_000] * 3  # of 11,000, and nine times 12,000
    assert [(r.low, r.interval_low) for r in pair.ratios] == [(12, 11)] * 3  # by the evaluation before
    assert pair.difference.low == 0
    assert pair.detectable is not None
    assert pair.difference.interval_low < 0 < pair.difference.interval_high
    assert prior.log_area is None
    assert pair.claims == [
        f"to {t} %: dqn_prior needs at least 11 times fewer decisions than dqn" for t in (50, 80, 95)
    ]


def test_one_row_for_each_group_and_the_same_row_alone(root: Path) -> None:
    both, alone = chosen(root, "dqn_prior random", "dqn"), chosen(root, "dqn_prior", "dqn")
    assert [group.label for group in both.groups] == ["dqn_prior", "random"]
    assert both.pairs[0] == alone.pairs[0]
    random = both.groups[1]
    assert random.reached == [0, 0, 0]
    assert random.needed[0].low == 20_000
    assert both.pairs[1].ratios[0].high == pytest.approx(12_000 / 20_000)
    assert "random needs at least 1.66 times more decisions than dqn" in both.pairs[1].claims[0]


def test_other_axes_are_joined_with_the_clock(root: Path, sampled: Path) -> None:
    found = chosen(sampled, "dqn_prior", "dqn", x="seconds", levels=(0.8,))
    assert found.groups[0].needed[0].low == pytest.approx(10.5)
    assert found.against.needed[0].low == pytest.approx(120.5)
    with pytest.raises(
        ValueError, match=r"has no eval/success over tokens: it has env_steps, eval/exact, eval/success"
    ):
        chosen(root, "dqn_prior", "dqn", x="tokens")


@pytest.mark.parametrize("x", ["seconds", "training_seconds", "lm/tokens"])
def test_what_exact_evaluations_paid_is_no_axis(x: str, root: Path, sampled: Path) -> None:
    for runs, against in ((root, sampled), (sampled, root)):
        with pytest.raises(ValueError, match=r"exactly.* run with evaluation\.exact_up_to=0 and an empty paths\.cache"):
            compare(named("dqn_prior", runs), named("dqn", against), x=x)


def test_areas_over_a_log_axis_where_the_grid_is_one(tmp_path: Path) -> None:
    a = make(tmp_path, "dqn_prior", 4000, 3, "evaluation.grid=log")
    b = make(tmp_path, "dqn", 10_000, 3, "evaluation.grid=log")
    found = compare(a, b)
    assert found.log
    assert found.groups[0].log_area is not None
    assert found.groups[0].area is not None
    assert found.groups[0].log_area.low < found.groups[0].area.low  # late in log x
    assert "area, log axis" in text(found)
    assert write(found, tmp_path / "c.png").stat().st_size > 5000


# ---- what may be claimed -----------------------------------------------------------------------------------------


def test_ten_times_fewer_needs_a_world_that_is_hard(tmp_path: Path) -> None:
    prior, dqn = (make(tmp_path, n, at, every=250, late=0) for n, at in (("dqn_prior", 100), ("dqn", 4000)))
    assert compare(prior, dqn, levels=(0.8,)).pairs[0].claims == [
        "to 80 %: dqn_prior needs at least 15 times fewer decisions than dqn, but that is no evidence: "
        "dqn needs fewer than 5,000 decisions"
    ]


def test_a_censored_budget_is_not_a_time(tmp_path: Path) -> None:
    prior = make(tmp_path, "dqn_prior", 100, every=200, late=0)
    assert compare(prior, make(tmp_path, "dqn", 10**6, every=200), levels=(0.8,)).pairs[0].claims == [
        "to 80 %: dqn_prior needs at least 20 times fewer decisions than dqn, but that is no evidence: "
        "dqn is not known to need 5,000 decisions (censored at 4,000)"
    ]


@pytest.mark.parametrize(
    ("world", "reason"),
    [
        ("env=overcooked_tomato", "overcooked_tomato is a test of correctness"),
        ("env=frozen_lake env.layout=random", "frozen_lake is a test of correctness"),
        ("env=overcooked_random env.split=dev", "split dev was used for tuning"),
        ("env=overcooked_random env.split=train", "split train is the embedded model's training data"),
        ("env=overcooked_random env.split=test", None),
    ],
)
def test_nothing_is_claimed_where_nothing_is_evidence(world: str, reason: str | None, tmp_path: Path) -> None:
    prior, dqn = (make(tmp_path, n, at, SEEDS, *world.split()) for n, at in (("dqn_prior", 100), ("dqn", 11_000)))
    (claimed,) = compare(prior, dqn, levels=(0.8,)).pairs[0].claims
    assert claimed == (
        f"to 80 %: no claim ({reason})"
        if reason
        else "to 80 %: dqn_prior needs at least 11 times fewer decisions than dqn"
    )


def test_nothing_is_claimed_from_few_seeds_or_of_equals(tmp_path: Path, root: Path) -> None:
    few = make(tmp_path, "dqn_prior", 100, 4)
    assert compare(few, named("dqn", root)).pairs[0].claims[0] == ("to 50 %: no claim (dqn_prior has 4 of 10 seeds)")
    again = make(tmp_path, "dqn", 11_000)
    found = compare(again, named("dqn", root))
    assert found.against.label == "dqn (against)"
    assert found.pairs[0].claims[0] == "to 50 %: no claim (the interval of the ratio holds 1)"
    assert found.pairs[0].paired_ratios is not None
    assert found.pairs[0].paired_ratios[0].interval_low == pytest.approx(11 / 12)


def test_pairs_need_the_same_seeds(root: Path) -> None:
    found = compare(named("dqn_prior", root)[:3], named("dqn", root))
    assert found.pairs[0].paired_ratios is None
    assert found.pairs[0].paired_difference is None


# ---- refusals ----------------------------------------------------------------------------------------------------


def test_what_cannot_be_compared_is_refused(tmp_path: Path, root: Path) -> None:
    dqn = named("dqn", root)
    with pytest.raises(ValueError, match="10 runs are on both sides, such as overcooked_salad-dqn-uniform"):
        chosen(root, "dqn random", "dqn")
    with pytest.raises(
        ValueError, match=r"--against is 2 groups, and has to be one: random, dqn_prior|dqn_prior, random"
    ):
        chosen(root, "dqn", "dqn_prior random")
    with pytest.raises(ValueError, match="only success is compared"):
        chosen(root, "dqn", "random", metric="eval/return")
    with pytest.raises(ValueError, match=r"dqn: seed 0 is there 2 times \(.*dqn-uniform-s0.*: leave one out"):
        compare(make(tmp_path, "dqn", 1, 1) + dqn, named("random", root))
    other = make(tmp_path, "dqn_prior", 100, 2, "evaluation.grid=log", "env.reward=original")
    with pytest.raises(ValueError, match=r"differ in env.reward \(original, once\); evaluation.grid \(log, linear\)"):
        compare(other, dqn)
    found = compare(other, dqn, allow_different=True)
    assert "NOT EVALUATED ALIKE" in text(found)
    assert "no claim (not evaluated alike" in found.pairs[0].claims[0]


def test_uncommitted_code_is_refused_or_marks_the_table(tmp_path: Path, root: Path) -> None:
    dirty = make(tmp_path, "dqn_prior", 100, 10, "learner.alpha=0.5", dirty=True)
    with pytest.raises(ValueError, match="10 of 20 runs were made by code with uncommitted changes"):
        compare(dirty, named("dqn", root))
    found = compare(dirty, named("dqn", root), allow_dirty=True)
    assert "MADE BY UNCOMMITTED CODE: 10 of 20 runs" in text(found)
    assert all("no claim (made by uncommitted code)" in claim for claim in found.pairs[0].claims)


@pytest.mark.parametrize("changed", [{"git": None}, {}])
def test_nothing_is_claimed_of_code_that_cannot_be_looked_up(
    changed: dict[str, None], tmp_path: Path, root: Path
) -> None:
    prior = make(tmp_path, "dqn_prior", 100)
    if changed:
        edit(prior[3], "provenance.json", **changed)
    else:
        (prior[3].path / "provenance.json").unlink()
    found = compare(prior, named("dqn", root))
    assert all("no claim (made outside a git checkout)" in claim for claim in found.pairs[0].claims)
    assert any(note.endswith("1 of 20 runs") for note in found.notes)


def test_mixed_numerics_and_mixed_models_are_refused(tmp_path: Path, root: Path) -> None:
    prior = make(tmp_path, "dqn_prior", 100, 2)
    edit(prior[1], "provenance.json", model={"revision": "f" * 64})
    with pytest.raises(ValueError, match="asked models of the same name with 2 different weights"):
        compare(prior, named("dqn", root))
    (old,) = make(tmp_path, "random", 100, 1)
    config = OmegaConf.load(old.path / "config.yaml")
    config.numerics = 0
    publish(old.path / "config.yaml", OmegaConf.to_yaml(config))
    with pytest.raises(ValueError, match="numerics differ"):
        compare([RunInfo(old.path)], named("dqn", root))


def test_an_encoder_of_other_weights_is_refused(tmp_path: Path, root: Path) -> None:
    prior = make(tmp_path, "dqn_prior", 100, 2)
    for run, revision in zip(prior, "ef", strict=True):
        edit(run, "provenance.json", encoder={"revision": revision * 64})
    with pytest.raises(ValueError, match="read with encoders of the same name with 2 different weights"):
        compare(prior, named("dqn", root))


def test_weights_are_known_by_what_is_in_their_file(tmp_path: Path, root: Path) -> None:
    weights = tmp_path / "clone.safetensors"
    runs = make(tmp_path, "dqn_pretrained", 100, 3, f"learner.weights={weights}")
    for run, content in zip(runs, (b"a", b"a", b"b"), strict=True):
        weights.write_bytes(content)
        cfg = check(OmegaConf.create(run.config))
        made = provenance(cfg, identify_run(cfg))
        assert made["weights"] == sha256(content).hexdigest()
        edit(run, "provenance.json", weights=made["weights"])
    found = compare(runs[:2], named("dqn", root))
    note = "dqn_pretrained: every seed starts from clone.safetensors; intervals are given this one file"
    assert note in found.notes
    with pytest.raises(ValueError, match=r"started from files of the same name with 2 different weights$"):
        compare([RunInfo(run.path) for run in runs], named("dqn", root))
    edit(runs[2], "provenance.json", weights=None)
    with pytest.raises(ValueError, match=r"\(some do not say with which\)"):
        compare([RunInfo(run.path) for run in runs], named("dqn", root))
    cfg = check(OmegaConf.create(named("dqn", root)[0].config))
    assert provenance(cfg, identify_run(cfg))["weights"] is None


def test_unfinished_runs_are_named_and_left_out(tmp_path: Path, root: Path) -> None:
    runs = make(tmp_path, "dqn_prior", 100, 3)
    (failed,) = make(tmp_path, "dqn_prior", 100, [7], status="failed")
    found = compare([*runs, failed], named("dqn", root))
    assert found.groups[0].seeds == [0, 1, 2]
    assert f"left out, unfinished: {failed.name}" in found.notes
    with pytest.raises(ValueError, match=f"no run of one side is complete: {failed.name}"):
        compare([failed], named("dqn", root))


# ---- groups and selections ---------------------------------------------------------------------------------------


def test_a_run_from_before_a_setting_existed_is_in_the_same_group(tmp_path: Path) -> None:
    old, new = make(tmp_path, "dqn", 100, 2)
    config = OmegaConf.load(old.path / "config.yaml")
    del config.evaluation["grid"], config.learner["combine"]
    publish(old.path / "config.yaml", OmegaConf.to_yaml(config))
    assert settings(RunInfo(old.path))["learner.combine"] == "posterior"
    assert list(group_runs([RunInfo(old.path), new])) == ["dqn"]


@pytest.mark.parametrize(
    ("words", "learners"),
    [
        ("dqn", {"dqn"}),  # a whole part of the name before any piece of one
        ("dqn_p", {"dqn_prior"}),
        ("*-dqn*", {"dqn", "dqn_prior"}),
        ("learner=dqn", {"dqn"}),
        ("learner.name=dqn,random", {"dqn", "random"}),
        ("learner.alpha=0.02 prior.mix=0.05", {"dqn_prior"}),
        ("lm=null", {"dqn", "random"}),
        ("seed=1", {"dqn", "dqn_prior", "random"}),
        ("random learner.name=random seed=1,5", {"random"}),
    ],
)
def test_selections(words: str, learners: set[str], small: Path) -> None:
    assert {run.config["learner"]["name"] for run in select(words.split(), small)} == learners


def test_folders_and_globs_are_selections_too(small: Path, tmp_path: Path) -> None:
    assert len(select([str(small)], tmp_path)) == 6
    assert len(select([f"{small}/*-random-*"], tmp_path)) == 2
    one = next(small.glob("*-dqn-*"))
    assert [run.path for run in select([str(one), one.name], small)] == [one]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("dqnn", "no run in .* has this in its name; did you mean dqn"),
        ("learner=dqm", "learner=dqm: none of 6 runs has it; they have learner.name=dqn, learner.name=dqn_prior"),
        ("learner.alfa=1", "learner.alfa: no run has this setting; did you mean learner.alpha"),
    ],
)
def test_what_matches_nothing_is_told(words: str, message: str, small: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        select(words.split(), small)


def test_two_sides_are_typed() -> None:
    assert sides(["a", "b", "--against", "c", "d=1"]) == (["a", "b"], ["c", "d=1"])
    for words in (
        ["a"],
        ["a", "--against"],
        ["--against", "a"],
        ["a", "--against", "b", "--against", "c"],
        ["a", "--x"],
    ):
        with pytest.raises(ConfigError):
            sides(words)
    assert percentages("95, 50") == (0.5, 0.95)
    for wrong in ("", "0", "101", "half", "50;80"):
        with pytest.raises(ConfigError, match="expected percentages"):
            percentages(wrong)


# ---- what was known beforehand -----------------------------------------------------------------------------------


def card(folder: Path, **content: object) -> str:
    folder.mkdir(parents=True)
    (folder / "card.json").write_text(json.dumps(content))
    return str(folder)


def test_what_the_prior_read_is_stated(root: Path) -> None:
    note = "dqn_prior began with transfer prior tiny-1: 5,125,717 tokens, 3,200 episodes, 800 worlds"
    assert any(n.startswith(note) for n in chosen(root, "dqn_prior", "dqn").notes)


def test_cards_and_weights_tell_what_they_cost(tmp_path: Path) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    model = card(tmp_path / "m-cook", tokens_trained=2e6, episodes=400, worlds=100, seconds=120.5)
    weights = tmp_path / "clone.safetensors"
    save_file({"w": np.zeros(1)}, weights, {"seconds": "30", "tokens": "1000", "what": '"q"'})
    config = {"lm": {"model": model}, "encoder": {"model": model}, "learner": {"weights": str(weights)}}
    found = pretrainings(config)
    assert found == [
        Pretraining("transfer prior m-cook", 2e6, 400, 100, 120.5),
        Pretraining("clone.safetensors", 1000, None, None, 30),
    ]
    assert str(found[0]) == (
        "transfer prior m-cook: 2,000,000 tokens, 400 episodes, 100 worlds, 120 seconds of training"
    )
    assert cost(found, "seconds") == 150.5
    assert cost(found, "lm/tokens") == 2_001_000
    assert cost([], "episodes") == 0
    with pytest.raises(ValueError, match=r"clone\.safetensors does not say how many episodes its training took"):
        cost(found, "episodes")
    with pytest.raises(ValueError, match="no training is counted in env_steps"):
        cost(found, "env_steps")
    (untrained,) = pretrainings({"lm": {"model": card(tmp_path / "untrained", tokens_trained=0, corpus_tokens=9)}})
    assert untrained.tokens == 0


def test_models_that_do_not_tell_are_named() -> None:
    config = {"lm": {"model": "someone/model"}, "learner": {"weights": "/nowhere/q.safetensors"}, "encoder": None}
    assert [str(p) for p in pretrainings(config)] == [
        "someone/model: its training is not known",
        "q.safetensors: its training is not known",
    ]
    assert pretrainings({"lm": {"model": "/gone/model"}})[0].tokens is None
    assert pretrainings({"lm": None, "encoder": {"name": "hash"}, "learner": {"name": "dqn"}}) == []


def test_training_of_the_model_is_counted_where_asked(sampled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = [Pretraining("m", None, None, None, 100.0)]
    for module in ("compare", "comparable"):
        monkeypatch.setattr(f"llmrl.report.{module}.pretrainings", lambda config: known if config["lm"] else [])
    found = chosen(sampled, "dqn_prior", "dqn", x="seconds", with_training=True)
    assert found.groups[0].needed[0].low == pytest.approx(110.5)
    assert found.against.needed[0].low == pytest.approx(120.5)
    assert any("(counted in seconds)" in note for note in found.notes)


# ---- how it looks ------------------------------------------------------------------------------------------------


def test_tables_fit_80_columns_and_say_the_same_everywhere(root: Path, tmp_path: Path) -> None:
    found = chosen(root, "dqn_prior random", "dqn")
    lines = text(found).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith("overcooked_salad: success over decisions, 21 evaluations")
    marked = markdown(found)
    for figure in (">20,000", "≥20,000", "0 of 10 seeds", "12,000", "paired"):
        assert figure in text(found)
        assert figure in marked
    rows = [line for line in marked.splitlines() if line.startswith("|")]
    assert sum("---" in row for row in rows) == 5
    data = json.loads(as_json(found))
    assert data["groups"][1]["needed"][0] == {
        "low": 20_000, "high": None, "interval_low": 20_000, "interval_high": None
    }  # fmt: skip
    assert data["pairs"][0]["claims"] == found.pairs[0].claims
    assert write(found, tmp_path / "sub" / "c.json").read_text() == as_json(found)
    assert not re.search("<[a-z]+>", marked)  # Markdown alone


def test_a_row_of_csv_for_each_group_and_threshold(root: Path, tmp_path: Path) -> None:
    found = chosen(root, "dqn_prior random", "dqn")
    rows = list(csv.DictReader(write(found, tmp_path / "c.csv").open()))
    assert [(row["group"], row["level"]) for row in rows] == [
        (group, level) for group in ("dqn_prior", "random", "dqn") for level in ("0.5", "0.8", "0.95")
    ]
    assert rows[0] | {"against": "dqn", "seeds": "10", "ratio_low": "12.0", "reached": "10"} == rows[0]
    assert rows[0]["claim"] == found.pairs[0].claims[0]
    assert (rows[3]["needed_low"], rows[3]["needed_high"]) == ("20000.0", "")
    assert (rows[-1]["against"], rows[-1]["ratio_low"]) == ("", "")


def test_latex_has_the_same_tables(root: Path, tmp_path: Path) -> None:
    found = chosen(root, "dqn_prior random", "dqn")
    made = write(found, tmp_path / "c.tex").read_text()
    code = [line for line in made.splitlines() if not line.startswith("%")]
    for rule in (r"\toprule", r"\midrule", r"\bottomrule"):
        assert code.count(rule) == 5
    assert r"dqn\_prior & 10 & 100.0 (80.6 to 100.0) & 0.975 (0.786 to 1.000) \\" in code
    assert any(r"\textgreater{}20,000 (20,000; 0 of 10 seeds)" in line or "20,000" in line for line in code)
    assert not re.search(r"(?<!\\)[%_#]|[≥≤<>^~]", "\n".join(code))
    columns = {line.count("&") for line in code if line.endswith(r"\\")}
    assert columns == {3}


@given(st.text(st.sampled_from('a_\\{}%$&#^~<>|≥≤" ')))
def test_latex_prints_every_character(text: str) -> None:
    plain = re.sub(r"\\text\w+\{\}|\$\\[gl]eq\$|\\[#$%&_{}]", "", escape_latex(text))
    assert set(plain) <= {"a", " "}
    assert len(plain) == sum(text.count(character) for character in "a ")


def test_how_success_was_measured_is_stated(root: Path, sampled: Path) -> None:
    assert "success is exact" in chosen(root, "dqn_prior", "dqn").notes
    advice = ": published results take 100, or evaluation.exact_up_to"
    assert f"success is sampled, 30 episodes a point{advice}" in chosen(sampled, "dqn_prior", "dqn").notes
    mixed = compare(named("dqn_prior", sampled), named("dqn", root)).notes
    assert f"success is sampled, 30 episodes a point (dqn_prior); exact (dqn){advice}" in mixed


def test_an_exact_arm_is_compared_with_a_sampled_one(tmp_path: Path) -> None:
    prior = make(tmp_path, "dqn_prior", 100, SEEDS, "evaluation.exact_up_to=2000")
    dqn = make(tmp_path, "dqn", 11_000, SEEDS, "evaluation.episodes=100", exact=False)
    found = compare(prior, dqn, levels=(0.8,))
    assert found.pairs[0].claims == ["to 80 %: dqn_prior needs at least 11 times fewer decisions than dqn"]
    assert "success is exact (dqn_prior); sampled, 100 episodes a point (dqn)" in found.notes
