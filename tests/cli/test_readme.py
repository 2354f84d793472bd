"""The lines of README.md, and those of the tutorial, typed in the order in which they are read, in one folder each."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent.parent
PAGES = {
    "README.md": {"train", "compare", "play", "configs"},
    "docs/tutorial.md": {"train", "runs", "plot", "compare", "play", "cache", "evaluate"},
}  # and some of the commands that each shows
BUILDS = ("make ", "PIP_")  # lines that build an environment, and are left out
REAL = re.compile(r"models get|lm=smollm2")  # these need a download: tests/real types them
CUT = {r"env_steps=(\d+)": lambda n: f"env_steps={max(int(n) // 25, 8)}", r"range\(0,\d\)": lambda _: "range(0,1)",
    r"range\(0,\d\d\)": lambda _: "range(0,2)",
       r"env\.count=\d+": lambda _: "env.count=2"}  # fmt: skip
SMALL = [
    "evaluation.episodes=2",
    "evaluation.exact_up_to=0",
    "env_steps=16",
    "env.max_decisions=6",
]  # of runs that do not say
TASK = "env=overcooked_random env.split=dev env.index=3"
ONE_TRIAL = ["--trials", "1", "--task", TASK, "--seed", "0", "env_steps=16"]
MORE = {
    "tune": ONE_TRIAL,
    "train": SMALL,
    "play": ["--steps", "2"],
    "evaluate": ["--episodes", "1"],
    "compare": ["--allow-dirty"],
}


def lines(page: str) -> Iterator[str]:
    for block in re.findall(r"^```sh\n(.*?)^```", (REPOSITORY / page).read_text(), re.M | re.S):
        yield from (line for line in block.splitlines() if not line.startswith(BUILDS) and not REAL.search(line))


def words(line: str, folder: Path) -> list[str]:
    """What a shell makes of a line, and of it what makes it short."""
    script = f"llmrl() {{ printf '%s\\0' \"$@\"; }}\n{line}"
    typed = subprocess.run(["sh", "-c", script], cwd=folder, capture_output=True, text=True, check=True).stdout
    found = typed.split("\0")[:-1]
    for pattern, shorter in CUT.items():
        found = [re.sub(pattern, lambda m, s=shorter: s(m[1] if m.groups() else ""), word) for word in found]
    if not found:
        return []  # a comment
    keys = {word.partition("=")[0] for word in found}
    return found + [word for word in MORE.get(found[0], []) if word.partition("=")[0] not in keys]


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_every_line_works_after_those_before_it(page: str, tmp_path: Path) -> None:
    environ = {
        "PYTHONPATH": str(REPOSITORY), "LLMRL_CACHE": str(tmp_path / "kept.sqlite3"), "OMP_NUM_THREADS": "1",
        "COLUMNS": "80", "NO_COLOR": "1", "TERM": "dumb",
    }  # fmt: skip
    command = [sys.executable, str(Path(__file__).with_name("prefork.py"))]
    typed: list[str] = []
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | environ
    ) as forks:
        assert forks.stdin is not None
        assert forks.stdout is not None
        for line in lines(page):
            arguments = words(line, tmp_path)
            if not arguments:
                continue
            out, err = tmp_path / "out", tmp_path / "err"
            request = {"arguments": arguments, "folder": str(tmp_path), "environ": environ, "before": ""}
            forks.stdin.write(json.dumps(request | {"out": str(out), "err": str(err)}) + "\n")
            forks.stdin.flush()
            code = int(forks.stdout.readline())
            assert code == 0, f"{line}\nas {arguments}\n{out.read_text()}{err.read_text()}"
            typed.append(arguments[0])
    assert set(typed) >= PAGES[page]
    assert not typed.count("plot") or (tmp_path / "curve.png").stat().st_size > 5000
