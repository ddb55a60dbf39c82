"""From a model of transformers to its task: which adapter serves which class of model."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from mmexplain.errors import ModelError, did_you_mean
from mmexplain.tasks.huggingface.speakers import FAMILIES

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import nn

    from mmexplain.tasks.base import Task
    from mmexplain.tasks.huggingface.checkpoint import Checkpoint

PREFIX = "hf:"
FORM = "hf:ID"
_HERE = "mmexplain.tasks.huggingface"
_CLASSIFICATION = {"classify": f"{_HERE}.classification:HuggingFaceClassifier"}
_ZERO_SHOT = {"classify": f"{_HERE}.zero_shot:ZeroShot"}
_SPEAKING = {"caption": f"{_HERE}.speaking:captioner", "vqa": f"{_HERE}.speaking:answerer"}
_VIDEO = {"action": f"{_HERE}.video:video_transformer"}

ARCHITECTURES: Mapping[str, Mapping[str, str]] = {
    # classification; other classifiers of photos are known by what they take and give
    "ViTForImageClassification": _CLASSIFICATION,
    "DeiTForImageClassification": _CLASSIFICATION,
    "DeiTForImageClassificationWithTeacher": _CLASSIFICATION,
    "SwinForImageClassification": _CLASSIFICATION,
    "Swinv2ForImageClassification": _CLASSIFICATION,
    "ConvNextForImageClassification": _CLASSIFICATION,
    "ConvNextV2ForImageClassification": _CLASSIFICATION,
    "ResNetForImageClassification": _CLASSIFICATION,
    "CLIPForImageClassification": _CLASSIFICATION,
    "SiglipForImageClassification": _CLASSIFICATION,
    # classes that are texts
    "CLIPModel": _ZERO_SHOT,
    "SiglipModel": _ZERO_SHOT,
    "Siglip2Model": _ZERO_SHOT,
    # answers out of a list
    "ViltForQuestionAnswering": {"vqa": f"{_HERE}.vilt:Vilt"},
    # actions in videos
    "VideoMAEForVideoClassification": _VIDEO,
    "TimesformerForVideoClassification": _VIDEO,
    "VivitForVideoClassification": _VIDEO,
    "VJEPA2ForVideoClassification": _VIDEO,
    # texts of the model's own
    **{name: {task: _SPEAKING[task] for task in tasks} for name, (_, tasks) in FAMILIES.items()},
}
"""Class of a model → task that it serves → ``module:function``, which makes the task of a
:class:`~mmexplain.tasks.huggingface.checkpoint.Checkpoint`. The first task is the model's if none is asked for."""


def load(
    source: nn.Module | str | Path,
    task: str | None = None,
    device: str | torch.device = "auto",
    *,
    processor: Any = None,
    trust_remote_code: bool = False,
) -> Task:
    """The task of a model of transformers.

    Args:
        source: the model itself, its identifier on the hub (with ``hf:`` in front of it or not), or its folder.
        task: which of those that its class serves; the first if None.
        device: where a model that is loaded goes; a module stays where it is.
        processor: what prepares the inputs; otherwise loaded from where the model came from.
        trust_remote_code: run the code that a checkpoint brings along.

    Raises:
        ModelError: a class that no adapter serves, or that serves another task.
        CheckpointError: see :func:`~mmexplain.tasks.huggingface.checkpoint.open_checkpoint`.
    """
    from torch import nn

    from mmexplain.tasks.device import resolve_device
    from mmexplain.tasks.huggingface.checkpoint import architecture_of, open_checkpoint

    where = source.removeprefix(PREFIX) if isinstance(source, str) else source
    known = architecture_of(where)
    if known is not None and known in ARCHITECTURES:
        # Said at once, and not after minutes of loading.
        _adapter(known, task, known if isinstance(source, nn.Module) else str(source))
    found = open_checkpoint(
        where,
        resolve_device(device),
        trust_remote_code=trust_remote_code,
        processor=processor,
    )
    module, _, function = _adapter(found.architecture, task, found.id, found).partition(":")
    ready: Task = getattr(import_module(module), function)(found)
    return ready


def tasks_of(source: str) -> tuple[str, ...] | None:
    """The tasks that a model serves, by its configuration alone: none without an adapter of its own; None for a model
    whose configuration is not at hand."""
    from mmexplain.tasks.huggingface.checkpoint import architecture_of

    known = architecture_of(source.removeprefix(PREFIX))
    return None if known is None else tuple(ARCHITECTURES.get(known, ()))


def _adapter(architecture: str, task: str | None, model_id: str, found: Checkpoint | None = None) -> str:
    """``module:function`` that makes the task."""
    served = ARCHITECTURES.get(architecture)
    if served is None and found is not None:
        from mmexplain.tasks.huggingface.classification import gives_classes

        served = _CLASSIFICATION if gives_classes(found) else None
    if served is None:
        near = did_you_mean(architecture, ARCHITECTURES)
        raise ModelError(
            f"no adapter for {architecture!r} ({model_id!r}){near}; to bring it along, write a Task with three "
            "functions: prepare (photo → tensors), encode (tensors → features) and score (output → a number for each "
            "target), as the README's 'Bring your own model' shows"
        )
    if task is None:
        return next(iter(served.values()))
    if task not in served:
        raise ModelError(f"{model_id!r} is a {architecture!r}, which serves {' and '.join(served)}, not {task}")
    return served[task]
