"""What is taken apart comes together; nothing is downloaded here."""

from __future__ import annotations

import json
import tarfile
import zipfile
from pathlib import Path

import pytest

from scripts.gpu_kit import MANIFEST, _without, split, unpack


@pytest.fixture
def kit(tmp_path: Path) -> Path:
    """Two packages, in parts of 500 bytes."""
    for name in ("alpha", "beta"):
        with zipfile.ZipFile(tmp_path / f"{name}-1-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"{name}/__init__.py", f"NAME = {name!r}  # {'x' * 700}\n")
            wheel.writestr(f"{name}/kernel.so", "k" * 700)
    _without(tmp_path / "beta-1-py3-none-any.whl", ["beta/kernel.so"])
    with tarfile.open(tmp_path / "wheels.tar", "w") as tar:
        for wheel in tmp_path.glob("*.whl"):
            tar.add(wheel, wheel.name)
    kit = tmp_path / "kit"
    kit.mkdir()
    (kit / MANIFEST).write_text(json.dumps({"parts": split(tmp_path / "wheels.tar", kit, size=500)}))
    return kit


def test_a_kit_is_unpacked_as_it_was_and_only_once(kit: Path) -> None:
    assert len(list(kit.glob("part-*"))) > 3
    assert max(part.stat().st_size for part in kit.glob("part-*")) <= 500
    site = unpack(kit)
    found = {str(file.relative_to(site)) for file in site.rglob("*.*") if file.name != ".whole"}
    assert found == {"alpha/__init__.py", "alpha/kernel.so", "beta/__init__.py"}
    for part in kit.glob("part-*"):
        part.unlink()
    assert unpack(kit) == site


@pytest.mark.parametrize("fault", ["missing", "damaged"])
def test_a_part_that_was_lost_is_named(kit: Path, fault: str) -> None:
    part = kit / "part-001"
    if fault == "missing":
        part.unlink()
    else:
        part.write_bytes(part.read_bytes()[:-1])
    with pytest.raises(SystemExit, match=f"part-001 is {fault}"):
        unpack(kit)
