"""Classifiers of photos of transformers: anything that maps ``pixel_values`` to ``logits`` with a name for each."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from mmexplain.errors import MMExplainError
from mmexplain.forward import model_runs
from mmexplain.surroundings import undisturbed
from mmexplain.tasks.classification.task import Classifier
from mmexplain.tasks.huggingface.checkpoint import Checkpoint
from mmexplain.tasks.huggingface.layers import default_layer
from mmexplain.tasks.huggingface.processors import ProcessorPreprocess
from mmexplain.tasks.huggingface.tokens import PatchTask, Tokens
from mmexplain.tasks.outcomes import Link

_WINDOW = ("window_size", "shift_size")
_windows = threading.RLock()
"""Held by the one thread that runs such a model; not by the task, which may be copied."""
_LINKS: dict[str, Link] = {"multi_label_classification": "sigmoid", "regression": "none"}


class HuggingFaceClassifier(PatchTask, Classifier):
    """A classifier of transformers.

    Args:
        checkpoint: the model with its image processor; ``config.id2label`` names the classes.
        layer: layer to explain by default; found by a look at the model if None.

    Raises:
        CheckpointError: no image processor comes with it.
    """

    def __init__(self, checkpoint: Checkpoint, *, layer: str | None = None) -> None:
        checkpoint.require("image_processor")
        config = checkpoint.config
        super().__init__(
            checkpoint.model,
            ProcessorPreprocess(checkpoint.image_processor),
            config.id2label,
            layer=layer,
            model_id=checkpoint.id,
            link=_LINKS.get(config.problem_type),
        )
        vision = getattr(self.model, "vision_model", self.model)
        self.tokens = Tokens.of(vision, getattr(config, "vision_config", config))

    def run(self, image: Tensor) -> Any:
        """What the model makes of photos ``[B, 3, h, w]``."""
        with self._windows_kept():
            return self.model(pixel_values=image)

    def suggested(self, run: Callable[[], Any]) -> str:
        """What enters the last block's attention where only a class token is read; the last grid otherwise."""
        return default_layer(self.model, run, self.preprocess.size, self.reader)

    @contextmanager
    def _windows_kept(self) -> Iterator[None]:
        """Swin's blocks shrink their windows for a small photo and never widen them again; here they do."""
        blocks = [module for module in self.model.modules() if hasattr(module, "set_shift_and_window_size")]
        if not blocks:
            yield
            return
        with _windows:
            before = [(block, {name: getattr(block, name) for name in _WINDOW}) for block in blocks]
            try:
                yield
            finally:
                for block, values in before:
                    for name, value in values.items():
                        setattr(block, name, value)


def gives_classes(checkpoint: Checkpoint) -> bool:
    """Whether a model that is in no list is a classifier of photos: it takes ``pixel_values`` and puts out ``logits``
    ``[B, L]``, one for each name in ``config.id2label``. Runs the model once on a black photo."""
    names = getattr(checkpoint.config, "id2label", None)
    takes = getattr(checkpoint.model, "main_input_name", None) == "pixel_values"
    if not takes or not names or checkpoint.image_processor is None:
        return False
    try:
        task = HuggingFaceClassifier(checkpoint)
        empty = task.empty()
        with undisturbed(task.model, empty.device), model_runs(empty.shape):
            logits = getattr(task.run(empty), "logits", None)
    except MMExplainError:
        return False
    return logits is not None and tuple(logits.shape) == (1, len(names))
