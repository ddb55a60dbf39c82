"""Class names of action models."""

from __future__ import annotations

from collections.abc import Sequence

from mmexplain.tasks.labels import Labels


def choose_labels(own: Sequence[str] | None, classes: int) -> list[str] | None:
    """The names that a checkpoint of ``classes`` classes brings along, else Kinetics-400's if there are as many.

    Raises:
        CheckpointError: it brings along too many or too few.
    """
    labels = Labels.choose(own, kinetics400(), classes)
    return None if labels is None else list(labels)


def kinetics400() -> list[str]:
    """The 400 Kinetics classes, in the alphabetical order of I3D's and torchvision's outputs."""
    from torchvision.models._meta import _KINETICS400_CATEGORIES

    return list(_KINETICS400_CATEGORIES)
