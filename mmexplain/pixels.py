"""Any of Pillow's pixel modes as 8-bit RGB, reduced on the way where the photo is large."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from mmexplain.errors import InputError

_STRIP_PIXELS = 8_000_000


def reduce_to_rgb(image: Image.Image, max_pixels: int) -> Image.Image:
    """``image`` as RGB, averaged over squares of the smallest whole size that leaves at most ``max_pixels``.

    Transparent pixels are laid over white. Sixteen-bit grey keeps its full range; other deep grey is taken as 0-1,
    0-255 or 0-65535, the first that holds its values, or else stretched from its minimum to its maximum.

    Raises:
        InputError: the values of a floating-point image are not finite.
    """
    factor = math.ceil(math.sqrt(image.width * image.height / max_pixels))
    levels = _levels(image)
    if factor <= 1:
        return _to_rgb(image, levels)
    # Strip by strip, so that the converted photo never exists at full size.
    small = Image.new("RGB", (-(-image.width // factor), -(-image.height // factor)))
    step = factor * max(1, _STRIP_PIXELS // (image.width * factor))
    for top in range(0, image.height, step):
        strip = image.crop((0, top, image.width, min(top + step, image.height)))
        small.paste(_to_rgb(strip, levels).reduce(factor), (0, top // factor))
    return small


def reduced(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """``image`` at ``(width, height)``, as the frames and photos that are kept for display are made small."""
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=1.5)


def _to_rgb(image: Image.Image, levels: tuple[float, float] | None) -> Image.Image:
    if levels is not None:
        low, high = levels
        grey = (np.asarray(image, dtype=np.float32) - low) * (255.0 / (high - low))
        return Image.fromarray(np.rint(grey.clip(0.0, 255.0)).astype(np.uint8)).convert("RGB")
    if image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info:
        # `convert` knows no way from the premultiplied and the palette modes to RGBA but through these two.
        image = image.convert({"La": "LA", "PA": "RGBA"}.get(image.mode, "RGBA")).convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    # A copy, so that the photo does not change when the caller's image does.
    return image.copy() if image.mode == "RGB" else image.convert("RGB")


def _levels(image: Image.Image) -> tuple[float, float] | None:
    """The values that become black and white; None for modes of eight bits."""
    if image.mode.startswith("I;16"):
        return 0.0, 65535.0
    if image.mode not in ("I", "F"):
        return None
    low, high = (float(np.ravel(value)[0]) for value in image.getextrema())
    if image.mode == "F" and not np.isfinite(np.asarray(image)).all():
        raise InputError("its pixels hold NaN or infinity")
    whites = (1.0, 255.0, 65535.0) if image.mode == "F" else (255.0, 65535.0)
    for white in whites:
        if low >= 0 and high <= white:
            return 0.0, white
    return low, max(high, low + 1.0)
