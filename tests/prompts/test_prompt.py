from __future__ import annotations

from pathlib import Path

import jinja2
import pytest

from llmrl.config.compose import compose
from llmrl.core.state import TextState
from llmrl.prompts.prompt import Prompt
from llmrl.schema.priors import PromptConfig

GOLDEN = Path(__file__).parent.parent / "golden" / "tomato.parquet"
STATE = TextState(
    "Leave.", "A hall.", ("go north", "wait"), (("A cellar.", "go up"), ("A stair.", "wait"), ("A stair.", "go up"))
)


def prompt(template: str, **more: object) -> Prompt:
    return Prompt(PromptConfig("mine", template, **more))  # type: ignore[arg-type]


def test_the_default_prompt_is_what_it_shows() -> None:
    default = Prompt(compose().prompt)
    assert default.render(STATE) == "Leave.\nA hall.\nNext:"
    default = Prompt(compose(["prompt.history_turns=2"]).prompt)
    assert default.render(TextState("Leave.", "A hall.", ("wait",))) == "Leave.\nA hall.\nNext:"
    assert default.render(STATE) == "Leave.\nBefore: wait; go up.\nA hall.\nNext:"
    assert default.continuations(STATE.actions) == [" go north\n", " wait\n"]


def test_a_template_has_the_task_the_observation_the_actions_and_the_history() -> None:
    text = "{{ task }}|{{ observation }}|{{ actions | join(',') }}|{% for o, a in history %}{{ o }}{{ a }};{% endfor %}"
    assert prompt(text, history_turns=2).render(STATE) == "Leave.|A hall.|go north,wait|A stair.wait;A stair.go up;"


@pytest.mark.parametrize(("turns", "shown"), [(0, ""), (1, "go up"), (2, "wait go up"), (9, "go up wait go up")])
def test_as_much_history_as_asked_for_oldest_first(turns: int, shown: str) -> None:
    template = "{{ history | map('last') | join(' ') }}"
    assert prompt(template, history_turns=turns).render(STATE) == shown
    assert prompt(template, history_turns=1).render(STATE, history_turns=turns) == shown


@pytest.mark.parametrize(
    ("template", "shown"),
    [
        ("{{ history | map('first') | join('+') }}", "A cellar.+A stair.+A stair."),
        ("{{ history | map('last') | map('upper') | join('+') }}", "GO UP+WAIT+GO UP"),
        ("{{ history | map(attribute=1) | join('+') }}", "go up+wait+go up"),
        ("{{ history | map('join', '/') | join('+') }}", "A cellar./go up+A stair./wait+A stair./go up"),
        ("{{ actions | map('last') | join }}", "ht"),
    ],
)
def test_a_history_is_mapped_as_jinja_maps(template: str, shown: str) -> None:
    assert prompt(template, history_turns=3).render(STATE) == shown
    assert jinja2.Template(template).render(history=STATE.history, actions=STATE.actions) == shown


def test_texts_are_rendered_as_they_are() -> None:
    state = TextState('<b> & "quotes" {{ task }}', "x\n", ("wait",))
    assert prompt("{{ task }}{{ observation }}\n").render(state) == '<b> & "quotes" {{ task }}x\n\n'


def test_prefix_and_end_make_an_action_a_continuation() -> None:
    assert prompt("x", prefix=' "', end='"').continuations(["wait"]) == [' "wait"']


def test_a_template_that_does_not_parse_says_where() -> None:
    with pytest.raises(ValueError, match=r"prompt 'mine', line 2 of its template: unexpected '}'"):
        prompt("{{ task }}\n{{ observation }")
    with pytest.raises(ValueError, match=r"prompt 'mine', line 1 .*[Nn]o filter named 'shout'"):
        prompt("{{ task | shout }}")


@pytest.mark.parametrize("template", ["{{ goal }}", "{{ task.goal }}", "{% for g in goals %}{% endfor %}"])
def test_a_template_that_names_something_unknown_says_what_there_is(template: str) -> None:
    with pytest.raises(ValueError, match=r"prompt 'mine'.*goal.*may use task, observation, actions, history"):
        prompt(template).render(STATE)


def test_the_menu_is_shown_to_every_model_that_is_not_embedded() -> None:
    texts = {}
    for typed in (["lm=tiny"], ["lm=tiny-2"], ["lm=hf"], ["lm=vllm"], ["lm=openai"], ["lm=hf", "prompt=plain"]):
        model = [] if "tiny" in typed[0] else ["lm.model=any"]
        cfg = compose([*typed, *model])
        state = TextState("Cook.", "A pan.", ("stir", "wait"), (("A cold pan.", "heat it"),))
        texts[" ".join(typed)] = cfg.prompt.id, Prompt(cfg.prompt).render(state, 1)
    assert [id for id, _ in texts.values()] == ["plain-1", "plain-1", "menu-1", "menu-1", "menu-1", "plain-1"]
    assert texts["lm=hf"][1] == (
        "Task: Cook.\nBefore: A cold pan. Then: heat it.\nNow: A pan.\nChoose one of: stir; wait.\nNext:"
    )
    for learner in ("dqn_prior_paper", "cql_prior_paper"):
        data = [f"data={GOLDEN}"] if learner.startswith("cql") else []
        assert compose([f"learner={learner}", *data]).prompt.id == "menu-1"
        assert compose([f"learner={learner}", *data, "prompt=plain"]).prompt.id == "plain-1"


@pytest.mark.parametrize(
    "attack",
    [
        "{{ cycler.__init__.__globals__.os.popen(command).read() }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ actions.__class__ }}{{ lipsum.__globals__ }}",
        "{% for i in range(1000000000) %}{% endfor %}",
    ],
)
def test_a_template_runs_no_code(attack: str, tmp_path: Path) -> None:
    """It may come with the run of somebody else."""
    trace = tmp_path / "trace"
    with pytest.raises(ValueError, match=r"prompt 'mine'"):
        prompt(attack.replace("command", f"'touch {trace}'")).render(STATE)
    assert not trace.exists()
