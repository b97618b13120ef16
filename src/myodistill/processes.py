"""Worker processes that know what their parent knows, and end when it is gone."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from concurrent.futures import ProcessPoolExecutor

from myodistill.plugins import load_plugins, loaded_plugins


def worker_pool(processes: int) -> ProcessPoolExecutor:
    """Return a pool of new processes, in which the loaded plug-ins are loaded, too.

    A killed parent leaves none behind: a pool's own workers would wait for work for good, as each
    holds the other end of the queue that it reads.
    """
    context = multiprocessing.get_context("spawn")
    known = os.getpid(), tuple(loaded_plugins())
    return ProcessPoolExecutor(processes, context, initializer=_begin, initargs=known)


def _begin(parent: int, plugins: tuple[str, ...]) -> None:
    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    load_plugins(plugins)
