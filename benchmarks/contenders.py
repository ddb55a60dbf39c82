"""Grad-CAM maps of every word of a caption, by mmexplain and by its peers at the best use of their documented API.

Every contender is built once (hooks and adapters included, not timed) and then called: photo and words → maps
``[T, h, w]`` at the layer's resolution, after the ReLU, not normalised, not resized.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from captioners import TAP, Adapter, Architecture, Captioner
from torch import Tensor, nn

Maps = Callable[[], Tensor]


@dataclass
class Case:
    """One photo and one caption on one captioner."""

    architecture: Architecture
    captioner: Captioner
    image: Tensor
    tokens: Tensor

    @property
    def words(self) -> int:
        """Number of words."""
        return self.tokens.shape[1]

    @property
    def tap(self) -> nn.Module:
        """The layer that is explained."""
        return self.captioner.encoder.get_submodule(TAP[self.architecture])


def make_case(architecture: Architecture, words: int, size: int, vocabulary: int, device: str = "cpu") -> Case:
    """A case with random weights, photo and words, the same every time."""
    torch.manual_seed(0)
    captioner = Captioner(architecture, vocabulary).eval().to(device)
    image = torch.randn(1, 3, size, size).to(device)
    tokens = torch.randint(1, vocabulary, (1, words)).to(device)
    return Case(architecture, captioner, image, tokens)


def forward_alone(case: Case) -> Maps:
    """The yardstick: one forward pass through the encoder, without a graph."""

    def run() -> Tensor:
        with torch.no_grad():
            feature: Tensor = case.captioner.encoder(case.image)
        return feature

    return run


def with_mmexplain(case: Case, methods: Sequence[str] = ("gradcam",)) -> Maps:
    """``mmexplain.explain`` as it comes, from the prepared photo to the Explanation."""
    from mmexplain import explain
    from mmexplain.explanation import MapKey
    from mmexplain.geometry import Geometry
    from mmexplain.picture import Picture
    from mmexplain.preprocess import Preprocess
    from mmexplain.targets import Target
    from mmexplain.tasks.base import Batch
    from mmexplain.tasks.captioning.task import Captioning

    height, width = case.image.shape[2:]
    task = Captioning(Adapter(case.captioner), Preprocess(resize=(height, width)))
    layer = f"captioner.encoder.{TAP[case.architecture]}"
    ids = case.tokens[0].tolist()
    rows = [[Target(task.captioner.vocabulary.tokens[token], "word", (token,), i) for i, token in enumerate(ids)]]
    batch = Batch(
        {"image": case.image},
        {"tokens": case.tokens},
        [Geometry.identity(height, width)],
        [Picture(torch.zeros(height, width, 3, dtype=torch.uint8))],
    )

    def run() -> Tensor:
        explanation = explain(task, batch, rows, layers=[layer], methods=methods)[0]
        return explanation.maps[MapKey(layer, "gradcam")]

    return run


def with_mmexplain_twice(case: Case) -> Maps:
    """Grad-CAM and Grad-CAM++ from one gradient pass; the maps of Grad-CAM are returned."""
    return with_mmexplain(case, ("gradcam", "gradcam++"))


def by_hand(case: Case) -> Maps:
    """No library: the same idea in a dozen lines for this one model. What mmexplain adds to it is its overhead."""
    captioner, words = case.captioner, case.words
    steps = torch.arange(words, device=case.tokens.device)
    vgg = case.architecture == "vgg16"
    trunk = captioner.encoder.features[:30] if vgg else nn.Sequential(*list(captioner.encoder.children())[:-2])

    def rest(maps: Tensor) -> Tensor:
        if vgg:
            pooled = captioner.encoder.avgpool(captioner.encoder.features[30](maps))
            feature: Tensor = captioner.encoder.classifier(pooled.flatten(1))
            return feature
        return maps.mean((2, 3))

    def run() -> Tensor:
        with torch.no_grad():
            activations = trunk(case.image)
        repeated = activations.repeat_interleave(words, 0).requires_grad_()
        tokens = case.tokens.expand(words, -1)
        with torch.enable_grad():
            logits = captioner.speak(captioner.states(rest(repeated), tokens)[steps, steps])
            scores = logits.gather(-1, case.tokens.T)
            (gradients,) = torch.autograd.grad(scores.sum(), repeated)
        return (gradients.mean((2, 3), keepdim=True) * activations).sum(1).relu()

    return run


def with_torchcam(case: Case) -> Maps:
    """torch-cam, extractor set up once: one forward pass, a backward pass from each word over the kept graph.

    ``normalized=False``; it leaves maps at the layer's resolution.
    """
    from torchcam.methods import GradCAM

    extractor = GradCAM(case.captioner, case.tap)

    def run() -> Tensor:
        with torch.enable_grad():
            scores = case.captioner(case.image, case.tokens)
            maps = [
                extractor(class_idx=t, scores=scores, normalized=False, retain_graph=t + 1 < case.words)[0]
                for t in range(case.words)
            ]
        return torch.cat(maps)

    return run


def with_captum(case: Case) -> Maps:
    """captum's LayerGradCam, once a word; each call reads the words up to its own and projects one step.

    It leaves maps at the layer's resolution and does not normalise.
    """
    from captum.attr import LayerGradCam

    gradcam = LayerGradCam(case.captioner, case.tap)
    steps = torch.arange(case.words, device=case.tokens.device)[:, None]

    def run() -> Tensor:
        maps = [
            gradcam.attribute(case.image, additional_forward_args=(case.tokens, step), relu_attributions=True)
            for step in steps
        ]
        return torch.cat(maps)[:, 0].detach()

    return run


def with_captum_repeated(case: Case) -> Maps:
    """captum's LayerGradCam, one call with the photo repeated for every word."""
    from captum.attr import LayerGradCam

    gradcam = LayerGradCam(case.captioner, case.tap)
    steps = torch.arange(case.words, device=case.tokens.device)

    def run() -> Tensor:
        images = case.image.repeat(case.words, 1, 1, 1)
        tokens = case.tokens.repeat(case.words, 1)
        maps: Tensor = gradcam.attribute(images, additional_forward_args=(tokens, steps), relu_attributions=True)
        return maps[:, 0].detach()

    return run


class Spoken(nn.Module):
    """pytorch-grad-cam calls models with the photo alone: the words and the steps to score are kept here."""

    def __init__(self, captioner: Captioner, tokens: Tensor) -> None:
        super().__init__()
        self.captioner = captioner
        self.tokens = tokens
        self.steps = torch.arange(tokens.shape[1], device=tokens.device)

    def forward(self, image: Tensor) -> Tensor:
        """Row r's score of its step: ``[R]``."""
        scores: Tensor = self.captioner(image, self.tokens.expand(len(image), -1), self.steps)
        return scores


def _grad_cam(case: Case, model: Spoken) -> Any:
    from pytorch_grad_cam import GradCAM

    class Unscaled(GradCAM):  # type: ignore[misc, unused-ignore]
        """Without the normalisation and the resizing, which it has no switch for: they would be its time only."""

        def compute_cam_per_layer(self, input_tensor: Tensor, targets: Any, eigen_smooth: bool) -> Any:
            activations = self.activations_and_grads.activations[0].numpy()
            gradients = self.activations_and_grads.gradients[0].numpy()
            layer = self.target_layers[0]
            return self.get_cam_image(input_tensor, layer, targets, activations, gradients, eigen_smooth)

        def aggregate_multi_layers(self, cam_per_target_layer: Any) -> Any:
            return cam_per_target_layer.clip(min=0)

    return Unscaled(model, [case.tap])


def with_grad_cam(case: Case) -> Maps:
    """pytorch-grad-cam, once a word; each call reads the words up to its own and projects one step."""
    model = Spoken(case.captioner, case.tokens).eval()
    gradcam = _grad_cam(case, model)

    def run() -> Tensor:
        maps = []
        with torch.enable_grad():
            for step in range(case.words):
                model.steps = torch.tensor([step], device=case.tokens.device)
                maps.append(torch.from_numpy(gradcam(case.image, [lambda score: score])))
        return torch.cat(maps)

    return run


def with_grad_cam_repeated(case: Case) -> Maps:
    """pytorch-grad-cam, one call with the photo repeated for every word."""
    model = Spoken(case.captioner, case.tokens).eval()
    gradcam = _grad_cam(case, model)

    def run() -> Tensor:
        with torch.enable_grad():
            images = case.image.repeat(case.words, 1, 1, 1)
            return torch.from_numpy(gradcam(images, [lambda score: score] * case.words))

    return run


MMEXPLAIN = "mmexplain"
BOTH = "mmexplain, with Grad-CAM++"
ENCODER = "encoder forward alone"
BY_HAND = "by hand, no library"

PEERS: dict[str, tuple[str, Callable[[Case], Maps]]] = {
    "torch-cam, one graph": ("torchcam", with_torchcam),
    "captum, word by word": ("captum", with_captum),
    "captum, photo repeated": ("captum", with_captum_repeated),
    "pytorch-grad-cam, word by word": ("pytorch_grad_cam", with_grad_cam),
    "pytorch-grad-cam, photo repeated": ("pytorch_grad_cam", with_grad_cam_repeated),
}
"""Name → (module that must be there, contender)."""

OWN: dict[str, Callable[[Case], Maps]] = {MMEXPLAIN: with_mmexplain, BOTH: with_mmexplain_twice, BY_HAND: by_hand}
