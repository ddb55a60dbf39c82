"""Classification: a target for every class of any image classifier."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmexplain.tasks.classification.labels import Labels
    from mmexplain.tasks.classification.task import Classifier

__all__ = ["Classifier", "Labels"]


def __getattr__(name: str) -> Any:
    # Loaded at first use: listing the models passes through here, and must not wait for torch.
    if name == "Classifier":
        from mmexplain.tasks.classification.task import Classifier

        return Classifier
    if name == "Labels":
        from mmexplain.tasks.classification.labels import Labels

        return Labels
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
