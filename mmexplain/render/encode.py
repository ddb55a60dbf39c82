"""Pictures as data URIs, small enough to keep dozens of maps in one HTML file."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mmexplain.render.colors import LEVELS, SEQUENTIAL, css_gradient, rgba_table
from mmexplain.render.heat import Heat
from mmexplain.render.overlay import levels, paint, table_of

STEPS = 128
"""Colours in the palette of a scalar map."""

TABLES = (SEQUENTIAL, "magma", "viridis", "cividis")
"""Colour maps that a reader of a page can choose from, the first as it is written."""


def data_uri(image: Image.Image, kind: str, **options: Any) -> str:
    """``image`` encoded as ``kind`` ("png", "jpeg") in a ``data:`` URI; options go to Pillow."""
    buffer = io.BytesIO()
    image.save(buffer, kind.upper(), optimize=True, **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def photo_uri(photo: Image.Image, max_side: int, quality: int = 84) -> str:
    """An RGB photo reduced to ``max_side`` as a JPEG data URI."""
    reduced = photo.copy()
    reduced.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    return data_uri(reduced, "jpeg", quality=quality)


def heat_uri(shown: Heat, box: tuple[int, int, int, int]) -> str:
    """The part ``(left, top, right, bottom)`` of a painted map as a data URI.

    Scalar maps become a PNG whose palette *is* the colour table with its opacity; half of its levels halve the file
    and cannot be told from all. Pixel-space maps are noisy and opaque: JPEG.
    """
    if shown.kind == "pixels":
        return data_uri(paint(shown).convert("RGB").crop(box), "jpeg", quality=80)
    table = _steps(table_of(shown))
    steps = np.round(levels(shown) * ((STEPS - 1) / (LEVELS - 1))).astype(np.uint8)
    picture = Image.fromarray(steps).crop(box)
    picture.putpalette(table[:, :3].tobytes())
    return data_uri(picture, "png", transparency=table[:, 3].tobytes())


def exchangeable(name: str) -> dict[str, str]:
    """A colour map of :data:`TABLES` as a page's script needs it: ``letters`` stand in the URI of every "evidence" map
    of these colours, and those of another colour map in their place give the same map in the other's colours. The
    opacity grows alike in all. ``ramp`` is the CSS gradient for the legend.

    In a PNG the palette follows the signature and the header, 33 bytes; it takes 396 with its own frame and checksum.
    Both are multiples of 3, so that in base64 it is whole letters.
    """
    chunk = b"PLTE" + _steps(rgba_table(name, False))[:, :3].tobytes()
    whole = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return {"name": name, "letters": base64.b64encode(whole).decode("ascii"), "ramp": css_gradient(name, False)}


def _steps(table: NDArray[np.uint8]) -> NDArray[np.uint8]:
    chosen: NDArray[np.uint8] = table[np.round(np.linspace(0, LEVELS - 1, STEPS)).astype(int)]
    return chosen
