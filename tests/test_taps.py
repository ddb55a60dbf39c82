"""Reading what layers put out as maps, naming layers, and choosing one, on the architectures that people use."""

from __future__ import annotations

import importlib
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from mmexplain.errors import LayerError, ModelError
from mmexplain.preprocess import Preprocess
from mmexplain.reader import Reader, reader_for
from mmexplain.taps import first_tensor, replace_tensor, resolve, suggest, trace
from mmexplain.tasks.classification import Classifier
from tests.models import ChannelsLastNet, PlainCNN, ResidualNet, TokenNet, VideoNet, seeded, small_mvit

SQUARE = (224, 224)


# -- reading --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "image", "expected"),
    [
        # convolutions
        ((2, 512, 7, 7), SQUARE, Reader("channels_first")),
        ((2, 7, 7, 7), SQUARE, Reader("channels_first")),
        ((2, 64, 30, 40), (240, 320), Reader("channels_first")),
        ((2, 30, 30, 40), (240, 320), Reader("channels_first")),
        ((2, 8, 5, 3), (150, 97), Reader("channels_first")),
        ((2, 2048, 8, 11), (299, 400), Reader("channels_first")),  # Inception pads nothing
        ((2, 512, 1, 1), SQUARE, Reader("channels_first")),
        ((2, 512, 1, 26), (32, 100), Reader("channels_first")),  # a text line's two strides
        # channels last
        ((2, 7, 7, 768), SQUARE, Reader("channels_last")),
        ((2, 7, 4, 768), (224, 112), Reader("channels_last")),
        ((2, 30, 40, 96), (240, 320), Reader("channels_last")),
        ((2, 1, 1, 768), SQUARE, Reader("channels_last")),
        # tokens
        ((2, 196, 192), SQUARE, Reader("tokens", 0, (14, 14))),
        ((2, 197, 192), SQUARE, Reader("tokens", 1, (14, 14))),
        ((2, 198, 192), SQUARE, Reader("tokens", 2, (14, 14))),
        ((2, 201, 192), SQUARE, Reader("tokens", 5, (14, 14))),
        ((2, 49 + 7, 64), SQUARE, Reader("tokens", 7, (7, 7))),
        ((2, 15 * 20 + 1, 64), (240, 320), Reader("tokens", 1, (15, 20))),
        ((2, 14 * 10 + 5, 64), (224, 160), Reader("tokens", 5, (14, 10))),
        ((2, 10 * 14, 64), (160, 224), Reader("tokens", 0, (10, 14))),
        # clips
        ((2, 512, 4, 7, 7), (16, 112, 112), Reader("channels_first")),
        ((2, 8, 7, 7, 512), (16, 224, 224), Reader("channels_last")),
        ((2, 8 * 14 * 14, 64), (16, 224, 224), Reader("tokens", 0, (8, 14, 14))),
        ((2, 4 * 14 * 14, 64), (8, 224, 224), Reader("tokens", 0, (4, 14, 14))),
        ((2, 1 + 8 * 7 * 10, 64), (16, 112, 160), Reader("tokens", 1, (8, 7, 10))),
        ((2, 1 + 8 * 7 * 7, 768), (16, 224, 224), Reader("tokens", 1, (8, 7, 7))),  # MViT
        ((2, 64, 56, 56), (16, 112, 112), Reader("channels_first", frames=1)),  # time is merged
        ((2, 16, 96), (16, 224, 224), None),  # one vector for each frame
        ((2, 8, 393, 96), (16, 224, 224), None),  # heads × tokens × width
        # no maps
        ((2, 1000), SQUARE, None),
        ((2, 3, 64), SQUARE, None),
        ((2, 12, 16, 64), (64, 64), None),  # heads × tokens × width
    ],
)
def test_reader_for(shape, image, expected):
    assert reader_for(shape, image) == expected


@pytest.mark.parametrize(
    ("shape", "image", "expected"),
    [
        ((32, 64, 14, 14), (16, 224, 224), Reader("channels_first", frames=16)),
        ((32, 14, 14, 64), (16, 224, 224), Reader("channels_last", frames=16)),
        ((32, 1 + 196, 64), (16, 224, 224), Reader("tokens", 1, (14, 14), frames=16)),
        ((16, 96, 8, 7, 7), (16, 224, 224), None),  # heads in the rows
        ((16, 64, 14, 14), (16, 224, 224), None),  # eight rows for each clip are neither frames nor clips
        ((32, 64, 14, 14), SQUARE, None),  # crops of a photo
        ((2, 64, 14, 14), SQUARE, Reader("channels_first")),
    ],
)
def test_reader_for_rows_that_are_the_frames_of_two_clips(shape, image, expected):
    assert reader_for(shape, image, inputs=2) == expected


def test_a_reader_puts_frames_into_the_axis_of_time():
    maps = torch.arange(2 * 3 * 4 * 5 * 6).view(2, 3, 4, 5, 6)
    assert torch.equal(Reader("channels_first", frames=4)(maps.movedim(2, 1).flatten(0, 1)), maps)
    assert torch.equal(Reader("channels_last", frames=4)(maps.movedim(1, -1).flatten(0, 1)), maps)
    assert torch.equal(Reader("channels_first", frames=1)(maps[:, :, 0]), maps[:, :, :1])


def test_the_models_own_word_on_prefix_tokens_is_tried_first():
    assert reader_for((2, 16 + 4, 8), (64, 64), 4) == Reader("tokens", 4, (4, 4))
    assert reader_for((2, 197, 8), SQUARE, 1) == Reader("tokens", 1, (14, 14))
    assert reader_for((2, 196, 8), SQUARE, 1) == Reader("tokens", 0, (14, 14))  # before the class token joins
    assert reader_for((2, 36 + 6, 8), SQUARE, 6) == Reader("tokens", 6, (6, 6))


def test_a_reader_puts_every_place_where_it_belongs():
    maps = torch.arange(2 * 3 * 4 * 5).view(2, 3, 4, 5)
    assert torch.equal(Reader("channels_first")(maps), maps)
    assert torch.equal(Reader("channels_last")(maps.permute(0, 2, 3, 1)), maps)
    tokens = torch.cat([torch.full((2, 2, 3), -1), maps.flatten(2).transpose(1, 2)], 1)
    assert torch.equal(Reader("tokens", 2, (4, 5))(tokens), maps)
    clip = torch.arange(2 * 3 * 2 * 4 * 5).view(2, 3, 2, 4, 5)
    assert torch.equal(Reader("channels_last")(clip.permute(0, 2, 3, 4, 1)), clip)
    assert torch.equal(Reader("tokens", 0, (2, 4, 5))(clip.flatten(2).transpose(1, 2)), clip)


# -- naming ---------------------------------------------------------------------------------------------------------


def test_resolve():
    model = ResidualNet()
    assert resolve(model, ["block2", "block1"]) == ["block2", "block1"]
    assert resolve(model, ["block?.conv*"]) == ["block1.conv1", "block1.conv2", "block2.conv1", "block2.conv2"]
    assert resolve(model, ["block2.conv1", "block*.conv1", "block2.conv1"]) == ["block2.conv1", "block1.conv1"]
    assert resolve(model, ["block?.relu@1"]) == ["block1.relu@1", "block2.relu@1"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("blok1", r"no layer 'blok1'; closest: 'block1', 'block2'"),
        ("block1.convolution1", r"closest: 'block1.conv"),
        ("layer?.*", r"no layer 'layer\?\.\*'"),
        ("block1@first", r"after '@' stands the number of the call, as in 'block1@0'"),
        ("", r"no layer ''"),
    ],
)
def test_names_that_fit_nothing(name, message):
    with pytest.raises(LayerError, match=message):
        resolve(ResidualNet(), [name])


def test_containers():
    old, new, other = torch.zeros(2), torch.ones(2), torch.full((2,), 2)
    assert first_tensor({"a": None, "b": old}) is old
    assert first_tensor([None, (3, old)]) is None
    for output in ((other, old), [old], {"a": old, 1: other}, OrderedDict(x=other, y=(old, old))):
        found = replace_tensor(output, old, new)
        assert type(found) is type(output)
        assert str(found) == str(output).replace("tensor([0., 0.])", "tensor([1., 1.])")
    assert first_tensor(replace_tensor((old, other), old, new)) is new


def test_outputs_of_transformers():
    outputs = pytest.importorskip("transformers.modeling_outputs")
    old, new = torch.zeros(2), torch.ones(2)
    output = outputs.BaseModelOutputWithPooling(
        last_hidden_state=old, pooler_output=torch.ones(3), hidden_states=(old,)
    )
    found = replace_tensor(output, old, new)
    assert type(found) is type(output)
    assert found.last_hidden_state is new and found[0] is new and found.hidden_states[0] is new
    assert output.last_hidden_state is old


def test_trace_lists_calls_in_order_and_leaves_the_model_alone():
    model = seeded(ResidualNet).train()
    records = trace(model, lambda: model(torch.zeros(1, 3, 12, 12).double()), (12, 12))
    assert [record.name for record in records if record.name.startswith("block1")] == [
        "block1.conv1",
        "block1.relu",
        "block1.conv2",
        "block1.relu",
        "block1",
    ]
    assert records[-1].name == "fc" and records[-1].maps is None and records[0].maps == (1, 4, 6, 6)
    assert model.training and not any(module._forward_hooks for module in model.modules())


# -- choosing -------------------------------------------------------------------------------------------------------


def chosen(model: nn.Module, *image: int) -> str:
    like = next(model.parameters())
    empty = torch.zeros(1, 3, *image, dtype=like.dtype)
    return suggest(model.eval(), lambda: model(empty), image)


@pytest.mark.parametrize(
    ("make", "image", "layer"),
    [
        (PlainCNN, (16, 16), "relu2"),
        (ResidualNet, (12, 12), "block2"),
        (VideoNet, (4, 8, 10), "conv2"),
        (ChannelsLastNet, (16, 24), "norm"),
        (lambda: TokenNet(prefix=1), (16, 16), "blocks.2.norm1"),
        (lambda: TokenNet(prefix=4), (16, 24), "blocks.2.norm1"),
        (lambda: TokenNet(prefix=0), (16, 16), "norm"),
    ],
)
def test_suggest_on_tiny_models(make, image, layer):
    model = seeded(make)
    before = [module.training for module in model.train().modules()]
    like = torch.zeros(1, 3, *image).double()
    assert suggest(model, lambda: model(like), image) == layer
    assert before == [module.training for module in model.modules()]
    assert all(parameter.grad is None for parameter in model.parameters())


TORCHVISION = {
    "resnet18": (64, "layer4"),
    "resnet50": (64, "layer4"),
    "alexnet": (96, "features.11"),
    "mobilenet_v2": (64, "features"),
    "mobilenet_v3_small": (64, "features"),
    "efficientnet_b0": (64, "features"),
    "convnext_tiny": (64, "features"),
    "densenet121": (64, "features"),
    "squeezenet1_1": (64, "features"),
    "regnet_y_400mf": (64, "trunk_output"),
    "shufflenet_v2_x0_5": (64, "conv5"),
    "swin_t": (64, "permute"),
}


@pytest.mark.parametrize("name", TORCHVISION)
def test_suggest_on_torchvision(name):
    import torchvision

    size, layer = TORCHVISION[name]
    assert chosen(getattr(torchvision.models, name)(weights=None), size, size) == layer


def _narrow_vgg16() -> nn.Module:
    from torchvision.models import vgg16

    with torch.device("meta"):
        model = vgg16(weights=None, init_weights=False)
    model.features.to_empty(device="cpu")
    model.classifier = nn.Sequential(nn.Linear(512 * 49, 16), nn.ReLU(True), nn.Linear(16, 10))
    for module in model.features:
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    return model


def _vit_b_16() -> nn.Module:
    from torchvision.models import VisionTransformer

    model = VisionTransformer(image_size=64, patch_size=16, num_layers=3, num_heads=2, hidden_dim=32, mlp_dim=64)
    nn.init.normal_(model.heads.head.weight)  # torchvision starts it at zero, where nothing matters
    return model


def _google(name: str) -> Callable[[], nn.Module]:
    import torchvision

    return lambda: getattr(torchvision.models, name)(weights=None, init_weights=False, aux_logits=True)


@pytest.mark.parametrize(
    ("make", "size", "layer"),
    [
        (_narrow_vgg16, 64, "features.29"),
        (_google("googlenet"), 96, "inception5b"),
        (_google("inception_v3"), 128, "Mixed_7c"),
        (_vit_b_16, 64, "encoder.layers.encoder_layer_2.ln_1"),
    ],
)
def test_suggest_on_more_of_torchvision(make, size, layer):
    assert chosen(make(), size, size) == layer


TIMM: dict[str, tuple[dict[str, Any], tuple[int, int], str]] = {
    "vit_tiny_patch16_224": ({"img_size": 64, "depth": 3}, (64, 64), "blocks.2.norm1"),
    "deit_tiny_distilled_patch16_224": ({"img_size": 64, "depth": 3}, (64, 64), "blocks.2.norm1"),
    "deit_small_patch16_224": ({"img_size": (64, 96), "depth": 2}, (64, 96), "blocks.1.norm1"),
    "swin_tiny_patch4_window7_224": ({"img_size": 64, "window_size": 2}, (64, 64), "norm"),
    "convnext_atto": ({}, (64, 64), "stages"),
    "regnetx_002": ({}, (64, 64), "s4"),
    "tf_efficientnet_lite0": ({}, (64, 64), "bn2"),
    "resnet18": ({}, (64, 96), "layer4"),
}


@pytest.mark.parametrize("name", TIMM)
def test_suggest_on_timm(name):
    timm = pytest.importorskip("timm")
    options, image, layer = TIMM[name]
    assert chosen(timm.create_model(name, pretrained=False, **options), *image) == layer


def test_a_map_of_one_place_is_not_chosen():
    """ResNet-18 on 32 pixels: layer4 puts out a single place."""
    import torchvision

    assert chosen(torchvision.models.resnet18(weights=None), 32, 32) == "layer3"


def test_nothing_to_choose():
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 5))
    with pytest.raises(LayerError, match="no layer of this model puts out a feature map"):
        suggest(model, lambda: model(torch.zeros(1, 3, 2, 2)), (2, 2))


def test_outputs_in_a_container_are_looked_into():
    class Dictionary(ResidualNet):
        def forward(self, x: Tensor) -> Any:  # type: ignore[override]
            return {"loss": None, "logits": super().forward(x)}

    assert chosen(seeded(Dictionary), 12, 12) == "block2"


class Centred(ResidualNet):
    """Changes a copy of the photo in place, and lets it bypass the trunk: neither is allowed with inference tensors."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * (1 + x.sub_(0).mean((1, 2, 3))[:, None])


@pytest.mark.parametrize("make", [PlainCNN, ResidualNet, TokenNet, Centred])
def test_a_layer_is_found_in_inference_mode(make):
    model = seeded(make)
    expected = suggest(model, lambda: model(torch.zeros(1, 3, 16, 16, dtype=torch.float64)), (16, 16))
    with torch.inference_mode():
        image = torch.zeros(1, 3, 16, 16, dtype=torch.float64)
        assert suggest(model, lambda: model(image), (16, 16)) == expected
        assert trace(model, lambda: model(image), (16, 16))
        assert torch.is_inference_mode_enabled()
        made = seeded(make)
        with pytest.raises(ModelError, match=r"made under torch.inference_mode\(\)"):
            suggest(made, lambda: made(image), (16, 16))
    assert not any(module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_a_classifier_explains_without_a_layer_in_inference_mode(mode):
    photo = Image.new("RGB", (16, 16), "grey")

    def explained() -> Any:
        return Classifier(model, Preprocess()).explain(photo, 1, methods=["gradcam", "guided-gradcam"])

    model = seeded(PlainCNN)
    expected = explained().maps
    with mode():
        found = explained().maps
    assert list(found) == list(expected)
    for key, value in found.items():
        torch.testing.assert_close(value, expected[key])


def conv_classifier() -> nn.Module:
    """S3D's end: a convolution scores each step in time, and its outputs are averaged."""
    body = nn.Sequential(nn.Conv3d(3, 8, 3, (1, 4, 4), 1), nn.ReLU(), nn.Conv3d(8, 8, 3, 2, 1), nn.ReLU())
    pool = nn.AvgPool3d((2, 8, 8), 1)
    end = nn.Sequential(nn.Conv3d(8, 5, 1), nn.AdaptiveAvgPool3d(1), nn.Flatten())
    return nn.Sequential(OrderedDict(features=body, avgpool=pool, classifier=end))


def frame_by_frame() -> nn.Module:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cnn = nn.Sequential(nn.Conv2d(3, 8, 3, 4, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU())
            self.lstm = nn.LSTM(8, 8, batch_first=True)
            self.fc = nn.Linear(8, 5)

        def forward(self, clip: Tensor) -> Tensor:
            grids = self.cnn(clip.transpose(1, 2).flatten(0, 1))
            said, _ = self.lstm(grids.mean((2, 3)).view(len(clip), -1, 8))
            return self.fc(said[:, -1])

    return Recurrent()


@pytest.mark.parametrize(
    ("make", "clip", "expected"),
    [
        (lambda: importlib.import_module("torchvision.models.video").r3d_18(), (8, 64, 64), "layer4"),
        (lambda: importlib.import_module("torchvision.models.video").swin3d_t(), (4, 64, 64), "norm"),
        (small_mvit, (8, 64, 64), "blocks.2.norm1"),  # the convolutions after it pool heads
        (conv_classifier, (8, 64, 64), "features"),
        (frame_by_frame, (8, 64, 64), "cnn"),
    ],
)
def test_suggest_on_video_models(make, clip, expected):
    model = make().eval()
    empty = torch.zeros(1, 3, *clip)
    assert suggest(model, lambda: model(empty), clip) == expected
