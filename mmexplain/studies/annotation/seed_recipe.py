"""From maps to the label maps of one photo: which pixels are seeds of which class, and which of the background."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mmexplain.errors import InputError
from mmexplain.studies.annotation import cues
from mmexplain.studies.annotation.cues import IGNORE, Conflicts, LabelMap, Strengths

Background = Literal["maps", "saliency"]


@dataclass(frozen=True)
class Recipe:
    """How maps become label maps.

    Attributes:
        threshold: share of a map's maximum from which on a pixel is a cue of its class.
        background: where the cue of the background is from, the maps or the gradient's magnitude.
        level: of "maps": the share of its maximum that no map may exceed there; of "saliency": the share of the photo.
        conflicts: which class has a pixel that several claim.
        grabcut: refine.
        seed: of whatever is drawn at random.

    Raises:
        InputError: a share that is none.
    """

    threshold: float = 0.2
    background: Background = "maps"
    level: float = 0.1
    conflicts: Conflicts = "smallest"
    grabcut: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        """Shares lie between 0 and 1."""
        for name in ("threshold", "level"):
            if not 0 < getattr(self, name) < 1:
                raise InputError(f"{name}={getattr(self, name)}: a share lies between 0 and 1")

    def seeds(self, strengths: Strengths, saliency: Strengths) -> LabelMap:
        """The cues of one photo, as a label map with :data:`~mmexplain.studies.annotation.cues.IGNORE` where there is
        none.

        Args:
            strengths: number of each class in the photo → its map as shares of its maximum.
            saliency: the same of the gradient's magnitude, for a background of "saliency".
        """
        background = (
            cues.background_of_maps(strengths, self.level)
            if self.background == "maps"
            else cues.background_of_saliency(saliency, self.level)
        )
        return cues.label_map(cues.foreground(strengths, self.threshold), background, strengths, self.conflicts)

    def masks(self, photo: NDArray[np.uint8], strengths: Strengths, saliency: Strengths) -> Made:
        """Cues and what GrabCut makes of them.

        Args:
            photo: uint8 RGB ``[h', w', 3]``.
            strengths: see :meth:`seeds`.
            saliency: see :meth:`seeds`.
        """
        seeds = self.seeds(strengths, saliency)
        return Made(seeds, cues.grabcut(photo, seeds, strengths, self.seed) if self.grabcut else None)


@dataclass(frozen=True)
class Made:
    """Label maps of one photo.

    Attributes:
        seeds: cues, :data:`~mmexplain.studies.annotation.cues.IGNORE` where there is none.
        refined: every pixel labelled, if GrabCut was asked for.
    """

    seeds: LabelMap
    refined: LabelMap | None

    @property
    def unrefined(self) -> LabelMap:
        """The cues as masks: what has none is background."""
        return np.where(self.seeds == IGNORE, 0, self.seeds).astype(np.uint8)
