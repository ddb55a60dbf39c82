"""Pickled arrays without pickle's dangers: nothing but nested dicts of float32 arrays is ever made, and no function of
numpy's is called with what a file says.
"""

from __future__ import annotations

import io
import math
import pickle
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmexplain.errors import CheckpointError

Array = NDArray[np.float32]


class _Inert:
    """Stands in for something of numpy's; a pickle can neither change it nor find its class."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("it changes what is no array")


class _DtypeMaker(_Inert):
    """In place of ``numpy.dtype``."""

    __slots__ = ()

    def __call__(self, *arguments: Any) -> _Float32:
        if arguments != ("f4", False, True):
            raise pickle.UnpicklingError(f"it asks for arrays of {arguments[:1]}; float32 arrays were expected")
        return _Float32()


class _Float32(_Inert):
    """In place of the type of an array's values, which a pickle makes first and then tells in detail."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        if state != (3, "<", None, None, None, -1, -1, 0):
            raise pickle.UnpicklingError("its numbers are not stored as little-endian float32")


class _ArrayMaker(_Inert):
    """In place of ``_reconstruct``, the function that numpy's own pickles call to make an empty array."""

    __slots__ = ()

    def __call__(self, *arguments: Any) -> _Record:
        if arguments != (_NDARRAY, (0,), b"b"):
            raise pickle.UnpicklingError("it makes an array in another way than numpy does")
        return _Record()


class _Record(_Inert):
    """In place of an array; ``array`` is there once the pickle has told its shape and its bytes."""

    __slots__ = ("array",)

    array: Array

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise pickle.UnpicklingError("it makes an array in another way than numpy does")
        version, shape, dtype, fortran, raw = state
        if version != 1 or type(dtype) is not _Float32 or fortran is not False or type(raw) is not bytes:
            raise pickle.UnpicklingError("it holds an array that is not of float32, one row after the other")
        if type(shape) is not tuple or not all(type(side) is int and side >= 0 for side in shape):
            raise pickle.UnpicklingError("it holds an array whose shape is not one of whole numbers")
        if len(raw) != 4 * math.prod(shape):
            raise pickle.UnpicklingError(f"it holds {len(raw)} bytes for an array of shape {shape}"[:200])
        self.array = np.frombuffer(raw, "<f4").reshape(shape)


_NDARRAY = _Inert()
# The module of `_reconstruct` has moved in numpy 2.
_ALLOWED: dict[tuple[str, str], _Inert] = {
    ("numpy.core.multiarray", "_reconstruct"): _ArrayMaker(),
    ("numpy._core.multiarray", "_reconstruct"): _ArrayMaker(),
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _DtypeMaker(),
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is no array") from None


def read_arrays(content: bytes, source: str) -> dict[tuple[str, ...], Array]:
    """The arrays of a pickle of nested dicts, by the keys that lead to each.

    Args:
        content: the pickle. An object that it names outside of numpy's arrays is refused before it is looked up.
        source: where it came from, for the message.

    Returns:
        Read-only float32 arrays, which share the memory of what was read.

    Raises:
        CheckpointError: it is damaged, or holds anything but text keys and float32 arrays.
    """
    try:
        tree = _ArrayUnpickler(io.BytesIO(content)).load()
    except Exception as error:  # a damaged pickle raises nearly anything, from EOFError to OverflowError
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{source!r} is not a pickle of arrays alone: {reason}") from None
    arrays: dict[tuple[str, ...], Array] = {}
    _collect(tree, (), arrays, source)
    return arrays


def _collect(node: Any, path: tuple[str, ...], arrays: dict[tuple[str, ...], Array], source: str) -> None:
    if isinstance(node, dict) and all(isinstance(key, str) for key in node):
        for key, value in node.items():
            _collect(value, (*path, key), arrays, source)
    elif isinstance(node, _Record) and hasattr(node, "array"):
        arrays[path] = node.array
    else:
        kind = "no array" if isinstance(node, _Inert) else type(node).__name__
        raise CheckpointError(f"{source!r} holds {kind} at {'/'.join(path)!r}; float32 arrays were expected")
