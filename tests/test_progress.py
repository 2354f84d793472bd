from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from llmrl.report.numbers import duration, evaluation_line
from llmrl.report.progress import Live, Plain, Progress, Silent, Speaker, UnderWay, reporter

ROW = {
    "env_steps": 123_250,
    "eval/success": 0.4333,
    "eval/return": -0.625,
    "eval/length": 31.23,
    "eval_greedy/success": 1.0,
    "train/success": None,
}
SUMMARY = {
    "status": "complete",
    "env_steps": 4000,
    "eval": {"success": 0.5, "return": 0.3, "length": 31.2},
    "eval_greedy": {"success": 1.0, "return": 1.31, "length": 10.0},
    "lm": {"queries": 12_345, "distinct_prompts": 456, "parse_failures": 3, "ambiguous": 1},
}
COST = {"lm/computed": 456, "lm/cache_hits": 3_456_789, "seconds": 3723.4}
NAME = "overcooked_salad-dqn_prior_paper-generated-s19-1a2b3c4d"


def at(steps: int, total_asked: int = 10**9) -> Progress:
    return Progress(steps, steps // 30, 1.0, 1.0, total_asked, total_asked, total_asked, 1234.5)


def console(width: int = 80, terminal: bool = False) -> Console:
    return Console(width=width, file=io.StringIO(), force_terminal=terminal, color_system=None)


def text(of: Console) -> str:
    assert isinstance(of.file, io.StringIO)
    return of.file.getvalue()


def test_plain_prints_a_line_for_each_evaluation_and_the_end() -> None:
    out = console()
    plain = Plain(out)
    plain.begin(NAME, Path("runs") / NAME, 4000)
    for steps in range(0, 4001, 8):
        plain.progress(at(steps))
    plain.show_evaluation(ROW)
    plain.note("[bold]as it is[/bold]")
    path = Path("runs") / NAME / ("x" * 40) / "curve.png"
    plain.done(SUMMARY, COST, [path])
    lines = text(out).splitlines()
    assert lines[0] == f"{NAME}: 4,000 decisions"
    assert lines[1] == "123,250 decisions  success  43% (greedy 100%)  return  -0.62  length  31.2"
    assert lines[2] == "[bold]as it is[/bold]"
    assert lines[-1] == str(path)  # on one line, however long, so that it can be copied
    for shown in ("complete after 4,000 decisions", "50%", "100%", "12.3k states", "1:02:03"):
        assert shown in text(out)
    assert "3 not understood (1 ambiguous)" in " ".join(text(out).split())
    assert all(len(line.rstrip()) <= 80 for line in lines[:-1])


def test_what_was_not_measured_is_a_dash() -> None:
    assert "success    -" in evaluation_line({"env_steps": 0})


def test_a_run_without_a_model_says_nothing_of_one() -> None:
    out = console()
    Plain(out).done({**SUMMARY, "lm": {"queries": 0}, "eval_greedy": {}}, {"seconds": 3}, [])
    assert "asked" not in text(out)
    assert "greedy" not in text(out)


@pytest.mark.parametrize("steps", [0, 4_000, 987_654, 1_000_000])
def test_the_bar_fits_into_80_columns(steps: int) -> None:
    out = console(terminal=True)
    live = Live(out)
    live.begin(NAME, Path("runs") / NAME, 1_000_000)
    live.progress(at(steps))
    live.close()
    shown = console()
    shown.print(live._bar(at(steps)))
    lines = text(shown).splitlines()
    assert len(lines) == 2
    assert f"{steps:,}/1,000,000 decisions" in lines[0]
    assert lines[1].rstrip().endswith("kept")
    assert lines[1] in text(out)


def test_a_tick_redraws_at_most_ten_times_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    live = Live(console(terminal=True), lambda: clock[0])
    drawn = []
    monkeypatch.setattr(live, "_bar", lambda p: drawn.append(p.env_steps) or "")
    live.begin(NAME, Path("runs"), 1000)
    for step in range(1000):
        clock[0] = step / 1000
        live.progress(at(step))
    live.progress(at(1000))
    live.close()
    assert drawn[0] == 0
    assert drawn[-1] == 1000  # the end is always shown
    assert 9 <= len(drawn) <= 12


def test_the_reporter_suits_the_output(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert isinstance(reporter(show_bar=True), Live)
    assert not isinstance(reporter(show_bar=False), Live)
    monkeypatch.setattr("sys.stdout.isatty", lambda: False, raising=False)
    assert not isinstance(reporter(show_bar=True), Live)


def test_silent_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    silent = Silent()
    silent.begin(NAME, Path(), 1)
    silent.progress(at(1))
    silent.show_evaluation(ROW)
    silent.note("x")
    silent.done(SUMMARY, COST, [Path("x")])
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("seconds", "shown"), [(0.4, "0:00"), (65, "1:05"), (3599.6, "1:00:00"), (7265, "2:01:05")])
def test_durations(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


# ---- where something takes long --------------------------------------------------------------------------------------


def test_what_takes_long_is_told_after_two_seconds_and_then_every_ten() -> None:
    out, clock = console(), [0.0]
    plain = Plain(out, lambda: clock[0])
    plain.note("begun")
    for second in range(41):
        clock[0] = float(second)
        plain.doing("prompts asked of slow", 8 * second, 869)
        plain.speak_up()
    assert [line.strip() for line in text(out).splitlines()] == [
        "begun",
        "16 of 869 prompts asked of slow in 0:02, 1:47 left",
        "96 of 869 prompts asked of slow in 0:12, 1:37 left",
        "176 of 869 prompts asked of slow in 0:22, 1:27 left",
        "256 of 869 prompts asked of slow in 0:32, 1:17 left",
    ]
    plain.doing("prompts asked of slow", 869, 869)
    clock[0] = 99.0
    plain.speak_up()
    assert len(text(out).splitlines()) == 5  # nothing is under way


def test_each_thing_has_a_first_word_and_short_ones_have_none() -> None:
    clock, said = [0.0], []
    speaker = Speaker(said.append, lambda: clock[0])

    def evaluate(seconds: int) -> None:
        speaker.doing("episodes", 0, 30)
        for _ in range(4 * seconds):
            clock[0] += 0.25
            speaker.speak_up()
        speaker.doing("episodes", 30, 30)
        speaker.note("evaluated")

    for _ in range(20):
        evaluate(1)
    assert said == ["evaluated"] * 20
    said.clear()
    evaluate(3)
    evaluate(9)  # told of before: not within ten seconds of the last word
    assert said == ["0 of 30 episodes in 0:02", "evaluated", "evaluated"]
    said.clear()
    speaker.forget()
    evaluate(3)
    assert said == ["0 of 30 episodes in 0:02", "evaluated"]


def test_the_time_left_goes_by_what_was_done_since_it_was_begun() -> None:
    clock = [0.0]
    under_way = UnderWay(lambda: clock[0])
    under_way.update("decisions", 3000, 4000)  # a run that goes on
    under_way.update("episodes evaluated", 0, 30)
    assert under_way.text(least=1.0) == ""
    clock[0] = 10.0
    under_way.update("decisions", 3100, 4000)
    assert under_way.text() == "3,100 of 4,000 decisions in 0:10, 1:30 left; 0 of 30 episodes evaluated in 0:10"


@pytest.mark.parametrize("width", [40, 80])
def test_a_bar_that_stands_still_says_why(width: int) -> None:
    out, clock = console(width, terminal=True), [0.0]
    live = Live(out, lambda: clock[0])
    live.begin(NAME, Path("runs"), 1000)
    live.doing("prompts asked of slow", 64, 869)
    clock[0] = 0.5
    live.doing("prompts asked of slow", 128, 869)
    assert "prompts" not in text(out)  # a moment is no reason to speak
    clock[0] = 2.0
    live.speak_up()
    live.close()
    assert "128 of 869 prompts asked of slow in 0:02, 0:23 left" in " ".join(text(out).split())
