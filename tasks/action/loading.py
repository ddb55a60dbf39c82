"""From a model identifier to an action model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmexplain.errors import CheckpointError, ModelError, did_you_mean
from mmexplain.tasks.action.names import C3D, FORMS, I3D, is_action_model

if TYPE_CHECKING:
    import torch

    from mmexplain.tasks.action.model import ActionModel
    from mmexplain.tasks.action.task import Action


def load_action_model(model_id: str, device: torch.device | str = "cpu") -> ActionModel:
    """An action model in eval mode on ``device``.

    Args:
        model_id: one of :data:`~mmexplain.tasks.action.names.FORMS`, or a file of weights whose header or model card
            names its ``architecture`` (what stands before the ``@``) and, optionally, its ``labels``.
        device: where it should run.

    Raises:
        ModelError: no such model, weights that have not been pulled, no network.
        CheckpointError: weights that do not fit.
    """
    architecture, at, version = model_id.partition("@")
    if not is_action_model(architecture):
        architecture, version = _architecture_of(model_id), model_id
    elif at and not version:
        raise ModelError(f"{model_id!r}: after '@' stands a file of weights, or the name of published ones")
    loaded = _load(architecture, version or None, model_id)
    loaded.model.to(device)
    return loaded


def _load(architecture: str, version: str | None, model_id: str) -> ActionModel:
    if architecture == I3D:
        from mmexplain.tasks.action.i3d_weights import load_i3d

        return load_i3d(version, model_id)
    if architecture == C3D:
        from mmexplain.tasks.action.c3d import load_c3d

        return load_c3d(version, model_id)
    from mmexplain.tasks.action import torchvision_models

    return torchvision_models.load(architecture.partition(":")[2], version, model_id)


def _architecture_of(path: str) -> str:
    from mmexplain.tasks.classification.checkpoint import SUFFIXES, read_card

    if not path.lower().endswith(SUFFIXES):
        raise ModelError(
            f"unknown action model {path!r}{did_you_mean(path, FORMS)}; a model is one of {', '.join(FORMS)}"
        )
    architecture = read_card(path).get("architecture")
    if architecture is None:
        raise CheckpointError(
            f"{path!r} does not say which architecture it holds; say it in front: 'torchvision:NAME@{path}'"
        )
    if not is_action_model(str(architecture)):
        raise CheckpointError(
            f"{path!r} holds {architecture!r}, which is no action model{did_you_mean(str(architecture), FORMS)}"
        )
    return str(architecture)


def load_action_task(model_id: str, device: torch.device | str = "cpu") -> Action:
    """The task of an action model, ready to explain on ``device``.

    Raises:
        ModelError: no such model, weights that were not pulled, no network.
        CheckpointError: weights that do not fit.
    """
    from mmexplain.tasks.action.task import Action

    return Action.of(load_action_model(model_id, device))
