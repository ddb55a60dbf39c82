"""C3D: Tran, Bourdev, Fergus, Torresani and Paluri, "Learning Spatiotemporal Features with 3D Convolutional Networks",
ICCV 2015, arXiv:1412.0767, figure 3; for weights of the user's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mmexplain.errors import CheckpointError, ModelError
from mmexplain.preprocess import Preprocess
from mmexplain.tasks.action.labels import choose_labels
from mmexplain.tasks.action.model import ActionModel
from mmexplain.tasks.action.names import C3D as NAME
from mmexplain.tasks.captioning.checkpoint import sha256
from mmexplain.tasks.classification.checkpoint import build_and_fit, read_card, read_state

CONVOLUTIONS = ("conv1", "conv2", "conv3a", "conv3b", "conv4a", "conv4b", "conv5a", "conv5b")
LINEAR = ("fc6", "fc7", "fc8")
PUBLISHED_WIDTHS = (64, 128, 256, 256, 512, 512, 512, 512, 4096, 4096)
FRAMES = 16
LAYER = "relu5b"


class C3D(nn.Module):
    """Clips of 16 frames → logits.

    Args:
        num_classes: how many; 487 of Sports-1M.
        widths: output channels of each convolution, then of fc6 and fc7.
        bgr: whether the first convolution was trained on blue, green, red, as Caffe and OpenCV read photos.
        end_padding: pad the last pooling at the end alone, as Caffe does in the authors' code. The ports to PyTorch pad
            it on both sides; each of its windows then begins one pixel earlier.
    """

    def __init__(
        self,
        num_classes: int = 487,
        widths: Sequence[int] = PUBLISHED_WIDTHS,
        bgr: bool = True,
        end_padding: bool = False,
    ) -> None:
        super().__init__()
        self.bgr = bgr
        inputs = 3
        for name, width in zip(CONVOLUTIONS, widths, strict=False):
            self.add_module(name, nn.Conv3d(inputs, width, 3, padding=1))
            self.add_module(name.replace("conv", "relu"), nn.ReLU())
            inputs = width
            stage = int(name[4])
            if stage == 5 and name.endswith("b"):
                options: dict[str, Any] = {"ceil_mode": True} if end_padding else {"padding": (0, 1, 1)}
                self.pool5 = nn.MaxPool3d(2, **options)
            elif stage < 3 or name.endswith("b"):
                # "with the intention of not to merge the temporal signal too early" (section 3.1)
                self.add_module(f"pool{stage}", nn.MaxPool3d((1, 2, 2) if stage == 1 else 2))
        self.flatten = nn.Flatten()
        self.fc6 = nn.Linear(inputs * 4 * 4, widths[-2])  # 16 frames of 112 x 112 leave 1 x 4 x 4
        self.relu6 = nn.ReLU()
        self.dropout6 = nn.Dropout()
        self.fc7 = nn.Linear(widths[-2], widths[-1])
        self.relu7 = nn.ReLU()
        self.dropout7 = nn.Dropout()
        self.fc8 = nn.Linear(widths[-1], num_classes)

    def forward(self, clip: Tensor) -> Tensor:
        """Logits.

        Args:
            clip: ``[B, 3, 16, 112, 112]``, RGB from 0 to 255 less the mean.

        Returns:
            ``[B, num_classes]``.

        Raises:
            ModelError: a clip of another size.
        """
        if clip.shape[1:] != (3, FRAMES, 112, 112):
            raise ModelError(f"C3D takes clips of [3, {FRAMES}, 112, 112], got {list(clip.shape[1:])}")
        if self.bgr:
            clip = clip.flip(1)
        for layer in self.children():
            clip = layer(clip)
        return clip


@dataclass(frozen=True)
class Port:
    """What a port to PyTorch calls the layers, and how it prepares clips.

    Attributes:
        names: of :data:`CONVOLUTIONS` and :data:`LINEAR`, in order.
        bgr: whether it shows the network blue, green, red.
        mean: what it subtracts, red, green, blue from 0 to 255. The authors subtract a clip of 16 x 128 x 171 pixels;
            this is about that clip's mean over time and place.
    """

    names: tuple[str, ...]
    bgr: bool
    mean: tuple[float, float, float]


_SEQUENTIAL = (0, 3, 6, 8, 11, 13, 16, 18)
PORTS = (
    # Sports-1M and UCF-101 by the paper's names (DavideA/c3d-pytorch, jfzhang95/pytorch-video-recognition)
    Port((*CONVOLUTIONS, *LINEAR), bgr=True, mean=(102, 98, 90)),
    # the file that the second of them starts from
    Port((*(f"features.{i}" for i in _SEQUENTIAL), *(f"classifier.{i}" for i in (0, 3, 6))), True, (102, 98, 90)),
    # mmaction2 (configs/recognition/c3d)
    Port(
        (
            *(f"backbone.{name if name[5:] else name + 'a'}.conv" for name in CONVOLUTIONS),
            "backbone.fc6",
            "backbone.fc7",
            "cls_head.fc_cls",
        ),
        bgr=False,
        mean=(104, 117, 128),
    ),
)


def load_c3d(file: str | None, model_id: str = NAME) -> ActionModel:
    """C3D with weights of the user's own, on the CPU, in eval mode.

    The file's header, or the model card beside it, may say ``labels``, ``channels`` ("rgb" or "bgr"), ``mean`` (red,
    green, blue from 0 to 255) and ``end_padding`` (see :class:`C3D`), where it differs from the port it came from.

    Args:
        file: weights by the names of one of :data:`PORTS`.
        model_id: the identifier as the user gave it.

    Raises:
        ModelError: no file.
        CheckpointError: it is damaged or does not fit.
    """
    if file is None:
        raise ModelError(f"{NAME!r} comes without weights; give a file of your own: '{NAME}@FILE'")
    state, card = read_state(file), read_card(file)
    port = next((port for port in PORTS if f"{port.names[0]}.weight" in state), PORTS[0])
    state = _renamed(state, port)
    channels = card.get("channels", "bgr" if port.bgr else "rgb")
    if channels not in ("rgb", "bgr"):
        raise CheckpointError(f"the card of {file!r} says channels {channels!r}; there are: 'rgb', 'bgr'")
    widths = [len(state[key]) if (key := f"{name}.weight") in state else width for name, width in _widths()]

    def build(num_classes: int = 487) -> nn.Module:
        return C3D(num_classes, widths, channels == "bgr", bool(card.get("end_padding", False)))

    model, classes = build_and_fit(build, state, file, NAME)
    return ActionModel(
        model=model,
        preprocess=_preprocess(card.get("mean", port.mean), file),
        frames=FRAMES,
        stride=1,
        labels=choose_labels(card.get("labels"), classes),
        model_id=model_id,
        layer=LAYER,
        sha256=sha256(Path(file)),
        min_frames=FRAMES,
        any_length=False,
    )


def _widths() -> list[tuple[str, int]]:
    return list(zip((*CONVOLUTIONS, *LINEAR[:2]), PUBLISHED_WIDTHS, strict=True))


def _renamed(state: Mapping[str, Tensor], port: Port) -> dict[str, Tensor]:
    ours = dict(zip(port.names, (*CONVOLUTIONS, *LINEAR), strict=True))
    parts = {key: key.rpartition(".") for key in state}
    return {f"{ours.get(layer, layer)}{dot}{leaf}": state[key] for key, (layer, dot, leaf) in parts.items()}


def _preprocess(mean: Any, file: str) -> Preprocess:
    """Squashed to 128 x 171 as OpenCV does, the central 112 x 112, from 0 to 255, less the mean."""
    try:
        red, green, blue = (float(value) / 255 for value in mean)
    except (TypeError, ValueError):
        raise CheckpointError(f"the card of {file!r} says mean {mean!r}; three numbers were expected") from None
    return Preprocess(resize=(128, 171), crop=(112, 112), mean=(red, green, blue), scale=255, antialias=False)
