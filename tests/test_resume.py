"""A run that was stopped, at whatever moment, ends in the same bytes as one that never was.

Here a run is stopped by an exception that nothing catches, in this process; tests/cli/test_resume.py kills processes.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf
from run.manifests import change

import llmrl
from llmrl.answers.answers import AnswerCache
from llmrl.config.compose import compose
from llmrl.core import files
from llmrl.core.files import read_lines
from llmrl.encoders.hash import HashEncoder
from llmrl.envs.pool import EnvPool
from llmrl.learners.weights import What, network, write_weights
from llmrl.report import plots
from llmrl.report.progress import Silent
from llmrl.rollout.exact import Exact
from llmrl.rollout.rollout import Rollout
from llmrl.run.checkpoint import MANIFEST, WEIGHTS, checkpoint_steps, read_about, read_state
from llmrl.run.folder import CannotResume, RunFolder
from llmrl.run.load import RunInfo, load_runs
from llmrl.training.fit_report import describe_misfit
from llmrl.training.offline import STEPS_AT_ONCE, OfflineTraining
from llmrl.training.online import OnlineTraining

TESTS = Path(__file__).parent
THREADS = os.environ.get("OMP_NUM_THREADS", "1")
SHORT = [
    "env_steps=120", "rollout.num_envs=4", "evaluation.every=48", "evaluation.episodes=2", "checkpoint_every=24",
    f"threads={THREADS}",
]  # fmt: skip
TOMATO = ["env=overcooked_tomato", "env.max_decisions=12"]
MODEL = ["lm=hf", f"lm.model={TESTS / 'golden' / 'lm'}", "lm.device=cpu"]
CORRIDOR = ["env=corridor"]
HISTORY = ["encoder.history_turns=2"]
LEARNS = ["learner.learning_starts=20", "learner.batch=8", "learner.hidden=[16]", "encoder.dim=32"]
PLAYED = "evaluation.exact_up_to=0"
OFFLINE = [
    f"data={TESTS / 'golden' / 'tomato.parquet'}", "data.size=200", "learner.gradient_steps=400", "learner.batch=4",
    "learner.hidden=[4]", "encoder.dim=16", "evaluation.every=150", *TOMATO, PLAYED,
]  # fmt: skip
EVERY = {  # visits, rewards, n steps, streams: all that one learner has
    "dqn": [
        "learner=dqn", *TOMATO, *LEARNS, *HISTORY, "learner.count_bonus=0.1", "learner.priority=0.6",
        "learner.optimism=0.3", "learner.backup=sampled", "learner.epsilon=0.2", PLAYED,
    ],
    "lake": ["learner=dqn_prior", "env=frozen_lake", "env.slippery=true", "lm=moody", "learner.buffer=64", *LEARNS],
    "kitchens": [
        "learner=dqn_prior", "env=overcooked_random", "env.count=2", "env.max_decisions=12", *MODEL, *LEARNS, PLAYED,
    ],
    "pipeline": [
        "learner=dqn_prior", *TOMATO, *MODEL, *LEARNS, "rollout.pipeline=true", "checkpoint_every=8",
        "learner.n_step=3", "encoder.history_turns=1", PLAYED,
    ],
    "homes": [
        "learner=dqn_prior", "env=household/mixed", "env.count=3", "env.max_decisions=10", "lm=moody", *LEARNS,
    ],
    "union": [
        "learner=dqn_prior", *TOMATO, *MODEL, *LEARNS, "prior.behaviour.redraw=union", "prior.target.redraw=union",
        "prompt.history_turns=2", PLAYED,
    ],
    "trust": ["learner=dqn_prior", *TOMATO, *MODEL, *LEARNS, "prior.mix=auto", PLAYED],
    "trust, pipeline": [
        "learner=dqn_prior", *TOMATO, *MODEL, *LEARNS, "prior.mix=auto", "rollout.pipeline=true", "checkpoint_every=8",
        PLAYED,
    ],
    "calibrated": ["learner=dqn_prior", *TOMATO, *MODEL, *LEARNS, "prior=calibrated", "prior.labels=8", PLAYED],
    "generated": [
        "learner=dqn_prior", *TOMATO, *MODEL, *LEARNS, "prior=generated", "prior.behaviour.redraw=visit",
        "prior.target.redraw=union", PLAYED,
    ],
    "prefilled": [
        "learner=dqn_prefilled", *TOMATO, *MODEL, *LEARNS, "learner.prefill=54", "prior.uniform_after=54", PLAYED,
    ],
    "paper": [
        "learner=dqn_prior_paper", "rollout.num_envs=1", "env_steps=40", "checkpoint_every=8", "evaluation.every=16",
        *TOMATO, *MODEL, "learner.learning_starts=2", "learner.update_every=1", "learner.updates=4", "learner.batch=8",
        "encoder.dim=32", PLAYED,
    ],
    "paper of salad": [
        "learner=dqn_prior_paper_salad", "episodes=3", "rollout.num_envs=1", "checkpoint_every=8",
        "evaluation.every=16", *TOMATO, *MODEL, "learner.learning_starts=0", "learner.update_every=1",
        "learner.updates=4", "learner.batch=8", "encoder.dim=32", "prompt.history_turns=1",
    ],
    "saycan": ["learner=saycan", *TOMATO, *MODEL, *LEARNS, PLAYED],
    "drrn": [
        "learner=drrn", "prior=uniform_k", *TOMATO, "learner.learning_starts=20", "learner.batch=8",
        "learner.embedding=4", "learner.hidden=4", "learner.n_step=3", "learner.history_turns=2", PLAYED,
    ],
    "bc": ["learner=bc", *TOMATO, "learner.hidden=[16]", "encoder.dim=32", PLAYED],
    "bc_filtered": ["learner=bc_filtered", *OFFLINE],
    "bc_prior": ["learner=bc_prior", *OFFLINE, *MODEL, *HISTORY],
    "cql": ["learner=cql", "learner.join=true", "learner.backup=soft", *OFFLINE, *HISTORY],
    "cql_prior": ["learner=cql_prior", *OFFLINE, *MODEL],
    "cql_prior_joined": ["learner=cql_prior_joined", *OFFLINE, *MODEL],
    "cql_prior_soft": ["learner=cql_prior_soft", *OFFLINE, *MODEL],
    "cql_prior_paper": ["learner=cql_prior_paper", "env.reward=once", *OFFLINE, *MODEL],
    "iql": ["learner=iql", *OFFLINE],
    "dqn_pretrained": ["learner=dqn_pretrained", *CORRIDOR, *LEARNS],
    "prior_only": ["learner=prior_only", *CORRIDOR, "lm=moody"],
    "random": ["learner=random", *TOMATO],
}  # fmt: skip
TRAINED: dict[str, What] = {"bc": "policy", "dqn_pretrained": "q"}

Results = dict[str, Any]


class Interrupted(BaseException): ...


class Heard(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


# ---- stopping --------------------------------------------------------------------------------------------------------

POINTS: dict[str, list[tuple[Any, str]]] = {
    "tick": [(OnlineTraining, "tick"), (OfflineTraining, "tick")],
    "world": [(EnvPool, "run")],  # of the training, of an evaluation, and of replaying
    "evaluation": [(Rollout, "tick"), (Exact, "evaluate")],  # within one: in the training's ticks it is not counted
    "log": [(RunFolder, "append_bytes")],
    "answers": [(AnswerCache, "add")],
    "file": [(files, "_write")],
    "finish": [(RunFolder, "finish")],
}


@contextmanager
def stopped_at(point: str, nth: int) -> Iterator[None]:
    """The n-th call of what the point names is the last thing that happens. Raises where there are not so many."""
    calls = 0

    def counted(original: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += point != "evaluation" or kwargs.get("learning", True) is False or isinstance(args[0], Exact)
            if calls == nth:
                raise Interrupted
            return original(*args, **kwargs)

        return wrapper

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Interrupted):  # noqa: PT012
        for owner, name in POINTS[point]:
            patch.setattr(owner, name, counted(getattr(owner, name)))
        yield


# ---- running ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def _undrawn() -> Iterator[None]:
    """The pictures, which take longer than most of these runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "run_curve", lambda path: None)
        yield


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A person's own configs."""
    root = tmp_path_factory.mktemp("mine")
    texts = {
        "env/corridor": "_target_: worlds.Corridor\nname: corridor\n",
        "env/diary": "_target_: worlds.Diary\nname: diary\n",
        "env/restless": "_target_: worlds.Restless\nname: restless\n",
        "lm/moody": "_target_: foreign.Moody\nname: moody\n",
        "learner/forgetful": "_target_: foreign.Forgetful\nname: forgetful\n",
    }
    for name, text in texts.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / f"{name}.yaml").write_text(text)
    return root


@pytest.fixture(scope="module")
def configured(mine: Path) -> Callable[..., DictConfig]:
    def configured(root: Path, *overrides: str, cache: Path | None = None) -> DictConfig:
        given = {o.partition("=")[0]: o for o in (*SHORT, *overrides)}  # the last word counts
        paths = [f"paths.runs={root}", f"paths.cache={cache or root / 'kept.sqlite3'}"]
        return compose([*given.values(), *paths], mine)

    return configured


def results(root: Path) -> Results:
    """All that is a function of the config alone, with the checksums of what checkpoints held."""
    (run,) = load_runs(root)
    found: Results = {
        name: (run.path / name).read_bytes() for name in ("metrics.jsonl", "episodes.jsonl", "summary.json")
    }
    for step in checkpoint_steps(run.path):
        path = run.path / "checkpoints" / str(step)
        about = read_about(path)
        about["logs"].pop("timing.jsonl")
        found[f"checkpoints/{step}"] = about
        found[f"checkpoints/{step}/weights"] = (path / WEIGHTS).read_bytes()
    assert not list(run.path.glob("**/.*.tmp"))
    return found


def the_run(root: Path) -> Path:
    (run,) = load_runs(root)
    return run.path


def continued(cfg: DictConfig, **how: bool) -> list[str]:
    """Runs to the end; what a person is told on the way."""
    heard = Heard()
    assert llmrl.train(cfg, heard, **how)["status"] == "complete"
    return heard.notes


# ---- every learner, several worlds -----------------------------------------------------------------------------------


def test_every_learner_is_stopped_here() -> None:
    learners = {p.stem for p in (TESTS.parent / "configs" / "learner").glob("*.yaml")}
    assert {o.removeprefix("learner=") for what in EVERY.values() for o in what if o.startswith("learner=")} == learners


def _trained(path: Path, what: What, cfg: DictConfig) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        net = network(cfg.encoder.dim, cfg.learner.hidden)
    encoder = HashEncoder(OmegaConf.to_object(cfg.encoder))  # type: ignore[arg-type]
    write_weights(path, net, what, encoder, cfg.learner.hidden, {})


# One learner of each kind here, all of them in `make test-slow` and `make test-portable`.
QUICK = {"dqn", "generated", "drrn", "cql_prior"}


@pytest.mark.parametrize("kind", [pytest.param(k, marks=[] if k in QUICK else pytest.mark.slow) for k in EVERY])
def test_a_run_that_was_stopped_again_and_again(
    kind: str, configured: Callable[..., DictConfig], tmp_path: Path
) -> None:
    overrides, cache = EVERY[kind], tmp_path / "kept.sqlite3"
    if kind in TRAINED:
        overrides = [*overrides, f"learner.weights={tmp_path / 'net'}"]
        _trained(tmp_path / "net", TRAINED[kind], configured(tmp_path, *overrides))
    cfg = configured(tmp_path / "stopped", *overrides, cache=cache)
    if cfg.lm is not None:
        at_once = PLAYED not in overrides or cfg.data is not None
        with stopped_at("answers", 1 if at_once else 2):  # in the first evaluation, or soon after
            llmrl.train(cfg)
    ticks = 1 if cfg.data is not None else cfg.checkpoint_every // cfg.rollout.num_envs
    steps = min(cfg.env_steps, cfg.episodes * cfg.env.max_decisions) if cfg.episodes else cfg.env_steps
    end = f"{steps} decisions" if cfg.data is None else f"{cfg.learner.gradient_steps} gradient steps"
    assert cfg.checkpoint_every <= STEPS_AT_ONCE
    stops = {
        "tick": ticks + 3,  # after the first checkpoint
        "file": 6,  # summary, config, provenance; then within the second checkpoint
        "evaluation": 2,
        "world": 12,  # replaying, or soon after
        "finish": 1,
    }
    if cfg.data is not None and kind != "cql_prior":  # the others differ in their learner alone
        stops = {point: stops[point] for point in ("tick", "finish")}
    for point, nth in stops.items():
        with stopped_at(point, nth):
            llmrl.train(cfg)
    told, *others = continued(cfg)
    judged = describe_misfit(RunInfo(the_run(tmp_path / "stopped")).summary["fit"], cfg)
    others = [text for text in others if text != judged]  # said once more
    assert all("with max_decisions=31, and the run is evaluated with max_decisions=12" in text for text in others)
    assert len(others) == (cfg.data is not None)  # the file's world has another limit
    assert told == f"{the_run(tmp_path / 'stopped')} resumes from its checkpoint at {end}"

    continued(configured(tmp_path / "whole", *overrides, cache=cache))  # which replays what the other one was told
    assert results(tmp_path / "stopped") == results(tmp_path / "whole")
    stopped, whole = (RunInfo(the_run(tmp_path / name)) for name in ("stopped", "whole"))
    assert stopped.cost["attempts"] == len(stops) + 1 + (cfg.lm is not None)
    assert len(stopped.provenance["resumed"]) >= len(stops) - 1
    assert all(r["lost_episodes"] == 0 and r["drift"] == {} for r in stopped.provenance["resumed"])
    assert whole.cost["lm/computed"] == 0


def test_workers_may_come_and_go(configured: Callable[..., DictConfig], tmp_path: Path) -> None:
    overrides = ["learner=dqn", *CORRIDOR, *LEARNS, *HISTORY, "env_steps=72"]
    with stopped_at("tick", 10):
        llmrl.train(configured(tmp_path / "stopped", *overrides, "rollout.workers=1"))
    continued(configured(tmp_path / "stopped", *overrides))
    continued(configured(tmp_path / "whole", *overrides))
    assert results(tmp_path / "stopped") == results(tmp_path / "whole")


# ---- any moment ------------------------------------------------------------------------------------------------------

SMALL = ["learner=dqn", *CORRIDOR, *LEARNS, *HISTORY]


@pytest.fixture(scope="module")
def whole(configured: Callable[..., DictConfig], tmp_path_factory: pytest.TempPathFactory) -> Results:
    root = tmp_path_factory.mktemp("whole")
    continued(configured(root, *SMALL))
    found = results(root)
    assert b'"loss/td":0.' in found["metrics.jsonl"]
    return found


@settings(max_examples=6, deadline=None)
@given(moments=st.lists(st.tuples(st.sampled_from(["tick", "world", "log", "file"]), st.integers(1, 29)), max_size=4))
def test_whenever_it_is_stopped(
    moments: list[tuple[str, int]], configured: Callable[..., DictConfig], whole: Results
) -> None:
    with tempfile.TemporaryDirectory() as root:
        cfg = configured(Path(root), *SMALL)
        for point, nth in moments:
            try:
                with stopped_at(point, nth):
                    llmrl.train(cfg)
            except pytest.fail.Exception:  # it was done before
                break
        continued(cfg)
        assert results(Path(root)) == whole


# ---- models that answer differently ----------------------------------------------------------------------------------


@pytest.mark.parametrize("prior", ["sampled", "generated"])
def test_a_model_that_never_says_the_same_twice(
    prior: str, configured: Callable[..., DictConfig], tmp_path: Path
) -> None:
    cache = tmp_path / "kept.sqlite3"
    overrides = ["learner=dqn_prior", f"prior={prior}", "env=diary", "lm=moody", *LEARNS]
    cfg = configured(tmp_path / "stopped", *overrides, cache=cache)
    for point, nth in (("answers", 1), ("answers", 4), ("tick", 9), ("answers", 1), ("evaluation", 2), ("world", 9)):
        with stopped_at(point, nth):
            llmrl.train(cfg)
    continued(cfg)
    continued(configured(tmp_path / "whole", *overrides, cache=cache))
    assert results(tmp_path / "stopped") == results(tmp_path / "whole")
    assert RunInfo(the_run(tmp_path / "whole")).cost["lm/computed"] == 0
    continued(configured(tmp_path / "another", *overrides))  # told something else
    assert results(tmp_path / "another")["metrics.jsonl"] != results(tmp_path / "whole")["metrics.jsonl"]


# ---- learners and worlds that cannot ---------------------------------------------------------------------------------


def test_a_learner_that_keeps_weights_alone_starts_over(configured: Callable[..., DictConfig], tmp_path: Path) -> None:
    overrides = ["learner=forgetful", *CORRIDOR]
    with stopped_at("tick", 20):
        llmrl.train(configured(tmp_path / "stopped", *overrides))
    (told, *others) = continued(configured(tmp_path / "stopped", *overrides))
    assert "checkpoints/72 holds weights alone: the learner has no `save`" in told
    assert not any("goes on" in other for other in others)
    continued(configured(tmp_path / "whole", *overrides))
    assert results(tmp_path / "stopped") == results(tmp_path / "whole")
    assert "resumed" not in RunInfo(the_run(tmp_path / "stopped")).provenance


def test_a_world_that_does_not_replay_is_named_and_the_rest_holds(
    configured: Callable[..., DictConfig], tmp_path: Path
) -> None:
    overrides = ["learner=dqn", "env=restless", *LEARNS, "learner.n_step=3"]
    cfg = configured(tmp_path, *overrides)
    with stopped_at("tick", 20):
        llmrl.train(cfg)
    run = RunInfo(the_run(tmp_path))
    before = list(read_lines(run.path / "episodes.jsonl"))
    running = read_state(run.path / "checkpoints" / "72")["rollout"]
    told = " ".join(continued(cfg))
    (resumed,) = RunInfo(run.path).provenance["resumed"]
    lost = resumed["lost_episodes"]
    assert 0 < lost < 4  # the shorter walk replays
    assert f"world restless does not replay: the same seed, task and actions led elsewhere in {lost} of 4" in told
    assert "will not be byte-identical" in told
    episodes = list(read_lines(run.path / "episodes.jsonl"))
    kept = [e for e in before if e["env_steps"] <= 72]
    assert episodes[: len(kept)] == kept
    numbers = {e: [row["episode"] for row in episodes if row["env"] == e] for e in range(4)}
    missing = {e: set(range(max(found) + 1)) - set(found) for e, found in numbers.items()}
    assert sum(map(len, missing.values())) == lost
    assert all(gone <= {running[e]["episode"]} for e, gone in missing.items())
    assert [row["env_steps"] for row in RunInfo(run.path).metrics] == [0, 48, 96, 120]


# ---- damage ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def half(configured: Callable[..., DictConfig], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stopped between its checkpoints at 72 and at 96 decisions."""
    root = tmp_path_factory.mktemp("half")
    with stopped_at("tick", 21):
        llmrl.train(configured(root, *SMALL))
    assert checkpoint_steps(the_run(root))[-2:] == [48, 72]
    return root


def flipped(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-3])


DAMAGE = [
    *((f"checkpoints/72/{name}", harm) for name in ("weights.safetensors", "state.json", "arrays.safetensors", MANIFEST)
      for harm in (flipped, cut, Path.unlink)),
    ("features/texts.jsonl", cut),
    ("features/rows.f32", cut),
]  # fmt: skip


@pytest.mark.parametrize(("name", "harm"), DAMAGE, ids=lambda x: x if isinstance(x, str) else x.__name__)
def test_a_torn_checkpoint_falls_back_to_the_one_before(
    name: str, harm: Callable[[Path], None], half: Path, configured: Callable[..., DictConfig], tmp_path: Path,
    whole: Results,
) -> None:  # fmt: skip
    shutil.copytree(half, tmp_path, dirs_exist_ok=True)
    run = the_run(tmp_path)
    harm(run / name)
    passed_over, goes_on = continued(configured(tmp_path, *SMALL))
    assert f"a checkpoint was passed over: {run / 'checkpoints' / '72'}: " in passed_over
    assert (Path(name).name in passed_over) == name.startswith("checkpoints")
    assert goes_on == f"{run} resumes from its checkpoint at 48 decisions"
    assert "passed over" in (run / "log.txt").read_text()
    assert results(tmp_path) == whole


@pytest.mark.parametrize("log", ["metrics.jsonl", "episodes.jsonl", "timing.jsonl"])
def test_a_run_with_logs_that_somebody_else_wrote_to_begins_anew_and_keeps_them(
    log: str, half: Path, configured: Callable[..., DictConfig], tmp_path: Path, whole: Results
) -> None:
    shutil.copytree(half, tmp_path, dirs_exist_ok=True)
    file = the_run(tmp_path) / log
    file.write_bytes(b"{}\n" + file.read_bytes())
    before = {p.relative_to(file.parent): p.read_bytes() for p in file.parent.rglob("*.*") if p.is_file()}
    *passed_over, kept = continued(configured(tmp_path, *SMALL))
    assert len(passed_over) == len(checkpoint_steps(the_run(half)))
    assert all("the run's logs are not those that belong to it" in text for text in passed_over)
    aside = the_run(tmp_path).with_name(f"{the_run(tmp_path).name}.aside-1")
    assert str(aside) in kept
    after = {p.relative_to(aside): p.read_bytes() for p in aside.rglob("*.*") if p.is_file()}
    assert {p: data for p, data in after.items() if p.name != "log.txt"} == {
        p: data for p, data in before.items() if p.name != "log.txt"
    }
    assert results(tmp_path) == whole


def test_a_finished_run_that_lost_its_summary_is_kept(
    configured: Callable[..., DictConfig], tmp_path: Path, whole: Results
) -> None:
    cfg = configured(tmp_path, *SMALL)
    continued(cfg)
    run = the_run(tmp_path)
    metrics = (run / "metrics.jsonl").read_bytes()
    (run / "summary.json").unlink()
    assert "is set aside" in continued(cfg)[-1]
    aside = run.with_name(f"{run.name}.aside-1")
    assert (aside / "metrics.jsonl").read_bytes() == metrics
    assert list(aside.glob("checkpoints/*/weights.safetensors"))
    assert results(tmp_path) == whole


def test_what_was_being_written_is_cleared_away(
    half: Path, configured: Callable[..., DictConfig], tmp_path: Path, whole: Results
) -> None:
    shutil.copytree(half, tmp_path, dirs_exist_ok=True)
    run = the_run(tmp_path)
    (run / ".cost.json.77.tmp").write_text("{")
    (run / "checkpoints" / ".96.77.tmp").mkdir()
    (run / "checkpoints" / ".96.77.tmp" / "state.json").write_text("{")
    (run / "checkpoints" / "72").rename(run / "checkpoints" / ".72.77.old")  # it was being replaced
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"env_steps":')
    assert len(continued(configured(tmp_path, *SMALL))) == 1
    assert results(tmp_path) == whole
    assert not [p for p in run.rglob(".*") if p.name != ".lock"]


# ---- other conditions ------------------------------------------------------------------------------------------------

OTHER = {
    "settings.learner.alpha": (9.0, False),
    "settings.rollout.num_envs": (5, False),
    "settings.numerics": (1, True),
    "machine.cpu_capability": ("NO SUCH", True),
    "machine.device": ("a card", True),
    "machine.threads": (3, True),
    "machine.packages.numpy": ("0.1", True),
}  # value, whether it is drift


def contents(root: Path) -> dict[Path, bytes]:
    return {p: p.read_bytes() for p in root.rglob("*") if p.is_file() and p.name != ".lock"}


@pytest.mark.parametrize("key", OTHER)
def test_a_checkpoint_of_other_conditions_is_refused_and_nothing_is_touched(
    key: str, half: Path, configured: Callable[..., DictConfig], tmp_path: Path
) -> None:
    shutil.copytree(half, tmp_path, dirs_exist_ok=True)
    value, is_drift = OTHER[key]
    before = change(the_run(tmp_path) / "checkpoints" / "72", **{key: value})[key]
    kept = contents(tmp_path)
    cfg = configured(tmp_path, *SMALL)
    for allowed in (False,) if is_drift else (False, True):
        with pytest.raises(CannotResume, match="--fresh") as refused:
            llmrl.train(cfg, allow_drift=allowed)
        assert f"({key.partition('.')[2]}: {value} then, {before} now)" in str(refused.value)
        assert ("--allow-drift" in str(refused.value)) == is_drift
        assert contents(tmp_path) == kept
    if is_drift:
        continued(cfg, allow_drift=True)
        (resumed,) = RunInfo(the_run(tmp_path)).provenance["resumed"]
        assert resumed["drift"] == {key.partition(".")[2]: [value, before]}
        assert resumed["env_steps"] == 72


def test_all_that_differs_is_named(half: Path, configured: Callable[..., DictConfig], tmp_path: Path) -> None:
    shutil.copytree(half, tmp_path, dirs_exist_ok=True)
    change(the_run(tmp_path) / "checkpoints" / "72", **{"settings.numerics": 1, "machine.threads": 3})
    with pytest.raises(CannotResume, match=rf"threads: 3 then, {THREADS} now; numerics: 1 then, \d+ now"):
        llmrl.train(configured(tmp_path, *SMALL))


def test_a_run_that_was_refused_can_still_go_on_where_it_was_begun(
    half: Path, configured: Callable[..., DictConfig], tmp_path: Path, whole: Results
) -> None:
    shutil.copytree(half, tmp_path, dirs_exist_ok=True)
    checkpoint = the_run(tmp_path) / "checkpoints" / "72"
    before = change(checkpoint, **{"machine.device": "a card"})
    with pytest.raises(CannotResume):
        llmrl.train(configured(tmp_path, *SMALL))
    change(checkpoint, **before)
    continued(configured(tmp_path, *SMALL))
    assert results(tmp_path) == whole


# ---- finished, and anew ----------------------------------------------------------------------------------------------


def test_fresh_starts_anew_and_keeps_the_old_folder(
    half: Path, configured: Callable[..., DictConfig], tmp_path: Path, whole: Results
) -> None:
    shutil.copytree(half, tmp_path, dirs_exist_ok=True)
    run = the_run(tmp_path)
    old = {p.relative_to(run): data for p, data in contents(run).items()}
    cfg = configured(tmp_path, *SMALL)
    aside = run.with_name(f"{run.name}.aside-1")
    assert continued(cfg, fresh=True) == [f"the old folder is set aside as {aside}"]
    assert {p.relative_to(aside): data for p, data in contents(aside).items()} == old
    assert results(tmp_path) == whole
    assert continued(cfg) == [text for text in continued(cfg) if "is complete: nothing to compute" in text]
    second = aside.with_name(f"{run.name}.aside-2")
    assert continued(cfg, fresh=True) == [f"the old folder is set aside as {second}"]  # a finished one, too
    assert results(tmp_path) == whole
    assert (second / "summary.json").read_bytes() == whole["summary.json"]
