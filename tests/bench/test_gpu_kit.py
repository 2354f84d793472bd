"""What is taken apart comes together; nothing is downloaded here."""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path

import pytest

from scripts.gpu_kit import MANIFEST, pack, unpack

ANSWERS = """
import alpha, gpu_kit
from importlib.metadata import entry_points
(plugin,) = entry_points(group="vllm.general_plugins", name="named_tokens")
print(alpha.NAME, plugin.load() is gpu_kit.named_tokens)
"""


@pytest.fixture
def kit(tmp_path: Path) -> Path:
    """A package, in parts of 500 bytes."""
    package, kit = tmp_path / "packages" / "alpha", tmp_path / "kit"
    package.mkdir(parents=True)
    kit.mkdir()
    (package / "__init__.py").write_text("NAME = 'alpha'\n")
    (package / "kernel.so").write_bytes(random.Random(0).randbytes(1500))
    (kit / MANIFEST).write_text(json.dumps({"parts": pack(package.parent, kit, size=500)}))
    return kit


def test_a_kit_is_unpacked_as_it_was_and_only_once(kit: Path) -> None:
    assert len(list(kit.glob("part-*"))) > 3
    assert max(part.stat().st_size for part in kit.glob("part-*")) <= 500
    site = unpack(kit)
    assert (site / "alpha" / "kernel.so").read_bytes() == random.Random(0).randbytes(1500)
    told = subprocess.run([kit / "bin" / "python", "-c", ANSWERS], capture_output=True, text=True, check=True)
    assert told.stdout == "alpha True\n"
    (site / ".whole").unlink()  # as where it was cut short
    assert unpack(kit) == site
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
