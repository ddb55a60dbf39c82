"""VQA tasks by name: the bundled models and files of the user's."""

from __future__ import annotations

from pathlib import Path

import torch

from mmexplain.errors import ModelError, did_you_mean
from mmexplain.preprocess import Preprocess
from mmexplain.tasks.captioning.encoder import MEAN, STD
from mmexplain.tasks.vqa.names import DEFAULT
from mmexplain.tasks.vqa.task import VQA
from mmexplain.tasks.vqa.weights import ARCHITECTURES, load_vqa
from mmexplain.tasks.zoo import zoo_path


def load_vqa_task(model_id: str = DEFAULT, device: torch.device | str = "cpu") -> VQA:
    """A bundled model by its id, or one saved by the training command by its path.

    Photos are squashed to the model's square, as in training: nothing of them stays unseen.

    Raises:
        ModelError: no such model.
        CheckpointError: the file does not fit.
    """
    path = zoo_path(model_id) if model_id in ARCHITECTURES else Path(model_id)
    if not path.is_file():
        if model_id in ARCHITECTURES:
            raise ModelError(f"the weights of {model_id!r} are missing from this installation: install mmexplain again")
        hint = did_you_mean(model_id, ARCHITECTURES)
        raise ModelError(f"no VQA model {model_id!r}: give {' or '.join(ARCHITECTURES)}, or a .safetensors file{hint}")
    answerer = load_vqa(path).to(device)
    size = answerer.input_size
    preprocess = Preprocess(resize=(size, size), mean=MEAN, std=STD)
    return VQA(answerer, preprocess, layer="encoder.smooth", model_id=model_id, weights=path)
