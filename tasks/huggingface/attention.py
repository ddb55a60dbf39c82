"""Listening to a model's own attention while it reads a text."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn

from mmexplain.errors import MethodError
from mmexplain.tasks.huggingface.kernels import own_kernels, plain_kernels
from mmexplain.tasks.huggingface.speaker import BETWEEN, Speaker
from mmexplain.tasks.huggingface.views import Views


class Listening:
    """Collects attention weights over the photo, the mean over heads and layers.

    Kernels of fused attention give no weights: they are asked for in their plain form, and the model's choice is put
    back after; threads may listen to one model at once (:mod:`mmexplain.tasks.huggingface.kernels`). Only what each
    token was said with is kept, no whole matrix. Where the text attends to the photo by way of tokens between the two,
    what these attend to is heard first, and handed to the speaker with the look.

    Args:
        speaker: names the layers, and says which weights are over the photo.
        look: tensors of the look, one row for each text.
        views: how tokens lie over the photo.
        steps: tokens T of the texts.
        wanted: otherwise the model's own kernels run.

    Attributes:
        attention: ``[R, T, *S]``; None if it was not wanted.
    """

    def __init__(self, speaker: Speaker, look: dict[str, Tensor], views: Views, steps: int, wanted: bool) -> None:
        self.speaker, self.look, self.views, self.steps, self.wanted = speaker, look, views, steps, wanted
        self.attention: Tensor | None = None
        self._sum: Tensor | None = None
        self._between: list[Tensor] = []
        self._named: list[str] = []
        self._heard: list[str] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        model = self.speaker.model
        with ExitStack() as stack:
            if not self.wanted:
                stack.enter_context(own_kernels(model))
            else:
                self._listen(stack)
            self._stack = stack.pop_all()
        return self

    def _listen(self, stack: ExitStack) -> None:
        names = self.speaker.attention_layers()
        between = self.speaker.attention_between()
        if not names:
            raise MethodError(
                f"model {self.speaker.checkpoint.id!r} has no attention of its own to show; use 'gradcam'"
            )
        thread = threading.get_ident()

        def hook(name: str, hear: Callable[[Tensor], None]) -> Callable[..., None]:
            def run(_: nn.Module, __: Any, output: Any) -> None:
                if threading.get_ident() == thread:
                    self._hear(name, output, hear)

            return run

        self._named = [*between, *names]
        modules = [self.speaker.model.get_submodule(name) for name in self._named]
        stack.enter_context(plain_kernels(self.speaker.model, modules))
        for name, module in zip(self._named, modules, strict=True):
            hear = self._between.append if name in between else self._add
            stack.callback(module.register_forward_hook(hook(name, hear)).remove)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        if kind is not None or not self.wanted:
            return
        if self._sum is None or sorted(self._heard) != sorted(self._named):
            raise MethodError(
                f"model {self.speaker.checkpoint.id!r} gives the attention weights of {len(self._heard)} of its "
                f"{len(self._named)} layers; load it with attn_implementation='eager'"
            )
        self.attention = self._sum / (len(self._named) - len(self._between))

    def _hear(self, name: str, output: Any, hear: Callable[[Tensor], None]) -> None:
        # T5 gives the bias of relative positions, of the same shape, before the weights.
        parts = output if isinstance(output, (tuple, list)) else ()
        matrices = [part for part in parts if isinstance(part, Tensor) and part.ndim == 4]
        weights = matrices[-1] if matrices else None
        if weights is None:
            return
        self._heard.append(name)
        with torch.no_grad():
            hear(weights.detach().float().mean(1))

    def _add(self, mean: Tensor) -> None:
        look = {**self.look, BETWEEN: torch.stack(self._between).mean(0)} if self._between else self.look
        over = self.speaker.attention_over_photo(mean, look, self.views, self.steps)
        self._sum = over if self._sum is None else self._sum + over
