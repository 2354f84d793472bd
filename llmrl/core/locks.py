"""Files that one process holds at a time.

By flock: the kernel lets go of a file when its process ends, however that is, and a file may be opened and closed once
more by who holds it. No child of ours inherits a lock: workers are spawned, not forked. On NFS, Linux passes these
locks to the server.

The library filelock has one such lock, and is not used: many of its versions empty the file they lock, which here is a
data file or says who holds it; and who may only read a folder cannot ask it whether a file is held.
"""

from __future__ import annotations

import errno
import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


def held(file: IO[Any]) -> bool:
    """Takes the lock of this open file until it is closed. Returns False where another holder has it.

    Raises OSError where the file system has no locks.
    """
    return _flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def holding(path: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Holds `path`, an empty file that is made where there is none; waits until it can, and says so by `waiting`."""
    with path.open("ab") as file:
        if not held(file):
            waiting()
            _flock(file, fcntl.LOCK_EX)
        yield


def is_held(path: Path) -> bool:
    """Whether some process, or this one, holds the file. The check itself holds it for a moment."""
    try:
        with path.open("rb") as file:
            return not _flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True


def _flock(file: IO[Any], how: int) -> bool:
    try:
        fcntl.flock(file, how)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP):
            raise OSError(
                error.errno, "its file system has no locks: use a local disk, or mount it with them", file.name
            ) from None
        raise
    return True
