"""Names of the precisions that the part of a model that sees the photo can run in. Nothing here imports torch."""

from __future__ import annotations

from typing import Literal, get_args

from mmexplain.errors import InputError, did_you_mean

Precision = Literal["float32", "bfloat16", "float16"]

PRECISIONS: tuple[str, ...] = get_args(Precision)
"""All of them; the first leaves the model as it is."""


def require_known(precision: str) -> None:
    """Raise an InputError unless it is one of :data:`PRECISIONS`."""
    if precision not in PRECISIONS:
        near = did_you_mean(str(precision), PRECISIONS)
        raise InputError(f"unknown precision {precision!r}{near}; there are: {', '.join(PRECISIONS)}")
