"""Unpickling that admits numpy arrays of numbers and plain containers, and runs nothing else.

No function that a pickle names is called, not even numpy's: arrays are put together here from their bytes.
"""

from __future__ import annotations

import io
import pickle
import re
from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["unpickled"]


class _Type:
    """Stands for the dtype of numbers that a pickle names."""

    def __init__(self, code: str | bytes, *_: object):
        self.code, self.order = _text(code), "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = _text(state[1])

    def numbers(self, data: bytes) -> np.ndarray:
        """The numbers in these bytes."""
        if not re.fullmatch("b1|[iu][1248]|f[248]", self.code) or self.order not in tuple("|<>="):
            raise pickle.UnpicklingError(f"it holds an array of dtype {self.order}{self.code}, not of numbers")
        return np.frombuffer(data, np.dtype(self.order + self.code)).copy()


class _Array:
    """Stands for an array; ``value`` is there once its state has been read."""

    value: np.ndarray

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, columns_first, data = state
        self.value = kind.numbers(data).reshape(shape, order="F" if columns_first else "C")


def _from_buffer(data: bytes, kind: _Type, shape: tuple[int, ...], order: str, *_: object) -> _Array:
    """An array as protocol 5 writes it."""
    array = _Array()
    array.__setstate__((1, shape, kind, order == "F", data))
    return array


def _latin1(text: str, encoding: str) -> bytes:
    """Bytes as Python 3 writes them for Python 2."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"it holds bytes in the encoding {encoding!r}")
    return text.encode("latin1")


_ADMITTED: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): lambda *_: _Array(),
    ("numpy", "dtype"): _Type,
    ("_codecs", "encode"): _latin1,
    ("__builtin__", "bytes"): lambda: b"",  # as Python 3 writes no bytes for Python 2
    **{(f"numpy.{core}.multiarray", "_reconstruct"): lambda *_: _Array() for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): lambda kind, data: kind.numbers(data)[0].item()
       for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _from_buffer for core in ("core", "_core")},
}


class _Arrays(pickle.Unpickler):
    """Resolves only the names that stand in the pickle of an array."""

    def find_class(self, module: str, name: str) -> Any:
        """What is called instead of the object of this name."""
        if (module, name) not in _ADMITTED:
            raise pickle.UnpicklingError(f"it names {module}.{name}, and only arrays and plain containers are admitted")
        make = _ADMITTED[module, name]
        return lambda *arguments: make(*arguments)  # a new one: a pickle can set attributes of what it is given


def unpickled(data: bytes) -> dict[str, Any]:
    """The entries of a pickled dictionary of arrays and plain containers; strings of Python 2 inside come as bytes.

    Raises
    ------
    ValueError
        If it holds anything else, or is damaged.

    Examples
    --------
    >>> import pickle
    >>> unpickled(pickle.dumps({b"labels": [3, 5], b"data": np.eye(2)}))
    {'labels': [3, 5], 'data': array([[1., 0.],
           [0., 1.]])}
    """
    try:
        entries = _Arrays(io.BytesIO(data), encoding="bytes").load()
        if not isinstance(entries, dict):
            raise pickle.UnpicklingError(f"it holds a {type(entries).__name__} instead of a dictionary")
        return {_text(key): value.value if isinstance(value, _Array) else value for key, value in entries.items()}
    except Exception as error:  # a damaged stream can raise nearly anything
        raise ValueError(f"{type(error).__name__}: {error}") from error


def _text(value: str | bytes) -> str:
    """A string that Python 2 may have written."""
    return value.decode("ascii") if isinstance(value, bytes) else str(value)
