from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import pytest

from llmrl import doctor


def found(runs: Path) -> dict[str, doctor.Finding]:
    return {finding.what: finding for finding in doctor.findings(runs)}


def test_this_installation_is_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMRL_CACHE", str(tmp_path / "kept.sqlite3"))
    findings = found(tmp_path / "runs")
    assert [f for f in findings.values() if f.status == "broken"] == []
    assert "nothing kept yet" in findings["answer cache"].text
    assert "0 runs" in findings["run folder"].text
    assert "as its card.json says" in findings["model tiny-1"].text
    assert not (tmp_path / "runs").exists()  # looking changes nothing
    (tmp_path / "kept.sqlite3").write_bytes(b"x" * 2_500_000)
    assert "2.5 MB" in found(tmp_path)["answer cache"].text


def test_weights_that_changed_are_found(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "card.json").write_text(json.dumps({"sha256": sha256(b"weights").hexdigest()}))
    assert doctor._verify(tmp_path).status == "ok"
    (tmp_path / "model.safetensors").write_bytes(b"Weights")
    assert doctor._verify(tmp_path).status == "broken"


def test_a_missing_package_and_a_check_that_raises_are_findings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("llmrl.run.versions.PACKAGES", ("numpy", "no-such-package"))
    monkeypatch.setattr(doctor, "_configs", lambda: 1 / 0)
    findings = found(tmp_path)
    assert findings["packages"] == ("packages", "broken", "missing: no-such-package; pip install no-such-package")
    assert findings["configs"].status == "broken"
    assert "run folder" in findings  # and it went on
