"""The regions of a photo that a study of bias looks at: marked objects, face-like areas, the centre and the border."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image

from mmexplain.evaluate.data.scene import Scene
from mmexplain.evaluate.masks import Mask, box_mask, union
from mmexplain.geometry import Size, fit
from mmexplain.io import Photo

OBJECT, PEOPLE, OTHERS, BACKGROUND = "labelled object", "people", "other objects", "background"
FACES, CENTRE, BORDER = "face-like areas", "centre", "border"
REGIONS = (OBJECT, PEOPLE, OTHERS, BACKGROUND, FACES, CENTRE, BORDER)
KIND = "of these: "
"""What the name of a region of one class of other objects begins with."""

PERSON = frozenset({"person", "people"})
"""What data call people."""

LONGEST = 640
"""Pixels of a photo's longer side in which faces are looked for."""


def marked(scene: Scene, own: str) -> dict[str, Mask]:
    """Bool ``[h, w]`` of what is marked: a pixel belongs to the labelled object, else to people, else to other objects,
    else to the background. The classes of other objects are regions of their own too.

    Args:
        scene: the photo with its objects.
        own: the class of the labelled object.
    """
    masks = {name: scene.mask(name) for name in scene.names}
    own_mask = masks.get(own, np.zeros(scene.size, dtype=bool))
    others = {name: mask & ~own_mask for name, mask in masks.items() if name != own}
    people = union((mask for name, mask in others.items() if name in PERSON), scene.size)
    kinds = {name: mask & ~people for name, mask in others.items() if name not in PERSON}
    rest = union(kinds.values(), scene.size)
    found = {OBJECT: own_mask, PEOPLE: people, OTHERS: rest, BACKGROUND: ~(own_mask | people | rest)}
    return found | {f"{KIND}{name}": mask for name, mask in kinds.items()}


def thirds(size: Size) -> dict[str, Mask]:
    """Bool ``[h, w]``: the middle one of three times three cells, and the eight around it."""
    height, width = size
    centre = box_mask((width / 3, height / 3, 2 * width / 3, 2 * height / 3), size)
    return {CENTRE: centre, BORDER: ~centre}


def faces(photo: Photo) -> Mask:
    """Bool ``[h, w]``: squares that scikit-image's cascade of local binary patterns takes for faces seen from the
    front. It overlooks some, and takes other things for faces: the areas are *like* faces, no more."""
    height, width = photo.original
    small = fit(photo.original, LONGEST)
    image = np.asarray(photo.image.resize(small[::-1], Image.Resampling.BILINEAR))
    found = _cascade().detect_multi_scale(
        img=image, scale_factor=1.2, step_ratio=1.0, min_size=(24, 24), max_size=small
    )
    down, across = height / small[0], width / small[1]
    boxes = [
        (
            one["c"] * across,
            one["r"] * down,
            (one["c"] + one["width"]) * across,
            (one["r"] + one["height"]) * down,
        )
        for one in found
    ]
    return union((box_mask(box, photo.original) for box in boxes), photo.original)


@lru_cache(maxsize=1)
def _cascade() -> Any:
    from skimage.data import lbp_frontal_face_cascade_filename
    from skimage.feature import Cascade

    return Cascade(lbp_frontal_face_cascade_filename())
