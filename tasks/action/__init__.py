"""Action recognition: a target for every class of a video classifier."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmexplain.tasks.action.task import Action

__all__ = ["Action"]


def __getattr__(name: str) -> Any:
    # Loaded at first use: listing the models passes through here, and must not wait for torch.
    if name == "Action":
        from mmexplain.tasks.action.task import Action

        return Action
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
