"""Where the heat is in what a browser drew."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def pixels(shown: Any) -> NDArray[np.float64]:
    """``[h, w, 3]``, 0 to 255: what stands on the screen where an element is."""
    return np.asarray(Image.open(io.BytesIO(shown.screenshot())).convert("RGB"), dtype=np.float64)


def hottest(change: NDArray[np.float64], rim: int = 0) -> tuple[float, float]:
    """The middle of what changed most, as shares of the width and height; ``rim`` pixels, where corners are round, are
    left out."""
    strength = np.abs(change).sum(axis=2)
    strength[:rim], strength[len(strength) - rim :] = 0, 0
    strength[:, :rim], strength[:, strength.shape[1] - rim :] = 0, 0
    rows, columns = np.nonzero(strength > 0.9 * strength.max())
    return float((columns.mean() + 0.5) / strength.shape[1]), float((rows.mean() + 0.5) / strength.shape[0])
