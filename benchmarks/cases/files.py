"""From a file to a file: a JPEG is decoded, explained, coloured and saved."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import skimage.data
import torch
from peers.naive import backward_from, kept, weighed
from PIL import Image
from torch import Tensor
from torch.nn import functional
from torchvision import transforms

from cases.case import (
    GRAD_CAM,
    NAIVE,
    OWN,
    Case,
    ClassScores,
    Contender,
    Maps,
    Ready,
    Subject,
    Variants,
    freeze,
    gathered,
)
from cases.classes import TITLES, model_of
from mmexplain.preprocess import Preprocess
from mmexplain.tasks.classification.task import Classifier

GROUP = "From a JPEG to an overlay"
CLASS = 0
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@lru_cache(maxsize=1)
def folder() -> tempfile.TemporaryDirectory[str]:
    """Where the photo lies and the overlays go; it is there as long as the process."""
    made = tempfile.TemporaryDirectory(prefix="mmexplain-bench-")
    Image.fromarray(skimage.data.astronaut()).save(Path(made.name, "photo.jpg"), quality=90)
    return made


def least_to_one(maps: Maps) -> Maps:
    """Scaled from 0 to 1."""
    return [(value - value.amin()) / (value - value.amin()).amax() for value in maps]


class Recipe:
    """What the peers' recipes share: reading with PIL, torchvision's transforms, and saving.

    Args:
        subject: the model.
        size: side of its input.
    """

    def __init__(self, subject: Subject, size: int) -> None:
        self.subject = subject
        self.source = Path(folder().name, "photo.jpg")
        self.prepare = transforms.Compose(
            [transforms.Resize((size, size)), transforms.ToTensor(), transforms.Normalize(MEAN, DEVIATION)]
        )

    def read(self) -> tuple[Any, Tensor]:
        """Photo and input."""
        photo = Image.open(self.source).convert("RGB")
        return photo, self.prepare(photo)[None].to(self.subject.image.device)

    def save(self, name: str, overlay: Any) -> None:
        """The overlay, as large as the photo, as JPEG."""
        picture = overlay if isinstance(overlay, Image.Image) else Image.fromarray(overlay)
        picture.convert("RGB").save(Path(folder().name, f"{name}.jpg"), quality=90)

    def blend(self, photo: Any, map: Tensor) -> Any:
        """A map ``[h, w]`` from 0 to 1, as large as the photo, in colours over it."""
        from matplotlib import colormaps

        heat = colormaps["jet"](map.cpu().numpy())[..., :3]
        return np.uint8(255 * (0.5 * heat + 0.5 * np.float32(photo) / 255))

    def naive(self) -> Variants:
        """Hooks, a backward pass, matplotlib's colours."""

        def run(_: int) -> Maps:
            photo, image = self.read()
            with kept(self.subject.taps) as (activations, gradients):
                backward_from(self.subject.scores, image, 0)
                (map,) = least_to_one([weighed(activations[0], gradients[0])])
            large = functional.interpolate(map[None], size=photo.size[::-1], mode="bilinear")[0, 0]
            self.save("naive", self.blend(photo, large))
            return [map[None]]

        return {"": Contender(run, seen_as=least_to_one)}

    def torch_cam(self) -> Variants:
        """Its README: ``GradCAM`` and ``overlay_mask``."""
        from torchcam.methods import GradCAM
        from torchcam.utils import overlay_mask
        from torchvision.transforms.functional import to_pil_image

        def run(_: int) -> Maps:
            photo, image = self.read()
            self.subject.scores.want([0])
            with torch.enable_grad(), GradCAM(self.subject.scores, self.subject.taps[0]) as extractor:
                (map,) = extractor(class_idx=0, scores=self.subject.scores(image))
            self.save("torch-cam", overlay_mask(photo, to_pil_image(map[0], mode="F"), alpha=0.5))
            return [map[None]]

        return {"": Contender(run, seen_as=lambda maps: least_to_one([value.relu() for value in maps]))}

    def captum(self) -> Variants:
        """``LayerGradCam``, ``interpolate``, and matplotlib's colours without a figure, which would cost more."""
        from captum.attr import LayerAttribution, LayerGradCam

        method = LayerGradCam(self.subject.scores, self.subject.taps[0])

        def run(_: int) -> Maps:
            photo, image = self.read()
            self.subject.scores.want([0])
            with torch.enable_grad():
                map = method.attribute(image, target=0, relu_attributions=True).detach()
            large = LayerAttribution.interpolate(map, photo.size[::-1], "bilinear")[0, 0]
            self.save("captum", self.blend(photo, large / large.max()))
            return [map]

        return {"": Contender(run)}

    def grad_cam(self) -> Variants:
        """Its README: ``GradCAM`` and ``show_cam_on_image``, the map resized to the photo by OpenCV."""
        import cv2
        from pytorch_grad_cam import GradCAM
        from pytorch_grad_cam.utils.image import show_cam_on_image
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

        def run(_: int) -> Maps:
            photo, image = self.read()
            self.subject.scores.want([0])
            with torch.enable_grad(), GradCAM(self.subject.scores, self.subject.taps) as method:
                (map,) = method(image, [ClassifierOutputTarget(0)])
            large = cv2.resize(map, photo.size)
            self.save("pytorch-grad-cam", show_cam_on_image(np.float32(photo) / 255, large, use_rgb=True))
            return [torch.from_numpy(map)[None, None]]

        def enlarged(maps: Maps) -> Maps:
            size = tuple(self.subject.image.shape[2:])
            return least_to_one([functional.interpolate(least_to_one(maps)[0], size=size, mode="bilinear")])

        return {"": Contender(run, seen_as=enlarged)}


def build(architecture: str, size: int, device: str) -> Ready:
    """One class."""
    model = model_of(architecture, device)
    task = Classifier(model, Preprocess(resize=(size, size), mean=MEAN, std=DEVIATION))
    source, target = Path(folder().name, "photo.jpg"), Path(folder().name, "mmexplain.jpg")

    def explain() -> Maps:
        explanation = task.explain(source, [CLASS], layers=["layer4"])
        explanation.overlay(0).convert("RGB").save(target, quality=90)
        return [explanation.map(0)[None, None]]

    subject = Subject(ClassScores(model, 1), task.prepare(source).inputs["image"], ["layer4"], explain)
    freeze(subject)
    recipe = Recipe(subject, size)
    builders: dict[str, Callable[[], Variants]] = {
        OWN: lambda: {"": Contender(lambda _: subject.explain())},
        NAIVE: recipe.naive,
        "torch-cam": recipe.torch_cam,
        "captum": recipe.captum,
        GRAD_CAM: recipe.grad_cam,
    }
    return Ready(subject, *gathered(builders))


def cases(tiny: bool) -> Iterator[Case]:
    """One."""
    architecture = "resnet18" if tiny else "resnet50"
    name = f"JPEG to JPEG, {TITLES[architecture]}, 1 class"
    yield Case(GROUP, name, GROUP, 1, 1, partial(build, architecture, 64 if tiny else 224), quick=True)
