"""What the protocols of words in captions share: a captioner, its methods, and the controls beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch

from mmexplain.evaluate.captions import require_captioner
from mmexplain.evaluate.grounding_rows import METRICS
from mmexplain.evaluate.protocol import Metric, Protocol
from mmexplain.methods.registry import select
from mmexplain.surroundings import evaluating
from mmexplain.tasks.captioning.task import Captioning


class OnCaptions(Protocol):
    """Maps of words that a captioner says or is given.

    Args:
        task: a captioner.
        data: folder of the data.
        methods: names from the registry.
        layer: the task's own if None.
        seed: of the methods' draws.

    Attributes:
        methods: those that were asked for, and the model's own attention if it has one.
        base: the method that the controls are made with; None where attention alone was asked for.

    Raises:
        InputError: no captioner.
        MethodError: no such method.
    """

    metrics: ClassVar[tuple[Metric, ...]] = METRICS

    @classmethod
    def wants(cls, data: Path) -> str | None:
        """Words of captions are mapped."""
        return "caption"

    def __init__(
        self, task: Any, data: Path, methods: Sequence[str], *, layer: str | None = None, seed: int = 0
    ) -> None:
        self.task = require_captioner(task, self.name)
        self.data, self.layer, self.seed = Path(data), layer, seed
        asked = [method.name for method in select(methods)]
        self.methods = with_attention(self.task, asked)
        self.base = next((name for name in asked if name != "attention"), None)

    def settings(self) -> Mapping[str, Any]:
        """Model, methods, layer and seed."""
        return {
            "model": self.task.model_id,
            "methods": self.methods,
            "layer": self.layer or self.task.default_layer(),
            "seed": self.seed,
        }


def with_attention(task: Captioning, methods: Sequence[str]) -> list[str]:
    """The methods, and the model's own attention if it has one."""
    if "attention" in methods:
        return list(methods)
    with torch.no_grad(), evaluating(task.model):
        tokens = torch.tensor([[task.captioner.vocabulary.end]], device=task.device)
        output = task.decode(task.encode({"image": task.empty()}), {"tokens": tokens})
    return [*methods, *([] if output.attention is None else ["attention"])]
