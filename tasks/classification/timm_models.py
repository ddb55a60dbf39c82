"""``timm:<name>``: timm's classifiers with their own preprocessing and labels."""

from __future__ import annotations

from typing import Any

from mmexplain.errors import ModelError, did_you_mean
from mmexplain.preprocess import Preprocess
from mmexplain.tasks.classification.checkpoint import build_and_fit, read_card, read_state
from mmexplain.tasks.classification.download import downloading, require_network
from mmexplain.tasks.classification.labels import Labels, imagenet, imagenet_subset
from mmexplain.tasks.classification.task import Classifier

PREFIX = "timm:"


def load(name: str, file: str | None, model_id: str) -> Classifier:
    """A timm classifier on the CPU, in eval mode.

    Args:
        name: as timm spells it, with or without the tag of its weights ("resnet50.a1_in1k").
        file: a file of weights; None for the published ones.
        model_id: the identifier as the user gave it.

    Raises:
        ModelError: timm is not installed, no such model, no published weights, or no way to download them.
        CheckpointError: a file that does not fit.
    """
    timm = require_timm(model_id)
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        raise ModelError(f"timm has no model {architecture!r}{did_you_mean(architecture, timm.list_models())}")
    published = timm.list_pretrained(f"{architecture}.*")
    if tag and name not in published:
        raise ModelError(f"timm has no weights {name!r}; there are: {', '.join(published) or 'none'}")
    own_labels: list[str] | None = None
    if file is None:
        if not timm.is_model_pretrained(name):
            raise ModelError(f"timm publishes no weights for {name!r}; with a file at hand: '{PREFIX}{name}@FILE'")
        model = _download(timm, name, model_id)
        classes = int(model.num_classes)
    else:
        state, own_labels = read_state(file), read_card(file).get("labels")
        model, classes = build_and_fit(lambda **more: timm.create_model(name, **more), state, file, PREFIX + name)
    if not getattr(model, "num_classes", classes):
        raise ModelError(f"{model_id!r} makes features, not classes: it has no classification head")
    subset = timm.data.infer_imagenet_subset({"num_classes": classes})
    known = imagenet() if subset == "imagenet-1k" else imagenet_subset(subset) if subset else None
    preprocess = Preprocess.from_timm(timm.data.resolve_model_data_config(model))
    return Classifier(model.eval(), preprocess, Labels.choose(own_labels, known, classes), model_id=model_id)


def require_timm(model_id: str) -> Any:
    """The package timm.

    Raises:
        ModelError: it is not installed; the message says how to get it.
    """
    try:
        import timm
    except ImportError:
        raise ModelError(f"{model_id!r} needs the package timm, which is not installed: pip install timm") from None
    return timm


def _download(timm: Any, name: str, model_id: str) -> Any:
    from huggingface_hub import constants, try_to_load_from_cache

    repository = timm.get_pretrained_cfg(name).hf_hub_id
    files = ("model.safetensors", "pytorch_model.bin")
    cached = repository and any(isinstance(try_to_load_from_cache(repository, file), str) for file in files)
    if not cached and not constants.HF_HUB_OFFLINE:
        require_network(constants.ENDPOINT, model_id)
    with downloading(model_id, constants.ENDPOINT):
        return timm.create_model(name, pretrained=True)
