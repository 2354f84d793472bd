"""Processes that end with the one that started them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading

PAUSED = 75  # exit code (EX_TEMPFAIL): what a run needs is out of reach for now


def end_with_parent() -> None:
    """Makes a worker process end with its parent, however the parent ends. A worker calls it."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end, daemon=True).start()


def terminate_with_parent() -> None:
    """On Linux alone: this process is sent SIGTERM when its parent ends."""
    import ctypes

    set_parent_death_signal = 1
    ctypes.CDLL(None).prctl(set_parent_death_signal, int(signal.SIGTERM))
