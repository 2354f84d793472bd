"""Runs as one file: what is packed, that another machine writes the same bytes, and what is refused."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from llmrl.core.overrides import ConfigError
from llmrl.reproduce import export_paper, plan, reproduce
from llmrl.studies.paper import find_paper
from llmrl.studies.parcel import MANIFEST, unpack, verify

STUDY = {
    "seeds": 1,
    "tables": {"": "random"},
    "common": ["env=overcooked_tomato", "env_steps=16", "evaluation.every=8", "env.max_decisions=6"],
    "arms": {"random": ["learner=random"], "prior": ["learner=prior_only"]},
}


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("LLMRL_CACHE", str(folder / "mine.sqlite3"))
        patch.setattr("llmrl.run.provenance.git_state", lambda: {"commit": "a" * 40, "dirty": False})
        Path("small.yaml").write_text(yaml.safe_dump(STUDY))
        paper = find_paper("small.yaml")
        assert reproduce(paper, plan(paper, Path("runs")), Path("runs"), 1, print) == []
        assert "2 runs" in export_paper(paper, Path("runs"), Path("small.zip"), print)
        with pytest.raises(ConfigError, match="it exists and is left as it is"):
            export_paper(paper, Path("runs"), Path("small.zip"), print)
    return folder / "small.zip"


@pytest.fixture
def parcel(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file on another machine."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LLMRL_CACHE", str(tmp_path / "elsewhere" / "theirs.sqlite3"))
    return Path(shutil.copy(packed, tmp_path))


def changed(parcel: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """The parcel with other members; the manifest is as it was unless `change` makes it another."""
    with zipfile.ZipFile(parcel) as old:
        members = {name: old.read(name) for name in old.namelist()}
    change(members)
    out = parcel.with_name("changed.zip")
    with zipfile.ZipFile(out, "w") as new:
        for name, data in members.items():
            new.writestr(name, data)
    return out


def a_run(members: dict[str, bytes], file: str, of: str = "random") -> str:
    return next(name for name in members if name.endswith(file) and f"-{of}" in name)


def resealed(members: dict[str, bytes], name: str, data: bytes) -> None:
    from hashlib import sha256

    members[name] = data
    manifest = json.loads(members[MANIFEST])
    manifest["files"][name] = sha256(data).hexdigest()
    members[MANIFEST] = json.dumps(manifest).encode()


@pytest.mark.slow
def test_another_machine_writes_the_same_bytes(parcel: Path) -> None:
    """The answers come from the file, and this machine's own are neither used nor added to."""
    assert [(v.agree, v.why) for v in verify(parcel)] == [(True, "")] * 2
    assert [v.name.split("-")[1] for v in verify(parcel, ["prior_only"])] == ["prior_only"]
    assert not Path("elsewhere").exists()
    with zipfile.ZipFile(parcel) as file:
        assert {"report.html", "answers.sqlite3", MANIFEST} < set(file.namelist())


def test_a_run_that_was_made_up_differs(parcel: Path) -> None:
    def better(members: dict[str, bytes]) -> None:
        name = a_run(members, "metrics.jsonl")
        lines = members[name].splitlines(keepends=True)
        row = json.loads(lines[-1])
        row["eval/success"] = 1.0
        resealed(members, name, b"".join([*lines[:-1], json.dumps(row).encode() + b"\n"]))

    verdicts = {v.name.split("-")[1]: (v.agree, v.why) for v in verify(changed(parcel, better))}
    assert verdicts == {"random": (False, "metrics.jsonl"), "prior_only": (True, "")}


@pytest.mark.parametrize(
    ("part", "target", "agree"),
    [
        ("learner", "os.system", None),
        ("env", "llmrl.lm.serve.os.system", None),
        ("prior", "x.Y", None),
        ("lm", "llmrl.core.files.publish", True),  # this run asks no model, so that nothing reads it
    ],
)
def test_code_of_somebody_else_is_not_run(parcel: Path, part: str, target: str, agree: bool | None) -> None:
    def attack(members: dict[str, bytes]) -> None:
        name = a_run(members, "config.yaml")
        config = yaml.safe_load(members[name])
        own = {"_target_": target, "name": "mine" if part == "prior" else "random"}
        config[part] = config[part] | own | {"source": "own"} if part == "prior" else own | {"command": "touch trace"}
        if part == "prior":
            config["learner"]["priors"] = ["mine"]  # else the learner refuses it before its code is asked for
        resealed(members, name, yaml.safe_dump(config).encode())

    (verdict,) = verify(changed(parcel, attack), ["-random-"])
    assert verdict.agree is agree
    assert agree or f"{part} names code" in verdict.why
    assert not Path("trace").exists()


def test_a_config_that_refers_to_itself_hides_no_code(parcel: Path) -> None:
    def attack(members: dict[str, bytes]) -> None:
        name = a_run(members, "config.yaml")
        config = yaml.safe_load(members[name])
        config["prior"] |= {"settings": {"_target_": "os.system", "name": "random", "command": "touch trace"}}
        config["learner"] = "${prior.settings}"
        resealed(members, name, yaml.safe_dump(config).encode())

    (verdict,) = verify(changed(parcel, attack), ["-random-"])
    assert verdict.agree is None
    assert not Path("trace").exists()


def flip(members: dict[str, bytes]) -> None:
    name = a_run(members, "metrics.jsonl")
    members[name] = members[name].replace(b"1", b"2", 1)


def climb(members: dict[str, bytes]) -> None:
    resealed(members, "../outside.txt", b"x")


def add(members: dict[str, bytes]) -> None:
    resealed(members, "runs/small/a/run.py", b"x")


def lose(members: dict[str, bytes]) -> None:
    del members[a_run(members, "metrics.jsonl")]


def strip(members: dict[str, bytes]) -> None:
    members[MANIFEST] = b"[]"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (flip, "differs from its manifest; it was changed"),
        (climb, "it holds ../outside.txt, which no export has"),
        (add, "it holds runs/small/a/run.py, which no export has"),
        (lose, "files are missing in it"),
        (strip, "this is no export"),
    ],
)
def test_a_file_that_was_changed_is_refused(
    parcel: Path, change: Callable[[dict[str, bytes]], None], said: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=said):
        unpack(changed(parcel, change), tmp_path / "there")
    assert not (tmp_path / "outside.txt").exists()


@pytest.mark.parametrize("data", [b"", b"no zip", b"PK\x03\x04 torn"])
def test_what_is_no_export_is_named(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(ConfigError, match=r"a\.zip: it cannot be read as a ZIP file"):
        unpack(tmp_path / "a.zip", tmp_path / "there")
