"""Captioning tasks by name: the bundled models and files of the user's."""

from __future__ import annotations

from pathlib import Path

import torch

from mmexplain.errors import ModelError, did_you_mean
from mmexplain.preprocess import Preprocess
from mmexplain.tasks.captioning.encoder import MEAN, STD
from mmexplain.tasks.captioning.task import Captioning
from mmexplain.tasks.captioning.weights import ARCHITECTURES, load_captioner
from mmexplain.tasks.zoo import zoo_path

DEFAULT_CAPTIONER = "show-attend-tell"


def load_captioner_task(model: str = DEFAULT_CAPTIONER, device: torch.device | str = "cpu") -> Captioning:
    """A bundled captioner by its id, or one saved by the training command by its path.

    Photos are squashed to the model's square, as in training: nothing of them stays unseen.

    Raises:
        ModelError: no such model.
        CheckpointError: the file does not fit.
    """
    path = zoo_path(model) if model in ARCHITECTURES else Path(model)
    if model in ARCHITECTURES and not path.is_file():
        raise ModelError(f"the weights of {model!r} are missing from this installation: install mmexplain again")
    if not path.is_file():
        hint = did_you_mean(model, ARCHITECTURES)
        raise ModelError(f"no captioner {model!r}: give {' or '.join(ARCHITECTURES)}, or a .safetensors file{hint}")
    captioner = load_captioner(path).to(device)
    size = captioner.input_size
    preprocess = Preprocess(resize=(size, size), mean=MEAN, std=STD)
    return Captioning(captioner, preprocess, layer="encoder.smooth", model_id=model, weights=path)
