"""Processes that share the work of this one and end with it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from threading import Thread

import torch

__all__ = ["pool"]


@contextmanager
def pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Fresh processes of one thread each. After a failure what has not begun is not begun; a process that is killed is
    told as a ChildProcessError."""
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_begin) as processes:
        try:
            yield processes
        except BrokenProcessPool as error:
            raise ChildProcessError(f"a worker process was killed, perhaps for want of memory. What is finished is "
                                    f"kept: run the same command again, with fewer --workers than {workers} if it "
                                    f"happens again.") from error
        finally:
            processes.shutdown(cancel_futures=True)


def _begin() -> None:
    """A worker whose parent was killed would wait for ever; small tensors gain nothing from threads."""
    torch.set_num_threads(1)
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    Thread(target=watch, daemon=True).start()
