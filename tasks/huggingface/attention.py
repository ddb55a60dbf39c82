"""Listening to a model's own attention while it reads a text."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn

from mmexplain.errors import MethodError
from mmexplain.tasks.huggingface.speaker import BETWEEN, Speaker
from mmexplain.tasks.huggingface.views import Views


class Listening:
    """Collects attention weights over the photo, the mean over heads and layers.

    Kernels of fused attention give no weights: they are asked for in their plain form, and the model's choice is put
    back after. Only what each token was said with is kept, no whole matrix. Where the text attends to the photo by way
    of tokens between the two, what these attend to is heard first, and handed to the speaker with the look.

    Args:
        speaker: names the layers, and says which weights are over the photo.
        look: tensors of the look, one row for each text.
        views: how tokens lie over the photo.
        steps: tokens T of the texts.
        wanted: otherwise nothing is done.

    Attributes:
        attention: ``[R, T, *S]``; None if it was not wanted.
    """

    def __init__(self, speaker: Speaker, look: dict[str, Tensor], views: Views, steps: int, wanted: bool) -> None:
        self.speaker, self.look, self.views, self.steps, self.wanted = speaker, look, views, steps, wanted
        self.attention: Tensor | None = None
        self._sum: Tensor | None = None
        self._layers = 0
        self._between: list[Tensor] = []
        self._handles: list[Any] = []
        self._before: list[tuple[Any, str]] = []

    def __enter__(self) -> Self:
        if not self.wanted:
            return self
        names = self.speaker.attention_layers()
        between = self.speaker.attention_between()
        if not names:
            raise MethodError(
                f"model {self.speaker.checkpoint.id!r} has no attention of its own to show; use 'gradcam'"
            )
        thread = threading.get_ident()

        def hook(hear: Callable[[Tensor], None]) -> Callable[..., None]:
            def run(_: nn.Module, __: Any, output: Any) -> None:
                if threading.get_ident() == thread:
                    self._hear(output, hear)

            return run

        for name in (*between, *names):
            module = self.speaker.model.get_submodule(name)
            config = getattr(module, "config", None)
            if config is not None and getattr(config, "_attn_implementation", "eager") != "eager":
                self._before.append((config, config._attn_implementation))
            hear = self._between.append if name in between else self._add
            self._handles.append(module.register_forward_hook(hook(hear)))
        for config, _ in self._before:
            config._attn_implementation = "eager"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        for config, before in reversed(self._before):
            config._attn_implementation = before
        if kind is None and self.wanted:
            if self._sum is None:
                raise MethodError(
                    f"model {self.speaker.checkpoint.id!r} gives no attention weights; load it with "
                    "attn_implementation='eager'"
                )
            self.attention = self._sum / self._layers

    def _hear(self, output: Any, hear: Callable[[Tensor], None]) -> None:
        # T5 gives the bias of relative positions, of the same shape, before the weights.
        parts = output if isinstance(output, (tuple, list)) else ()
        matrices = [part for part in parts if isinstance(part, Tensor) and part.ndim == 4]
        weights = matrices[-1] if matrices else None
        if weights is None:
            return
        with torch.no_grad():
            hear(weights.detach().float().mean(1))

    def _add(self, mean: Tensor) -> None:
        look = {**self.look, BETWEEN: torch.stack(self._between).mean(0)} if self._between else self.look
        over = self.speaker.attention_over_photo(mean, look, self.views, self.steps)
        self._sum = over if self._sum is None else self._sum + over
        self._layers += 1
