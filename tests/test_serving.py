"""Whole runs against a server that fails: what it costs is time, never a result."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fixture_lm import build_llama
from own_time import OwnTime
from small_server import ModelBackend, SmallServer
from typer.testing import CliRunner, Result

import llmrl
from llmrl.cli.main import app
from llmrl.config.compose import ConfigError, compose
from llmrl.lm.http import connection
from llmrl.lm.transformers_lm import TransformersLM
from llmrl.report import plots
from llmrl.run.checkpoint import checkpoint_steps
from llmrl.run.folder import Paused, read_object
from llmrl.run.load import RunInfo, load_runs

GOLDEN_LM = Path(__file__).parent / "golden" / "lm"
RUN = [
    "env=overcooked_tomato", "env.max_decisions=12", "env_steps=48", "rollout.num_envs=4", "evaluation.every=24",
    "evaluation.episodes=2", "evaluation.exact_up_to=0", "checkpoint_every=8", "progress=false", "lm=vllm",
    f"lm.model={GOLDEN_LM}", "lm.dtype=float32", "learner.learning_starts=20", "learner.batch=8",
    "learner.hidden=[16]", "encoder.dim=16",
]  # fmt: skip
PRIORS = {"sampled": ["prior=sampled"], "generated": ["prior=generated", "prior.behaviour.redraw=visit"]}
FILES = ("metrics.jsonl", "episodes.jsonl", "summary.json", "checkpoints/48/weights.safetensors")


@pytest.fixture(scope="module", autouse=True)
def _undrawn() -> Iterator[None]:
    """The pictures, which take longer than most of these runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "run_curve", lambda path: None)
        yield


@pytest.fixture(scope="module")
def lm() -> TransformersLM:
    return TransformersLM(str(GOLDEN_LM), device="cpu")


@pytest.fixture(scope="module")
def backend(lm: TransformersLM) -> ModelBackend:
    return ModelBackend(lm)


@pytest.fixture
def server(backend: ModelBackend) -> Iterator[SmallServer]:
    with SmallServer(backend) as server:
        yield server


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> OwnTime:
    time = OwnTime()
    monkeypatch.setattr(connection, "Clock", lambda: time)
    return time


@pytest.fixture(scope="module")
def expected(backend: ModelBackend, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    """What a run comes to whose server never failed."""
    results = {}
    with SmallServer(backend) as server:
        for prior in PRIORS:
            folder = tmp_path_factory.mktemp(prior)
            assert trained(folder, server, PRIORS[prior])["status"] == "complete"
            results[prior] = files(folder)
    return results


def trained(folder: Path, server: SmallServer, more: list[str]) -> dict[str, Any]:
    places = [f"paths.runs={folder / 'runs'}", f"paths.cache={folder / 'kept.sqlite3'}", f"lm.url={server.url}"]
    return llmrl.train(compose([*RUN, *more, *places]))


def run_of(folder: Path) -> RunInfo:
    (run,) = load_runs(folder / "runs")
    return run


def files(folder: Path) -> dict[str, bytes]:
    return {name: (run_of(folder).path / name).read_bytes() for name in FILES}


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.slow
def test_a_server_that_fails_in_every_way_and_is_down_for_a_minute_changes_no_byte(
    server: SmallServer, time: OwnTime, expected: dict[str, dict[str, bytes]], tmp_path: Path, prior: str
) -> None:
    server.on_stall = time.expire
    down_since: list[float] = []

    def on_wait(now: float) -> None:
        if not down_since:
            server.stop()
            down_since.append(now)
        elif server._http is None and now >= down_since[0] + 60:
            server.start()

    time.on_wait = on_wait
    for n, fault in enumerate(("reset", "429", "malformed", "half", "nan", "no logprobs", "stall", "500", "too few")):
        server.misbehave(fault, times=2, after=n)
    assert trained(tmp_path, server, PRIORS[prior])["status"] == "complete"
    assert files(tmp_path) == expected[prior]
    cost = read_object(run_of(tmp_path).path / "cost.json")
    assert cost["lm/outages"] >= 18 + 3
    assert cost["lm/waited_seconds"] >= 60
    assert sum(server.faulted.values()) == 18
    about = read_object(run_of(tmp_path).path / "provenance.json")["server"]
    assert (about["server"], about["scoring"]) == ("vllm 0.0.small", "trie")


def test_when_patience_ends_the_run_is_paused_and_goes_on_byte_identically(
    server: SmallServer, time: OwnTime, expected: dict[str, dict[str, bytes]], tmp_path: Path
) -> None:
    messages: list[str] = []
    while (message := until_it_ends(tmp_path, server, after=8 + 12 * len(messages))) is not None:
        messages.append(message)
        assert run_of(tmp_path).status == "stopped"
        assert "gave no answer" in (run_of(tmp_path).path / "log.txt").read_text()
        steps = checkpoint_steps(run_of(tmp_path).path)
        assert (f"at its checkpoint at {steps[-1]} decisions" if steps else "at its beginning") in message
    assert len(messages) >= 2
    assert all("gave no answer in 600 s of trying" in message for message in messages)
    assert files(tmp_path) == expected["sampled"]
    assert read_object(run_of(tmp_path).path / "cost.json")["lm/outages"] > 50


def until_it_ends(folder: Path, server: SmallServer, after: int) -> str | None:
    """Trains while the server answers so many questions, and says why it was paused; None where it was done first."""
    server.misbehave("503", times=10**4, after=after)
    try:
        trained(folder, server, PRIORS["sampled"])
    except Paused as error:
        return str(error)
    finally:
        server.behave()
    return None


def test_kept_answers_need_no_server(
    backend: ModelBackend, expected: dict[str, dict[str, bytes]], tmp_path: Path
) -> None:
    with SmallServer(backend) as server:
        trained(tmp_path, server, PRIORS["sampled"])
    (tmp_path / "runs").rename(tmp_path / "earlier")
    trained(tmp_path, server, PRIORS["sampled"])
    assert files(tmp_path) == expected["sampled"]


def test_another_model_is_held_to_the_answers_that_are_kept(
    server: SmallServer, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    trained(tmp_path, server, PRIORS["sampled"])
    other = build_llama(tmp_path_factory.mktemp("other") / "lm", seed=3)
    server.backend = ModelBackend(TransformersLM(other, device="cpu"))
    with pytest.raises(Paused, match="answers as another model than lm did before"):
        trained(tmp_path, server, PRIORS["generated"])


def test_the_command_ends_with_75_says_how_to_go_on_and_shows_no_key(
    server: SmallServer, expected: dict[str, dict[str, bytes]], tmp_path: Path
) -> None:
    places = [f"paths.runs={tmp_path / 'runs'}", f"paths.cache={tmp_path / 'kept.sqlite3'}", f"lm.url={server.url}"]
    command = ["train", *RUN, *PRIORS["sampled"], *places, "lm.api_key_env=THEIR_KEY"]

    def llmrl(*more: str) -> Result:
        return CliRunner(env={"THEIR_KEY": "key-of-theirs-123"}).invoke(app, [*command, *more])

    server.stop()
    away = llmrl("lm.patience_s=0.01")
    assert away.exit_code == 75
    assert "The run is paused at its beginning" in away.stderr
    assert "the same command resumes" in away.stderr
    server.start()
    server.key = "another-key-of-theirs"
    wrong = llmrl()
    assert wrong.exit_code == 75
    assert "put the right one into $THEIR_KEY" in wrong.stderr
    server.key = "key-of-theirs-123"
    right = llmrl()
    assert right.exit_code == 0, right.stderr
    assert files(tmp_path) == expected["sampled"]
    assert read_object(run_of(tmp_path).path / "cost.json")["lm/outages"] >= 2
    assert "key-of-theirs" not in away.output + wrong.output + right.output
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or b"key-of-theirs" not in file.read_bytes()
    assert "waiting for http" in away.stdout
    again = CliRunner().invoke(app, command)
    assert again.exit_code == 0  # what is finished is shown to whoever has no key


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("lm.url=http://10.0.0.7:8000/v1", "lm.allow_http=true"),
        ("lm.url=http://127.0.0.1:eight/v1", "has to be a server's address"),
        ("lm.api_key_env=NO_SUCH_KEY", "export NO_SUCH_KEY"),
        ("lm.api_key_env=SPLIT_KEY", "is no key"),
    ],
)
def test_what_was_typed_wrong_is_said_before_anything_is_made(tmp_path: Path, typed: str, message: str) -> None:
    places = [f"paths.runs={tmp_path / 'runs'}", f"paths.cache={tmp_path / 'kept.sqlite3'}"]
    for command in (["train", *RUN], ["lm", "score", *RUN]):
        wrong = CliRunner(env={"SPLIT_KEY": "one-half-\nother-half"}).invoke(app, [*command, *places, typed])
        assert wrong.exit_code == 2, wrong.output
        assert message in wrong.stderr
        assert "half" not in wrong.output
    assert not list(tmp_path.iterdir())


def test_a_run_of_kept_answers_needs_no_key(server: SmallServer, tmp_path: Path) -> None:
    trained(tmp_path, server, PRIORS["sampled"])
    (tmp_path / "runs").rename(tmp_path / "earlier")
    with pytest.raises(ConfigError, match="export NO_SUCH_KEY"):
        trained(tmp_path, server, [*PRIORS["sampled"], "lm.api_key_env=NO_SUCH_KEY"])
    trained(tmp_path, server, [*PRIORS["sampled"], "lm.api_key_env=NO_SUCH_KEY", "cached_only=true"])


def test_a_model_that_is_replaced_in_the_middle_pauses_the_run(
    server: SmallServer, backend: ModelBackend, time: OwnTime, tmp_path: Path, expected: dict[str, dict[str, bytes]]
) -> None:
    name, asked = backend.name, []

    def replaced(path: str, body: dict[str, Any] | None) -> str:
        asked.append(path)
        if len(asked) > 30:  # when it was found out; never set back: the server answers several connections at once
            backend.name = "another"
        return ""

    server.spoil = replaced
    try:
        with pytest.raises(Paused, match="serves another, and not"):
            trained(tmp_path, server, PRIORS["sampled"])
    finally:
        server.spoil, backend.name = lambda path, body: "", name
    assert not time.waits
    assert trained(tmp_path, server, PRIORS["sampled"])["status"] == "complete"
    assert files(tmp_path) == expected["sampled"]


CHAT = [
    *(typed for typed in RUN if not typed.startswith("lm")), "lm=openai", "lm.model=thinker", "lm.api_key_env=null",
    "prompt=chat", *PRIORS["generated"],
]  # fmt: skip


def test_a_model_that_never_comes_to_its_answer_ends_the_command_and_one_answer_that_is_withheld_does_not(
    server: SmallServer, time: OwnTime, tmp_path: Path
) -> None:
    def instead(path: str, body: dict[str, Any] | None) -> tuple[int, Any] | None:
        if path == "/v1/models":
            return 200, {"data": [{"id": "thinker"}]}
        if path != "/v1/chat/completions" or body is None:
            return 404, {"detail": "Not Found"}
        first = body["messages"][-1]["content"].partition("Actions: ")[2].partition(";")[0]
        message: dict[str, Any] = {"content": first, "reasoning_content": "Okay, so"}
        reason = "content_filter" if body["seed"] % 5 == 0 else "stop"
        if body["max_tokens"] < 100:
            message["content"], reason = None, "length"
        return 200, {"choices": [{"index": 0, "message": message, "finish_reason": reason}]}

    server.instead = instead
    places = [f"paths.runs={tmp_path / 'runs'}", f"paths.cache={tmp_path / 'kept.sqlite3'}", f"lm.url={server.url}"]
    ended = CliRunner().invoke(app, ["train", *CHAT, *places])
    assert ended.exit_code == 2, ended.output
    assert "prior.max_tokens=N" in ended.stderr
    assert "same command resumes" not in ended.stderr
    cost = read_object(run_of(tmp_path).path / "cost.json")
    assert (cost["lm/computed"], cost["lm/outages"], time.waits) == (0, 0, [])
    assert cost["lm/cut_short"] >= 4
    (tmp_path / "runs").rename(tmp_path / "ended")

    results = []
    for name in ("cold", "warm"):
        done = CliRunner().invoke(app, ["train", *CHAT, *places, "prior.max_tokens=100"])
        assert done.exit_code == 0, done.output
        run = run_of(tmp_path).path
        results.append([(run / file).read_bytes() for file in FILES])
        assert (read_object(run / "cost.json").get("lm/filtered", 0) > 0) == (name == "cold")
        assert read_object(run / "summary.json")["lm"]["parse_failures"] > 0
        (tmp_path / "runs").rename(tmp_path / name)
        server.stop()
    assert results[0] == results[1]


@pytest.mark.parametrize("command", ["score", "sample"])
def test_a_model_that_is_asked_directly_thinks_first(server: SmallServer, command: str) -> None:
    settings = [*RUN, f"lm.url={server.url}", "prompt=cot", "prompt.think_tokens=6"]
    server.seen.clear()
    done = CliRunner().invoke(app, ["lm", command, *settings])
    assert done.exit_code == 0, done.output
    (thought,) = (line.removeprefix("thinks: ") for line in done.stdout.splitlines() if line.startswith("thinks: "))
    asked = [body["prompt"] for body in server.seen]
    texts = [text for prompt in asked for text in (prompt if isinstance(prompt, list) else [prompt])]
    assert next(body["max_tokens"] for body in server.seen if "seed" in body) == 6
    assert any(isinstance(text, str) and text.endswith(ast.literal_eval(thought) + "\nNext:") for text in texts)
    assert CliRunner().invoke(app, ["lm", "bench", *settings]).exit_code == 2


def test_a_server_that_says_nothing_is_told_of_again_and_again(time: OwnTime) -> None:
    said: list[str] = []
    silent = connection.Connection("http://127.0.0.1:9/v1")
    silent.say = said.append
    for second in range(0, 101):
        time.time = float(second)
        silent.speak_up(0.0)
    silent._heard_at = 100.0  # one that answers takes its time now and then
    for second in range(101, 131):
        time.time = float(second)
        silent.speak_up(101.0)
    silent.close()
    assert [text.split("for ")[2].split(";")[0] for text in said] == ["2 s", "32 s", "62 s", "92 s", "21 s"]
    clock = r"\d\d:\d\d:\d\d"
    assert re.fullmatch(
        rf"waiting for http://127.0.0.1:9/v1: it has said nothing since {clock}, for 2 s; this attempt ends at "
        rf"{clock} \(lm.attempt_s\), the last at {clock} \(lm.patience_s\)",
        said[0],
    )
