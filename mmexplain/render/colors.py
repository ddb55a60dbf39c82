"""Colour tables: perceptually uniform, safe for colour-blind readers, with an opacity that grows with the value."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mmexplain.errors import InputError, did_you_mean

SEQUENTIAL = "inferno"
"""Default for maps of evidence (0 to 1)."""

DIVERGING = "fire-ice"
"""Default for signed maps (-1 to 1): ``inferno`` for evidence for, the same with red and blue exchanged for evidence
against. Both ends are bright, so that they show on photos, and are told apart with every kind of colour vision."""

RED_BLUE = "red-blue"
"""Signed maps as the appendix of the Grad-CAM paper (Selvaraju et al., ICCV 2017, Fig. A5) draws occlusion: blue for
evidence for, red for evidence against."""

_OWN = (DIVERGING, RED_BLUE)

LEVELS = 256


@lru_cache(maxsize=32)
def rgb_table(name: str) -> NDArray[np.uint8]:
    """``[256, 3]`` uint8 colours of a matplotlib colour map, of "fire-ice" or "red-blue".

    Raises:
        InputError: matplotlib has no colour map of that name.
    """
    from matplotlib import colormaps

    if name == DIVERGING:
        fire = rgb_table(SEQUENTIAL)[np.linspace(LEVELS // 5, LEVELS - 1, LEVELS // 2).round().astype(int)]
        return np.concatenate([fire[::-1, ::-1], fire])
    if name == RED_BLUE:
        # Both ends as bright as each other; the tone alone tells them apart, so that opacity can tell the strength.
        ends = np.array([[[255, 190, 175], [222, 18, 30]], [[170, 200, 255], [24, 66, 245]]])
        share = np.linspace(0.0, 1.0, LEVELS // 2)[:, None]
        red, blue = (np.round(weak + share * (strong - weak)).astype(np.uint8) for weak, strong in ends)
        return np.concatenate([red[::-1], blue])
    if name not in colormaps:
        raise InputError(f"unknown colour map {name!r}{did_you_mean(name, [*colormaps, *_OWN])}")
    colours = np.asarray(colormaps[name](np.linspace(0.0, 1.0, LEVELS)))[:, :3]
    table = np.round(colours * 255).astype(np.uint8)
    table.setflags(write=False)
    return table


@lru_cache(maxsize=32)
def rgba_table(name: str, signed: bool) -> NDArray[np.uint8]:
    """``[256, 4]`` uint8: the colour map with an opacity that leaves the photo legible where the map says little.

    Unsigned tables run from value 0 to 1, signed ones from -1 to 1. The darkest fifth of an unsigned colour map is
    left out: black veils would look like shadows in the photo.
    """
    colours = rgb_table(name)
    position = np.linspace(0.0, 1.0, LEVELS)
    if signed:
        strength = np.abs(2 * position - 1)
        index = np.arange(LEVELS)
    else:
        strength = position
        dark = float(colours[0].mean()) < float(colours[-1].mean())
        stretched = 0.2 + 0.8 * position if dark else position
        index = np.round(stretched * (LEVELS - 1)).astype(int)
    opacity = np.clip(strength / 0.6, 0.0, 1.0) ** 1.2
    table = np.concatenate([colours[index], (opacity * 255).astype(np.uint8)[:, None]], axis=1)
    table.setflags(write=False)
    return table


def css_gradient(name: str, signed: bool, stops: int = 13) -> str:
    """The table as a CSS ``linear-gradient`` from left to right, for legends."""
    table = rgba_table(name, signed)
    chosen = table[np.linspace(0, LEVELS - 1, stops).round().astype(int)]
    listed = ", ".join(f"rgb({r} {g} {b} / {a / 255:.2f})" for r, g, b, a in chosen.tolist())
    return f"linear-gradient(90deg, {listed})"
