"""Visual question answering: a target for every answer, the model's own and those it is made to consider."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmexplain.tasks.vqa.adapter import VQAAdapter
    from mmexplain.tasks.vqa.task import VQA

__all__ = ["VQA", "VQAAdapter"]


def __getattr__(name: str) -> Any:
    # Loaded at first use: listing the models passes through here, and must not wait for torch.
    if name == "VQA":
        from mmexplain.tasks.vqa.task import VQA

        return VQA
    if name == "VQAAdapter":
        from mmexplain.tasks.vqa.adapter import VQAAdapter

        return VQAAdapter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
