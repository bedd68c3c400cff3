"""Unpickling that admits numpy arrays and plain containers, and runs nothing else."""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np

__all__ = ["unpickled"]


def _latin1(text: str, encoding: str) -> bytes:
    """How Python 3 writes bytes for Python 2: the one encoding it uses."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"it holds bytes in the encoding {encoding!r}")
    return text.encode("latin1")


# What the pickles of arrays name: numpy's makers of arrays (they have moved between its modules) and two types.
_MAKERS = {"_reconstruct": np.empty(0).__reduce_ex__(2)[0], "_frombuffer": np.empty(0).__reduce_ex__(5)[0]}
_ADMITTED = {("numpy", "ndarray"): np.ndarray, ("numpy", "dtype"): np.dtype, ("_codecs", "encode"): _latin1,
             **{(f"numpy.{core}.{module}", name): _MAKERS[name] for core in ("core", "_core")
                for module, name in (("multiarray", "_reconstruct"), ("numeric", "_frombuffer"))}}


class _Arrays(pickle.Unpickler):
    """Resolves the names that the pickle of an array of numbers needs."""

    def find_class(self, module: str, name: str) -> Any:
        """The object of this name, if it is admitted."""
        if (module, name) not in _ADMITTED:
            raise pickle.UnpicklingError(f"it names {module}.{name}, and only arrays and plain containers are admitted")
        return _ADMITTED[module, name]


def unpickled(data: bytes) -> Any:
    """The content of a pickle of arrays and plain containers; strings of Python 2 come as bytes.

    Raises
    ------
    ValueError
        If it names anything else, or is damaged.

    Examples
    --------
    >>> import pickle
    >>> unpickled(pickle.dumps({"labels": [3, 5]}))
    {'labels': [3, 5]}
    """
    try:
        return _Arrays(io.BytesIO(data), encoding="bytes").load()
    except (MemoryError, Exception) as error:  # a damaged stream can raise nearly anything
        raise ValueError(f"{type(error).__name__}: {error}") from error
