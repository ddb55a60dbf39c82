"""The layers report: stages and blocks of nets whose shape is known, and numbers whose answer is known."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

import mmexplain
from mmexplain.errors import InputError, LayerError, MethodError
from mmexplain.explanation import Explanation, MapKey
from mmexplain.geometry import Geometry
from mmexplain.layer_analysis import compare, layers_report
from mmexplain.layer_report import LayersReport
from mmexplain.picture import Picture
from mmexplain.preprocess import Preprocess
from mmexplain.ranks import ranks, spearman
from mmexplain.targets import Target
from mmexplain.tasks.classification.task import Classifier
from mmexplain.units import Network, follow
from tests.command_line import picture, save_mover
from tests.models import ResidualNet, seeded
from tests.render.page import Page


def look(model: nn.Module, side: int = 64) -> Network:
    model.eval()
    image = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    return follow(model, lambda inputs: model(inputs["image"]), {"image": image}, "image")


def classifier(model: nn.Module, side: int = 64, labels: list[str] | None = None) -> Classifier:
    return Classifier(model.eval(), Preprocess(resize=(side, side), mean=(0.5,) * 3, std=(0.5,) * 3), labels)


# -- nets by hand -----------------------------------------------------------------------------------------------------


class Squeeze(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.fc(x.mean((2, 3), keepdim=True)).sigmoid()


class Inverted(nn.Module):
    """A block with a skip connection only where the shape stays the same, as in EfficientNet."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.expand = nn.Sequential(nn.Conv2d(inputs, 8, 1), nn.BatchNorm2d(8), nn.SiLU())
        self.deep = nn.Conv2d(8, 8, 3, stride, 1, groups=8)
        self.squeeze = Squeeze(8)
        self.project = nn.Conv2d(8, outputs, 1)
        self.skips = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.squeeze(self.deep(self.expand(x))))
        return x + y if self.skips else y


class Separable(nn.Module):
    """A block of another class, at the same place of the numbering, without a skip connection."""

    def __init__(self) -> None:
        super().__init__()
        self.deep, self.point = nn.Conv2d(4, 4, 3, 1, 1, groups=4), nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.point(self.deep(x))


class Mobile(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, 2, 1)
        self.blocks = nn.Sequential(
            nn.Sequential(Separable()),
            nn.Sequential(Inverted(4, 6, 2), Inverted(6, 6, 1)),
            nn.Sequential(Inverted(6, 8, 2)),
        )
        self.head = nn.Conv2d(8, 12, 1)
        self.norm = nn.BatchNorm2d(12)
        self.fc = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.stem(x))
        return self.fc(F.relu(self.norm(self.head(x))).mean((2, 3)))


def test_blocks_without_a_skip_connection_and_what_joins_inside_them() -> None:
    network = look(Mobile())
    assert [unit.name for unit in network.blocks()] == [
        "blocks.0.0",
        "blocks.1.0",
        "blocks.1.1",
        "blocks.2.0",
        "norm",
    ]
    assert [(unit.name, unit.grid) for unit in network.stages()] == [
        ("blocks.0", (32, 32)),
        ("blocks.1", (16, 16)),
        ("norm", (8, 8)),
    ]


def test_blocks_that_are_no_list() -> None:
    network = look(ResidualNet())
    assert [unit.name for unit in network.blocks()] == ["block1", "block2"]
    assert [unit.name for unit in network.stages()] == ["block2"]


def test_convolutions_with_what_follows_them_where_nothing_joins() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 4, 3, padding=1),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Dropout(),
        nn.Conv2d(4, 6, 3, padding=1),
        nn.ReLU(),
        nn.Dropout(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(24, 5),
    )
    network = look(model)
    assert [(unit.name, unit.grid) for unit in network.blocks()] == [("2", (64, 64)), ("3", (64, 64)), ("8", (32, 32))]
    assert [unit.name for unit in network.stages()] == ["3", "8"]


class Reused(nn.Module):
    """One convolution that runs three times."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.fc = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(self.conv(F.max_pool2d(self.first(x).relu(), 2)).relu())
        return self.fc(self.conv(F.max_pool2d(x, 2)).mean((2, 3)))


def test_calls_of_a_reused_module_are_told_apart() -> None:
    report = layers_report(classifier(Reused()), picture(), [0, 1], layers="blocks")
    assert [layer.name for layer in report.layers] == ["first", "conv@0", "conv@1", "conv@2"]
    assert [layer.grid for layer in report.layers] == [(64, 64), (32, 32), (32, 32), (16, 16)]
    assert [layer.stage for layer in report.layers] == [1, 2, 2, 3]
    assert [layer.downsampled for layer in report.layers] == [False, True, False, True]


class Blind(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros(len(x), 5)


def test_no_blocks_is_a_line_that_says_so() -> None:
    with pytest.raises(LayerError, match="does not depend on the photo"):
        look(Blind())
    with pytest.raises(LayerError, match="name the layers"):
        look(nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 5))).blocks()


def test_looking_leaves_no_trace() -> None:
    model = seeded(ResidualNet).train()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    image = torch.randn(1, 3, 32, 32).double()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.random.get_rng_state()
    for guard in (torch.no_grad, torch.inference_mode):
        with guard():
            network = follow(model, lambda inputs: model(inputs["image"]), {"image": image.clone()}, "image")
        assert [unit.name for unit in network.blocks()] == ["block1", "block2"]
    assert all(module.training for module in model.modules())
    assert not any(module._forward_hooks for module in model.modules())
    assert not image.requires_grad and not any(p.requires_grad or p.grad is not None for p in model.parameters())
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


# -- architectures ----------------------------------------------------------------------------------------------------


def tv(name: str, **options: object) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        import torchvision

        return torchvision.models.get_model(name, weights=None, num_classes=5, **options)

    return make


def tm(name: str, **options: object) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        import timm

        return timm.create_model(name, num_classes=5, **options)

    return make


class VGG(nn.Module):
    """torchvision's convolutions without its large linear layers, which take long to be made."""

    def __init__(self, kind: str, norm: bool) -> None:
        from torchvision.models.vgg import cfgs, make_layers

        super().__init__()
        self.features = make_layers(cfgs[kind], batch_norm=norm)
        self.fc = nn.Linear(512, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(x).mean((2, 3)))


def torchvision_vit() -> nn.Module:
    from torchvision.models import VisionTransformer

    return VisionTransformer(64, 16, 3, 2, 16, 32, num_classes=5)


def torchvision_swin() -> nn.Module:
    from torchvision.models import SwinTransformer

    return SwinTransformer([4, 4], 8, [2, 2, 1], [1, 2, 4], [4, 4], num_classes=5)


def torchvision_convnext() -> nn.Module:
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt

    return ConvNeXt([CNBlockConfig(8, 16, 2), CNBlockConfig(16, 32, 3), CNBlockConfig(32, None, 1)], num_classes=5)


CASES = {
    "resnet18": (tv("resnet18"), 64, 8, ["layer1", "layer2", "layer3", "layer4"]),
    "resnet18 (timm)": (tm("resnet18"), 64, 8, ["layer1", "layer2", "layer3", "layer4"]),
    "resnet50": (tv("resnet50"), 64, 16, ["layer1", "layer2", "layer3", "layer4"]),
    "resnet200d": (tm("resnet200d"), 64, 66, ["layer1", "layer2", "layer3", "layer4"]),
    "vgg16": (
        lambda: VGG("D", False),
        32,
        13,
        ["features.3", "features.8", "features.15", "features.22", "features.29"],
    ),
    "vgg11_bn": (
        lambda: VGG("A", True),
        32,
        8,
        ["features.2", "features.6", "features.13", "features.20", "features.27"],
    ),
    "alexnet": (tv("alexnet"), 80, 5, ["features.1", "features.4", "features.11"]),
    "efficientnet_b0": (tv("efficientnet_b0"), 64, 17, [f"features.{n}" for n in (1, 2, 3, 5, 8)]),
    "efficientnet_b0 (timm)": (tm("efficientnet_b0"), 64, 17, ["blocks.0", "blocks.1", "blocks.2", "blocks.4", "bn2"]),
    "mobilenet_v3": (tv("mobilenet_v3_small"), 64, 12, [f"features.{n}" for n in (1, 3, 8, 12)]),
    "convnext": (torchvision_convnext, 64, 6, ["features.1", "features.3", "features.5"]),
    "convnext (timm)": (tm("convnext_atto"), 64, 12, [f"stages.{n}" for n in range(4)]),
    "swin": (torchvision_swin, 64, 5, ["features.1", "features.3", "features.5"]),
    "swin (timm)": (tm("swin_tiny_patch4_window7_224", img_size=64, window_size=2), 64, 12, None),
    "vit": (torchvision_vit, 64, 3, ["encoder.layers"]),
    "vit (timm)": (tm("vit_tiny_patch16_224", img_size=64, depth=4), 64, 4, ["blocks"]),
    "densenet121": (tv("densenet121"), 64, 4, [f"features.denseblock{n}" for n in (1, 2, 3, 4)]),
    "googlenet": (
        tv("googlenet", init_weights=False, aux_logits=False),
        64,
        9,
        ["inception3b", "inception4e", "inception5b"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_stages_and_blocks_of_architectures(name: str) -> None:
    make, side, blocks, stages = CASES[name]
    torch.manual_seed(0)
    network = look(make(), side)
    assert len(network.blocks()) == blocks
    found = network.stages()
    assert [unit.name for unit in found] == (stages or [f"layers.{n}" for n in range(4)])
    areas = [math.prod(unit.grid) for unit in found]
    assert areas == sorted(areas, reverse=True) and len(set(areas)) == len(areas)


@pytest.mark.parametrize("name", ["resnet18", "vgg11_bn", "convnext", "swin (timm)", "vit (timm)"])
def test_every_kind_of_network_is_explained(name: str) -> None:
    make, side, blocks, _ = CASES[name]
    torch.manual_seed(0)
    report = layers_report(classifier(make(), side), picture(), [0, 1], layers="blocks", method="gradcam-no-relu")
    assert len(report.layers) == blocks
    assert [tuple(report.explanation.map(0, layer.name).shape) for layer in report.layers] == [
        layer.grid for layer in report.layers
    ]
    assert all(-1 <= value <= 1 for layer in report.layers[1:-1] for value in layer.neighbour)


def test_a_vit_is_listed_block_by_block_and_its_last_map_is_said_to_be_flat() -> None:
    """Its resolution never drops, and what leaves the last block beside the class token has no say."""
    torch.manual_seed(0)
    report = layers_report(classifier(CASES["vit (timm)"][0]()), picture(), [0, 1], method="gradcam-no-relu")
    assert [layer.name for layer in report.layers] == [f"blocks.{n}" for n in range(4)]
    assert report.layers[-1].flat == (True, True) and math.isnan(report.layers[-1].neighbour[0])
    assert report.layers[-2].last == pytest.approx((1.0, 1.0))
    assert "the map of 'class 0' is flat at blocks.3" in report.summary()


@pytest.mark.parametrize(
    ("model", "options"),
    [("show-attend-tell", {"caption": "a dog runs"}), ("deeper-lstm-norm-i", {"question": "what is it"})],
)
def test_the_encoder_inside_a_captioner_and_a_vqa_model(model: str, options: dict[str, str]) -> None:
    task = mmexplain.load(model, device="cpu")
    report = layers_report(task, picture(), ["dog"], **options)
    assert [layer.name for layer in report.layers] == [
        f"encoder.{n}" for n in ("blocks.0", "blocks.1", "blocks.2", "blocks.4", "bn2")
    ]
    assert [target.label for target in report.explanation.targets] == ["dog"]
    assert math.isnan(report.layers[0].discrimination), "there is nothing to tell one target from"


def test_the_layers_of_a_clip(tmp_path: Path) -> None:
    """Grids have steps in time, which are interpolated as well; one frame is shown at all layers."""
    save_mover(tmp_path / "mover.safetensors")
    frames = [picture(48, 64).point(lambda value, n=n: min(255, value + 5 * n)) for n in range(16)]
    frames[0].save(tmp_path / "clip.gif", save_all=True, append_images=frames[1:], duration=100)
    task = mmexplain.load(str(tmp_path / "mover.safetensors"), device="cpu")
    found = layers_report(task, str(tmp_path / "clip.gif"), ["jumping", "falling"], method="gradcam-no-relu")
    assert all(len(layer.grid) == 3 for layer in found.layers) and len(found.common) == 3
    assert len(found.figure().axes[0].images) == 2 * len(found.layers)
    assert not math.isnan(found.across)


# -- numbers ----------------------------------------------------------------------------------------------------------


def slow_spearman(one: list[float], other: list[float]) -> float:
    def rank(values: list[float]) -> list[float]:
        return [sum(v < value for v in values) + (sum(v == value for v in values) + 1) / 2 for value in values]

    a, b = rank(one), rank(other)
    mean = (len(a) + 1) / 2
    over = sum((x - mean) * (y - mean) for x, y in zip(a, b, strict=True))
    return over / math.sqrt(sum((x - mean) ** 2 for x in a) * sum((y - mean) ** 2 for y in b))


def test_ranks_with_ties() -> None:
    assert ranks(torch.tensor([3.0, 1.0, 3.0, 2.0, 3.0])).tolist() == [4.0, 1.0, 4.0, 2.0, 4.0]
    assert math.isnan(spearman(torch.ones(4), torch.arange(4.0)))


def test_spearman_against_a_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        one, other = torch.randint(0, 6, (2, 30), generator=generator).float()
        assert spearman(one, other) == pytest.approx(slow_spearman(one.tolist(), other.tolist()))


def explained(layers: dict[str, Tensor], side: int = 8) -> Explanation:
    """An explanation that was made by nobody: layer → maps ``[K, h, w]``."""
    count = len(next(iter(layers.values())))
    return Explanation(
        task="classify",
        model="by hand",
        text=None,
        targets=[Target(label, "class", index=n) for n, label in enumerate("abc"[:count])],
        scores=torch.zeros(count),
        probabilities=None,
        maps={MapKey(name, "gradcam"): maps for name, maps in layers.items()},
        geometry=Geometry.identity(side, side),
        picture=Picture(torch.zeros(side, side, 3, dtype=torch.uint8)),
        provenance={"input_shape": [3, side, side]},
    )


def test_known_answers() -> None:
    """Four values on two by two places that are laid over an input of two by two: no interpolation."""
    one = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    report = compare(
        explained(
            {
                "first": torch.stack([one, one]),
                "monotone": torch.stack([one**3, -one]),
                "flat": torch.stack([torch.ones(2, 2), torch.zeros(2, 2)]),
                "last": torch.stack([torch.tensor([[4.0, 0.0], [0.0, 0.0]]), torch.tensor([[0.0, 1.0], [0.0, 3.0]])]),
            },
            side=2,
        )
    )
    first, monotone, flat, last = report.layers
    assert report.common == (2, 2)
    assert math.isnan(first.neighbour[0]) and first.difference == pytest.approx(0) and first.separation == 0
    assert monotone.neighbour == pytest.approx((1.0, -1.0)) and monotone.difference == pytest.approx(2.0)
    assert math.isnan(monotone.separation), "the second map has no positive part"
    assert flat.flat == (True, True) and math.isnan(flat.neighbour[0]) and math.isnan(flat.difference)
    assert math.isnan(last.neighbour[0]) and last.last == pytest.approx((1.0, 1.0)) and last.separation == 1.0
    # The last maps' own correlation is 1; ranks 4 2 2 2 against 1.5 3 1.5 4.
    shared = slow_spearman([4, 0, 0, 0], [0, 1, 0, 3])
    assert last.discrimination == pytest.approx(1 - shared)
    own, other = slow_spearman([1, 2, 3, 4], [4, 0, 0, 0]), slow_spearman([1, 2, 3, 4], [0, 1, 0, 3])
    assert first.discrimination == pytest.approx(((own - other) + (other - own)) / 2) == pytest.approx(0)
    assert monotone.discrimination == pytest.approx(((own - other) + (own - other)) / 2)
    # Ranks 4 2 2 2 against 1 2 3 4, and 1.5 3 1.5 4 against 1 2 3 4.
    assert first.last[0] == pytest.approx(slow_spearman([4, 0, 0, 0], [1, 2, 3, 4])) == pytest.approx(-0.7746, abs=1e-4)
    assert first.last[1] == pytest.approx(slow_spearman([0, 1, 0, 3], [1, 2, 3, 4]))


def test_a_map_and_its_bilinear_enlargement_are_the_same() -> None:
    coarse = torch.rand(2, 3, 3, generator=torch.Generator().manual_seed(0)).double()
    fine = F.interpolate(coarse[None], size=(12, 12), mode="bilinear")[0]
    report = compare(explained({"fine": fine, "coarse": coarse}, side=12))
    assert report.layers[1].neighbour == pytest.approx((1.0, 1.0), abs=1e-6)
    assert report.layers[1].downsampled and report.across == pytest.approx(1.0, abs=1e-6) and math.isnan(report.within)


def test_means_within_and_across_stages() -> None:
    maps = torch.rand(5, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    half = torch.rand(1, 2, 2, generator=torch.Generator().manual_seed(2))
    report = compare(explained({"a": maps[0], "b": maps[1], "c": maps[2], "d": half}, side=4))
    within = [spearman(maps[n].flatten(), maps[n + 1].flatten()) for n in range(2)]
    assert report.within == pytest.approx(sum(within) / 2)
    assert report.across == pytest.approx(report.layers[3].neighbour[0])
    assert [(stage.number, stage.grid, stage.layers) for stage in report.stages] == [(1, (4, 4), 3), (2, (2, 2), 1)]
    assert report.stages[0].neighbour == pytest.approx(report.within) and math.isnan(report.stages[1].neighbour)


@pytest.fixture(scope="module")
def report() -> LayersReport:
    torch.manual_seed(0)
    task = classifier(CASES["resnet18"][0](), labels=["cat", "<dog>", "$c$", "d", "e"])
    return layers_report(task, picture(), ["cat", "<dog>"], layers="blocks", method="gradcam-no-relu")


def test_maps_are_those_of_each_layer_alone(report: LayersReport) -> None:
    torch.manual_seed(0)
    task = classifier(CASES["resnet18"][0]())
    for layer in ("layer1.0", "layer3.1"):
        alone = task.explain(picture(), [0, 1], layers=[layer], methods=["gradcam-no-relu"])
        torch.testing.assert_close(alone.map(1), report.explanation.map(1, layer), rtol=1e-3, atol=1e-6)


def test_chosen_layers_run_in_the_order_of_the_model() -> None:
    task = classifier(CASES["resnet18"][0]())
    found = layers_report(task, picture(), layers=["layer4", "layer2.?", "relu"])
    assert [layer.name for layer in found.layers] == ["relu", "layer2.0", "layer2.1", "layer4"]
    assert len(found.explanation) == 2, "the two likeliest classes where none is named"


def test_refusals() -> None:
    task = classifier(CASES["resnet18"][0]())
    with pytest.raises(LayerError, match="closest: 'layer4'"):
        layers_report(task, picture(), layers="layer5")
    with pytest.raises(LayerError, match="puts out a map"):
        layers_report(task, picture(), layers="fc")
    with pytest.raises(MethodError, match="one map, not one for each layer"):
        layers_report(task, picture(), method="guided-backprop")
    with pytest.raises(InputError, match="one photo at a time"):
        layers_report(task, [picture(), picture()])


# -- what is shown ----------------------------------------------------------------------------------------------------


def test_the_figure_names_what_it_shows(report: LayersReport) -> None:
    drawn = report.figure()
    told = [text.get_text() for axes in drawn.axes for text in axes.texts]
    for wanted in ("cat", "<dog>", "layer1.0", "layer4.1", "16×16", "2×2"):
        assert wanted in told
    assert len(drawn.axes[0].images) == 2 * 8
    lines = {line.get_label() for line in drawn.axes[1].get_lines()}
    assert {"correlation with the layer before", "correlation with the last layer"} <= lines


def test_rows_are_wrapped(report: LayersReport) -> None:
    width, height = report.figure(columns=8).get_size_inches()
    narrow, tall = report.figure(columns=3).get_size_inches()
    assert narrow < width and tall > height


@pytest.mark.parametrize("suffix", [".png", ".html", ".json", ".safetensors"])
def test_files(report: LayersReport, suffix: str, tmp_path: Path) -> None:
    path = report.save(tmp_path / f"report{suffix}")
    data = path.read_bytes()
    if suffix == ".json":
        record = json.loads(data)
        assert record["layers"][0]["neighbour"] == [None, None]
        assert record["neighbours_within_a_stage"] == pytest.approx(report.within)
    elif suffix == ".html":
        text = data.decode()
        assert "&lt;dog&gt;" in text and "<dog>" not in text and "http" not in text.replace("http-equiv", "")
        assert "default-src 'none'" in Page(text).of("meta")[1]["content"]
    elif suffix == ".png":
        assert data.startswith(b"\x89PNG")
    else:
        again = compare(Explanation.load(path))
        assert again.within == pytest.approx(report.within)


def test_other_files_are_refused(report: LayersReport, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'\.gif'"):
        report.save(tmp_path / "report.gif")
    with pytest.raises(InputError, match="does not exist"):
        report.save(tmp_path / "nowhere" / "report.png")


def test_it_shows_itself_in_a_notebook(report: LayersReport) -> None:
    with Image.open(io.BytesIO(report._repr_jpeg_())) as shown:
        assert shown.format == "JPEG"
        assert shown.width > shown.height / 2
    assert "8 layers in 4 stages" in repr(report) and len(repr(report)) < 1000
