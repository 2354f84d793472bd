"""Translated problems, kept on disk. The first reset of a game spends its time on translation, which is then done once.

One file per problem lies in the user's cache folder. Its name is a hash of the problem and of the translator. Where the
file or the folder is damaged, the problem is translated again: no result depends on these files.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import platformdirs


def load_packed(parts: Sequence[str], make: Callable[[], bytes]) -> bytes:
    """`make()` as zlib packs it, or what that gave before for the same parts.

    `parts`: everything that it is made from, and the versions of what makes it.
    """
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()
    file = Path(platformdirs.user_cache_dir("llmrl")) / "alfworld" / digest[:2] / f"{digest}.z"
    with suppress(OSError, zlib.error):
        found = file.read_bytes()
        zlib.decompress(found)  # its checksum tells a file that was cut off or changed
        return found
    made = zlib.compress(make(), level=3)
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    with suppress(OSError):  # a full disk, or a folder that cannot be written
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(made)
            os.replace(temporary, file)
        finally:
            temporary.unlink(missing_ok=True)
    return made
