"""``torchvision:<name>``: torchvision's classifiers with their own weights, transforms and labels."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torchvision
from torch import Tensor, nn
from torch.hub import get_dir
from torchvision.models import get_model, get_model_weights, list_models

from mmexplain.errors import ModelError, did_you_mean
from mmexplain.preprocess import Preprocess
from mmexplain.tasks.classification.checkpoint import build_and_fit, read_card, read_state
from mmexplain.tasks.classification.download import downloading, require_network
from mmexplain.tasks.classification.labels import Labels
from mmexplain.tasks.classification.task import Classifier

PREFIX = "torchvision:"
SERVER = "download.pytorch.org"


def load(name: str, version: str | None, model_id: str) -> Classifier:
    """A torchvision classifier on the CPU, in eval mode.

    Args:
        name: as torchvision spells it ("resnet50").
        version: one of its published weights ("IMAGENET1K_V2"), a file of weights, or None for the default ones.
        model_id: the identifier as the user gave it.

    Raises:
        ModelError: no such model, no such weights, or no way to download them.
        CheckpointError: a file that does not fit.
    """
    names = list_models(module=torchvision.models)
    if name not in names:
        raise ModelError(f"torchvision has no classifier {name!r}{did_you_mean(name, names)}")
    published = get_model_weights(name)
    own_labels: list[str] | None = None
    if version is None or version in published.__members__:
        weights = published.DEFAULT if version is None else published[version]
        state, source = download_weights(weights, model_id), str(weights.url)
    elif Path(version).suffix or Path(version).exists():
        state, source = read_state(version), version
        own_labels = read_card(version).get("labels")
        weights = _namesake(published, name, state, Path(version).name)
    else:
        known = ", ".join(weights.name for weights in published)
        raise ModelError(f"torchvision:{name} has no weights {version!r}; there are: {known}, or give a file")
    model, classes = build(name, state, source)
    labels = Labels.choose(own_labels, weights.meta["categories"], classes)
    return Classifier(model, Preprocess.from_torchvision(weights.transforms()), labels, model_id=model_id)


def build(name: str, state: Mapping[str, Tensor], source: str) -> tuple[nn.Module, int]:
    """The architecture that the weights were made for, with the weights in it, and its number of classes.

    Raises:
        CheckpointError: the weights are of another architecture.
    """
    if name.startswith("densenet"):  # torchvision's own files still have the names of 2017
        state = {re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)", r"\1\2", key): v for key, v in state.items()}
    options: dict[str, Any] = {}
    auxiliary = any(key.startswith(("aux1.", "AuxLogits.")) for key in state)
    if name in ("googlenet", "inception_v3"):
        # The published weights expect inputs in [-1, 1], and come with heads that only training uses.
        options = {"transform_input": True, "init_weights": False, "aux_logits": auxiliary}
    if name.startswith("vit_"):
        size = _vit_size(state)
        options = {} if size is None else {"image_size": size}
    return build_and_fit(lambda **more: get_model(name, weights=None, **options, **more), state, source, PREFIX + name)


def download_weights(weights: Any, model_id: str) -> dict[str, Tensor]:
    """The published ``weights`` (a member of torchvision's enums) by name, from its cache or from the network.

    Raises:
        ModelError: there is no way to download them.
    """
    url = str(weights.url)
    if not Path(get_dir(), "checkpoints", url.rsplit("/", 1)[-1]).is_file():
        require_network(url, model_id)
    with downloading(model_id, SERVER):
        state: dict[str, Tensor] = weights.get_state_dict(progress=True, check_hash=True, weights_only=True)
    return state


def _namesake(published: Any, name: str, state: Mapping[str, Tensor], file: str) -> Any:
    """The published weights whose transforms a file of weights should use.

    Those of the same file name, else of the same image size (of a ViT), else the default ones.
    """
    for weights in published:
        if str(weights.url).endswith(f"/{file}"):
            return weights
    size = _vit_size(state) if name.startswith("vit_") else None
    order = [published.DEFAULT, *published]
    return next((weights for weights in order if size in (None, weights.meta["min_size"][0])), published.DEFAULT)


def _vit_size(state: Mapping[str, Tensor]) -> int | None:
    """The image size that a ViT's position table ``[1, tokens, D]`` was made for."""
    positions, patches = state.get("encoder.pos_embedding"), state.get("conv_proj.weight")
    if positions is None or patches is None or positions.ndim != 3 or positions.shape[1] < 2:
        return None
    return math.isqrt(positions.shape[1] - 1) * int(patches.shape[-1])
