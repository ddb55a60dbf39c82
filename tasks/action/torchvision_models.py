"""``torchvision:r3d_18`` ...: torchvision's video classifiers with their own weights, transforms and labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch.hub import get_dir
from torchvision.models import get_model, get_model_weights

from mmexplain.errors import ModelError, did_you_mean
from mmexplain.preprocess import Preprocess
from mmexplain.tasks.action.labels import choose_labels
from mmexplain.tasks.action.model import ActionModel
from mmexplain.tasks.action.names import TORCHVISION
from mmexplain.tasks.captioning.checkpoint import sha256
from mmexplain.tasks.classification.checkpoint import build_and_fit, read_card, read_state
from mmexplain.tasks.classification.torchvision_models import PREFIX, download_weights


@dataclass(frozen=True)
class Family:
    """How the models of one architecture are shown clips, and where they are explained.

    Attributes:
        frames: ``clip_len`` of torchvision's evaluation.
        frame_rate: likewise.
        layer: the last grid in space and time.
        min_frames: fewer leave the network nothing to pool.
        any_length: whether no parameter depends on the number of frames.
    """

    frames: int
    frame_rate: float
    layer: str
    min_frames: int = 1
    any_length: bool = True


RESNETS = Family(frames=16, frame_rate=15, layer="layer4")
FAMILIES: dict[str, Family] = {
    "r3d_18": RESNETS,
    "mc3_18": RESNETS,
    "r2plus1d_18": RESNETS,
    "s3d": Family(frames=128, frame_rate=15, layer="features", min_frames=14),
    # The classes are read from a token of their own, so that the other tokens leave the last block unused.
    "mvit": Family(frames=16, frame_rate=7.5, layer="blocks.14", min_frames=16, any_length=False),
    "swin3d": Family(frames=32, frame_rate=15, layer="norm"),
}
"""By the model's name, or the part of it before the first underscore."""


def load(name: str, version: str | None, model_id: str) -> ActionModel:
    """A video classifier of torchvision on the CPU, in eval mode.

    Args:
        name: as torchvision spells it ("r3d_18").
        version: one of its published weights ("KINETICS400_V1"), a file of weights, or None for the default ones.
        model_id: the identifier as the user gave it.

    Raises:
        ModelError: no such model, no such weights, or no way to download them.
        CheckpointError: a file that does not fit.
    """
    if name not in TORCHVISION:
        raise ModelError(f"torchvision has no video classifier {name!r}{did_you_mean(name, TORCHVISION)}")
    published: Any = get_model_weights(name)
    weights, labels = published.DEFAULT, None
    if version is None or version in published.__members__:
        weights = weights if version is None else published[version]
        state = download_weights(weights, model_id)
        file = Path(get_dir(), "checkpoints", str(weights.url).rsplit("/", 1)[-1])
    elif Path(version).suffix or Path(version).exists():
        file = Path(version)
        state, labels = read_state(file), read_card(file).get("labels")
    else:
        known = ", ".join(weights.name for weights in published)
        raise ModelError(f"{PREFIX}{name} has no weights {version!r}; there are: {known}, or give a file")
    model, classes = build_and_fit(
        lambda **more: get_model(name, weights=None, **more), state, str(file), PREFIX + name
    )
    family = FAMILIES.get(name) or FAMILIES[name.partition("_")[0]]
    return ActionModel(
        model=model,
        preprocess=Preprocess.from_torchvision(weights.transforms()),
        frames=family.frames,
        stride=round(30 / family.frame_rate),
        labels=choose_labels(labels, classes),
        model_id=model_id,
        layer=family.layer,
        sha256=sha256(file),
        min_frames=family.min_frames,
        any_length=family.any_length,
        frame_rate=family.frame_rate,
    )
