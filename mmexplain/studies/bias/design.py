"""What the planted case is made of: the two classes, the two kinds of ground, and how often they go together."""

from __future__ import annotations

from collections.abc import Mapping

CLASSES: Mapping[str, tuple[str, ...]] = {
    "animal": ("bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe"),
    "vehicle": ("bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat"),
}
"""The two classes, and COCO's classes of each."""
GROUNDS: Mapping[str, tuple[str, ...]] = {"grass": ("grass", "grassy", "lawn", "meadow"), "snow": ("snow", "snowy")}
"""The ground that goes with each class in the biased set, and the words of captions that tell it."""
PARTS: Mapping[str, tuple[str, float]] = {"train": ("train", 0.5), "validation": ("dev", 0.2), "test": ("test", 0.3)}
"""Part → split of Flickr8k that its grounds come from, share of COCO's photos that its objects come from."""
BIASED, REBALANCED, SHUFFLED = "biased", "rebalanced", "shuffled labels"
TRAININGS = (BIASED, REBALANCED, SHUFFLED)
UNBIASED = "unbiased"
CORRELATION, BALANCED = 0.95, 0.5


def cells(size: int, correlation: float) -> dict[tuple[int, int], int]:
    """How many composites of each class on each kind of ground make a set of both classes alike, of which a share of
    ``correlation`` stands on the ground of its class."""
    agree = round(size / 2 * correlation)
    return {(label, ground): agree if label == ground else size // 2 - agree for label in (0, 1) for ground in (0, 1)}
