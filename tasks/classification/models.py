"""From a model identifier to a classifier."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mmexplain.errors import CheckpointError, ModelError, did_you_mean

if TYPE_CHECKING:
    import torch

    from mmexplain.tasks.classification.task import Classifier

BUNDLED = "efficientnet-lite0"
FAMILIES = ("torchvision", "timm")
FORMS = (BUNDLED, "torchvision:NAME", "timm:NAME", "torchvision:NAME@FILE", "timm:NAME@FILE")


def is_classifier(architecture: str) -> bool:
    """Whether an identifier without its ``@FILE`` names a classifier, by its form. Imports nothing."""
    family, colon, name = architecture.partition(":")
    return architecture == BUNDLED or (family in FAMILIES and bool(colon and name))


def load_classifier(model_id: str, device: torch.device | str = "cpu") -> Classifier:
    """A classifier in eval mode on ``device``.

    Args:
        model_id: one of :data:`FORMS`, or a file of weights whose header or model card names its ``architecture``
            (one of the first three forms) and, optionally, its ``labels``.
        device: where it should run.

    Raises:
        ModelError: no such model, a missing package, no network.
        CheckpointError: weights that do not fit.
    """
    architecture, at, version = model_id.partition("@")
    if is_classifier(architecture):
        if at and not version:
            raise ModelError(f"{model_id!r}: after '@' stands a file of weights, or the name of published ones")
        classifier = _load(architecture, version or None, model_id)
    else:
        classifier = _load(_architecture_of(model_id), model_id, model_id)
    classifier.model.to(device)
    return classifier


def _load(architecture: str, version: str | None, model_id: str) -> Classifier:
    family, _, name = architecture.partition(":")
    if architecture == BUNDLED:
        from mmexplain.tasks.classification import bundled

        return bundled.load(version, model_id)
    if family == "torchvision":
        from mmexplain.tasks.classification import torchvision_models

        return torchvision_models.load(name, version, model_id)
    from mmexplain.tasks.classification import timm_models

    return timm_models.load(name, version, model_id)


def _architecture_of(path: str) -> str:
    from mmexplain.tasks.classification.checkpoint import read_card

    architecture: Any = read_card(path).get("architecture")
    if architecture is None:
        raise CheckpointError(
            f"{path!r} does not say which architecture it holds; say it in front: 'torchvision:NAME@{path}'"
        )
    if not isinstance(architecture, str) or not is_classifier(architecture):
        raise CheckpointError(
            f"{path!r} holds {architecture!r}, which is no classifier{did_you_mean(str(architecture), FORMS)}"
        )
    return architecture
