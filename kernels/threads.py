"""The items of a CPU kernel spread over torch's number of threads, with the same bits for any number of them.

numba's own parallel layers abort on concurrent calls or break after fork; a plain pool of threads around functions that
release the interpreter's lock does neither. A kernel gets a range of items and may write only what belongs to them.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

_pools: dict[int, ThreadPoolExecutor] = {}


def spread(kernel: Callable[..., None], items: int, *args: Any) -> None:
    """Call `kernel(first, last, *args)` so that the items 0 ... items - 1 are all done when this returns."""
    threads = min(torch.get_num_threads(), items)
    if threads <= 1:
        if items:
            kernel(0, items, *args)
        return
    bounds = [items * i // threads for i in range(threads + 1)]
    jobs = [_pool().submit(kernel, bounds[i], bounds[i + 1], *args) for i in range(1, threads)]
    kernel(0, bounds[1], *args)
    for job in jobs:
        job.result()


def _pool() -> ThreadPoolExecutor:
    """The pool of this process; a forked child must not wait for threads that it does not have."""
    process = os.getpid()
    if process not in _pools:
        _pools.clear()
        _pools[process] = ThreadPoolExecutor(max_workers=os.cpu_count(), thread_name_prefix="visionseq-kernel")
    return _pools[process]
