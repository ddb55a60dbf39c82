"""Tiny models of every kind that the engine must handle, and the problems that tests pose about them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmexplain.problem import Problem
from mmexplain.targets import Target
from mmexplain.tasks.base import Batch, Task


class PlainCNN(nn.Module):
    """Two convolutions with in-place ReLUs and a head that sees every place apart: no global pooling."""

    def __init__(self, classes: int = 5, channels: int = 4) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, channels, 3, stride=2, padding=1)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels + 2, 3, padding=1)
        self.norm = nn.BatchNorm2d(channels + 2)
        self.relu2 = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(0.5)
        self.fc1 = nn.Linear((channels + 2) * 16, 8)
        self.fc2 = nn.Linear(8, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu1(self.conv1(x))
        x = self.relu2(self.norm(self.conv2(x)))
        x = F.adaptive_avg_pool2d(x, 4).flatten(1)
        return self.fc2(self.dropout(F.relu(self.fc1(x))))


class GapLinear(nn.Module):
    """Convolutions, global average pooling, one linear layer: the network of the CAM paper."""

    def __init__(self, classes: int = 5, channels: int = 6) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(4, channels, 3, padding=1), nn.ReLU()
        )
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(x).mean((2, 3)))


class GapMLP(GapLinear):
    """Global average pooling followed by two layers: CAM is not defined for it."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 5))  # type: ignore[assignment]


class Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv2(self.relu(self.conv1(x)))
        out += x
        return self.relu(out)


class ResidualNet(nn.Module):
    """Skip connections and a ReLU module that is called twice in each block."""

    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.block1 = Block(4)
        self.block2 = Block(4)
        self.fc = nn.Linear(4, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block2(self.block1(F.relu(self.stem(x))))
        return self.fc(F.adaptive_max_pool2d(x, 1).flatten(1))


class VideoNet(nn.Module):
    """A 3-D CNN over ``[B, 3, T, H, W]``."""

    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(3, 4, 3, stride=(1, 2, 2), padding=1)
        self.conv2 = nn.Conv3d(4, 5, 3, padding=1)
        self.fc = nn.Linear(5 * 8, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv2(F.relu(self.conv1(x))))
        return self.fc(F.adaptive_avg_pool3d(x, 2).flatten(1))


def small_mvit() -> nn.Module:
    """torchvision's MViT v2 with three blocks; the second halves the grid."""
    from torchvision.models.video.mvit import MSBlockConfig, MViT

    def block(inputs: int, outputs: int, heads: int, q: int, kv: int) -> MSBlockConfig:
        return MSBlockConfig(heads, inputs, outputs, [3, 3, 3], [3, 3, 3], [1, q, q], [1, kv, kv])

    blocks = [block(16, 32, 1, 1, 4), block(32, 32, 2, 2, 2), block(32, 32, 2, 1, 2)]
    return MViT(
        (64, 64), 8, blocks, residual_pool=True, residual_with_cls_embed=False, rel_pos_embed=True, proj_after_attn=True
    )


class Attention(nn.Module):
    def __init__(self, width: int, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, c))


class TransformerBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = Attention(width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class TokenNet(nn.Module):
    """A vision transformer with ``prefix`` class and register tokens; the class is read off the first token."""

    def __init__(self, prefix: int = 1, classes: int = 5, width: int = 8, patch: int = 4) -> None:
        super().__init__()
        self.patch_embed = nn.Conv2d(3, width, patch, patch)
        self.prefix = nn.Parameter(torch.randn(1, prefix, width))
        self.blocks = nn.Sequential(*[TransformerBlock(width) for _ in range(3)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.prefix.expand(len(x), -1, -1), x], 1)
        x = self.norm(self.blocks(x))
        return self.head(x[:, 0] if self.prefix.shape[1] else x.mean(1))


class ChannelsLastNet(nn.Module):
    """Maps with the channels last, as in Swin."""

    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 6, 4, 4)
        self.mix = nn.Linear(6, 10)
        self.norm = nn.LayerNorm(10)
        self.head = nn.Linear(10, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.mix(self.patch(x).permute(0, 2, 3, 1)))
        weight = torch.linspace(0, 1, x.shape[1] * x.shape[2], device=x.device, dtype=x.dtype).view(1, *x.shape[1:3], 1)
        return self.head((self.norm(x) * weight).sum((1, 2)))


class Captioner(nn.Module):
    """A CNN whose pooled features start an LSTM that reads the caption's words: encode and decode apart."""

    def __init__(self, vocabulary: int = 11, width: int = 7) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(4, 6, 3, padding=1)
        self.embed = nn.Embedding(vocabulary, width)
        self.bridge = nn.Linear(6, width)
        self.lstm = nn.LSTM(width, width, batch_first=True)
        self.out = nn.Linear(width, vocabulary)

    def encode(self, image: Tensor) -> Tensor:
        return F.relu(self.conv2(F.relu(self.conv1(image), inplace=True)), inplace=True)

    def decode(self, features: Tensor, tokens: Tensor) -> Tensor:
        """Log-probabilities ``[R, T, V]`` of the word at each place, given the words before it."""
        first = self.bridge(features.mean((2, 3)))[:, None]
        hidden, _ = self.lstm(torch.cat([first, self.embed(tokens[:, :-1])], 1))
        return self.out(hidden).log_softmax(-1)


class AttentiveCaptioner(Captioner):
    """The same with soft attention over the grid in front of the LSTM, so that the gradient varies over the map."""

    def decode(self, features: Tensor, tokens: Tensor) -> Tensor:
        grid = features.flatten(2).transpose(1, 2)
        query = self.embed(tokens) @ self.bridge.weight
        share = (query @ grid.transpose(1, 2)).softmax(-1)
        hidden, _ = self.lstm(self.bridge(share @ grid))
        return self.out(hidden).log_softmax(-1)


class LateCaptioner(AttentiveCaptioner):
    """``decode`` holds convolutions of its own, one of them called twice: taps on both sides of the features."""

    def __init__(self) -> None:
        super().__init__()
        self.twice = nn.Conv2d(4, 4, 3, padding=1)

    def encode(self, image: Tensor) -> Tensor:
        return F.relu(self.conv1(image))

    def decode(self, features: Tensor, tokens: Tensor) -> Tensor:
        features = self.twice(F.relu(self.twice(features), inplace=True))
        return super().decode(F.relu(self.conv2(features), inplace=True), tokens)


class Head(nn.Module):
    """What follows the tapped layer: piecewise linear, and blind to no place."""

    def __init__(self) -> None:
        super().__init__()
        self.tap = nn.ReLU()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.fc1 = nn.Linear(4 * 9, 8)
        self.fc2 = nn.Linear(8, 5)

    def after(self, x: Tensor) -> Tensor:
        return self.fc2(self.fc1(self.conv(x).relu().flatten(1)).relu())

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.tap(x))


# -- problems -------------------------------------------------------------------------------------------------------


def classes(*numbers: int) -> list[Target]:
    return [Target(f"class {number}", "class", (number,)) for number in numbers]


def words(tokens: Sequence[int]) -> list[Target]:
    return [Target(f"word {token}", "word", (token,), index) for index, token in enumerate(tokens)]


def class_score(output: Tensor, rows: Sequence[Sequence[Target]]) -> Tensor:
    ids = torch.tensor([[target.ids[0] for target in row] for row in rows], device=output.device)
    return output.gather(1, ids)


def word_score(output: Tensor, rows: Sequence[Sequence[Target]]) -> Tensor:
    places = torch.tensor([[target.index for target in row] for row in rows], device=output.device)
    ids = torch.tensor([[target.ids[0] for target in row] for row in rows], device=output.device)
    return output[torch.arange(len(rows), device=output.device)[:, None], places, ids]


def class_problem(model: nn.Module, image: Tensor) -> Problem:
    return Problem(
        model,
        lambda inputs: model(inputs["image"]),
        lambda features, context: features,
        class_score,
        {"image": image},
    )


def caption_problem(model: Captioner, image: Tensor, tokens: Tensor) -> Problem:
    return Problem(
        model,
        lambda inputs: model.encode(inputs["image"]),
        lambda features, context: model.decode(features, context["tokens"]),
        word_score,
        {"image": image},
        {"tokens": tokens},
    )


def seeded(make: Callable[..., nn.Module], *args: Any, seed: int = 0, **options: Any) -> Any:
    """A model with weights of its own seed, in float64 and eval mode; norms with statistics that are not trivial."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        model = make(*args, **options).double().eval()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_()  # type: ignore[union-attr]
                module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    return model


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def keep(layer: str, activations: Tensor, gradients: Tensor) -> dict[str, Tensor]:
    """A reducer that keeps what it is given."""
    return {"activations": activations.expand_as(gradients), "gradients": gradients}


class ModelTask(Task):
    """The least that makes a classifier explainable: tensors in, class numbers as targets."""

    name = "test"

    def __init__(self, model: nn.Module, layer: str | None = None) -> None:
        self.model, self.model_id, self._layer = model, type(model).__name__, layer

    def prepare(self, image: Tensor) -> Batch:
        return Batch({"image": image}, {}, [None] * len(image), [None] * len(image))  # type: ignore[list-item]

    def encode(self, inputs: dict[str, Tensor]) -> Tensor:
        return self.model(inputs["image"])

    def score(self, output: Any, targets: Sequence[Sequence[Target]]) -> Tensor:
        return class_score(output, targets)

    def probability(self, output: Any, targets: Sequence[Sequence[Target]]) -> Tensor:
        return class_score(output.softmax(-1), targets)

    def logits(self, output: Any, targets: Sequence[Sequence[Target]]) -> Tensor:
        return output[:, None].expand(-1, len(targets[0]), -1)

    def default_layer(self) -> str:
        assert self._layer is not None
        return self._layer


class OneConv(nn.Module):
    """captum's ``BasicModel_ConvNet_One_Conv``: weights of ones, so that everything can be worked by hand."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 2, 3)
        self.relu1 = nn.ReLU(inplace)
        self.fc1 = nn.Linear(8, 4)
        self.relu2 = nn.ReLU(inplace)
        with torch.no_grad():
            self.conv1.weight.fill_(1)
            self.conv1.bias.copy_(torch.tensor([-50.0, -75.0]))  # type: ignore[union-attr]
            self.fc1.weight.copy_(torch.cat([torch.ones(4, 5), -torch.ones(4, 3)], 1))
            self.fc1.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu2(self.fc1(self.relu1(self.conv1(x)).view(-1, 8)))
