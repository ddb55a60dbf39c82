"""Attention that is computed by a matrix which can be looked at: every way to write it, and what is refused."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmexplain.attention import explicit_attention, read_attention
from mmexplain.errors import MethodError, ModelError
from mmexplain.explainer import explain
from mmexplain.explanation import MapKey
from mmexplain.probe import Probe
from mmexplain.problem import Problem
from tests.models import ModelTask, PlainCNN, TokenNet, classes, noise, seeded

METHODS = ("attention-rollout", "attention-relevance", "legrad-final")


def probe(model: nn.Module, images: Tensor, count: int = 2, **options: Any) -> Probe:
    task = ModelTask(model)
    problem = Problem(model, task.encode, task.decode, task.score, {"image": images})
    targets = [classes(*range(count))] * len(images)
    return Probe(problem, targets, torch.zeros(len(images), count), [], logits=task.logits, **options)


def maps(model: nn.Module, images: Tensor, targets: Sequence[int] = (0, 2), **options: Any) -> Tensor:
    """``[B, methods, K, *S]``."""
    task = ModelTask(model)
    found = explain(task, task.prepare(images), [classes(*targets)] * len(images), methods=METHODS, **options)
    return torch.stack([torch.stack([one.maps[MapKey("attention", name)] for name in METHODS]) for one in found])


class Written(nn.Module):
    """Self-attention over 16 tokens in one of the ways in which it is written; the class is the mean over tokens."""

    def __init__(self, way: str, heads: int = 2, classes: int = 3) -> None:
        super().__init__()
        self.way, self.heads = way, heads
        self.patches = nn.Conv2d(3, 8, 4, 4)
        self.qkv = nn.Linear(8, 24)
        self.head = nn.Linear(8, classes)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scale = q.shape[-1] ** -0.5
        mask = torch.ones(16, 16, dtype=torch.bool, device=q.device).tril()
        bias = torch.linspace(-1, 1, 256, device=q.device, dtype=q.dtype).view(16, 16)
        match self.way:
            case "fused":
                return F.scaled_dot_product_attention(q, k, v)
            case "fused by name":
                return F.scaled_dot_product_attention(query=q, key=k, value=v, scale=0.3)
            case "fused, masked":
                return F.scaled_dot_product_attention(q, k, v, mask)
            case "fused, biased":
                return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
            case "fused, causal":
                return F.scaled_dot_product_attention(q, k, v, is_causal=True)
            case "fused, shared keys":
                return F.scaled_dot_product_attention(q, k[:, :1], v[:, :1], enable_gqa=True)
            case "matrix":
                return (q @ k.mT * scale).softmax(-1) @ v
            case "module":
                return torch.matmul(F.dropout(nn.Softmax(-1)(q @ k.mT * scale), training=False), v)
            case "cast":
                return torch.matmul(F.softmax(q @ k.mT * scale, dim=-1, dtype=torch.float64).to(v.dtype), v)
            case "batched":
                q, k, v = (x.flatten(0, 1) for x in (q, k, v))
                return torch.bmm(torch.softmax(torch.bmm(q, k.mT) * scale, 2), v).unflatten(0, (-1, self.heads))
            case "einsum":
                return torch.einsum("bhij,bhjd->bhid", (q @ k.mT * scale).softmax(dim=-1), v)
        raise AssertionError(self.way)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        qkv = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        x = self.attend(*qkv).transpose(1, 2).flatten(2)
        # A sum over places alone would have the same gradient for all of them.
        weight = torch.linspace(0, 1, 16, device=x.device, dtype=x.dtype)[:, None]
        return self.head((x.square() * weight).sum(1))


WAYS = ["fused", "fused by name", "fused, masked", "fused, biased", "fused, causal", "fused, shared keys"]
WAYS += ["matrix", "module", "cast", "batched", "einsum"]


@pytest.mark.parametrize("way", WAYS)
def test_the_output_stays_and_the_matrix_is_the_one_that_is_used(way: str) -> None:
    """The gradient in direction D is the change of the score when D is added to the matrix."""
    model, images = seeded(Written, way), noise(2, 3, 16, 16)
    with torch.no_grad():
        expected = model(images)
    with explicit_attention(2, (16, 16)) as attention:
        output = model(images)
    attention.settle()
    torch.testing.assert_close(output.detach(), expected)
    assert attention.refusal is None and attention.reader is not None and attention.reader.grid == (4, 4)
    (matrix,) = attention.matrices
    by_head = matrix.detach().reshape(2, 2, 16, 16)
    torch.testing.assert_close(by_head.sum(-1), torch.ones(2, 2, 16, dtype=torch.float64))

    x = model.patches(images).flatten(2).transpose(1, 2)
    v = model.qkv(x).unflatten(2, (3, 2, -1)).permute(2, 0, 3, 1, 4)[2]
    v = v[:, :1].expand_as(v) if way == "fused, shared keys" else v
    leaf = by_head.clone().requires_grad_()
    mixed = (leaf @ v.detach()).transpose(1, 2).flatten(2)
    score = model.head((mixed.square() * torch.linspace(0, 1, 16, dtype=torch.float64)[:, None]).sum(1))[:, 1]
    (slope,) = torch.autograd.grad(score.sum(), leaf)
    (found,) = torch.autograd.grad(output[:, 1].sum(), matrix)
    torch.testing.assert_close(found.reshape(slope.shape), slope)


@pytest.mark.parametrize("weights", [True, False])
@pytest.mark.parametrize("trained", [True, False])
def test_nn_multihead_attention(weights: bool, trained: bool) -> None:
    """Its native fast path, which shows no matrix, is left aside; weights asked for or not."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Conv2d(3, 8, 4, 4)
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
            self.head = nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = self.patches(x).flatten(2).transpose(1, 2)
            return self.head(self.attention(x, x, x, need_weights=weights)[0].square().mean(1))

    model, images = seeded(Block).requires_grad_(trained), noise(2, 3, 16, 16)
    with torch.no_grad():
        expected = model(images)
        tokens = model.patches(images).flatten(2).transpose(1, 2)
        own = model.attention(tokens, tokens, tokens, average_attn_weights=False)[1]
    with explicit_attention(2, (16, 16)) as attention:
        output = model(images)
    torch.testing.assert_close(output, expected)
    (matrix,) = attention.matrices
    torch.testing.assert_close(matrix.detach().reshape(own.shape), own)
    assert torch.autograd.grad(output.sum(), matrix)[0].abs().sum() > 0


def test_frozen_parameters_and_no_grad_change_nothing() -> None:
    model, images = seeded(TokenNet), noise(2, 3, 16, 16)
    expected = maps(model, images)
    model.requires_grad_(False)
    with torch.no_grad():
        torch.testing.assert_close(maps(model, images), expected)
    with torch.inference_mode():
        torch.testing.assert_close(maps(model, images.clone()), expected)


@pytest.mark.parametrize("prefix", [0, 1, 5])
def test_targets_inputs_and_chunks_are_independent(prefix: int) -> None:
    model, images = seeded(TokenNet, prefix), noise(3, 3, 16, 16)
    found = maps(model, images, (0, 1, 4))
    assert found.shape == (3, 3, 3, 4, 4) and found.dtype == torch.float64
    assert found[:, 1:].flatten(2).abs().amax(-1).min() > 0
    for number in range(3):
        torch.testing.assert_close(maps(model, images[number : number + 1], (0, 1, 4))[0], found[number])
    for number, target in enumerate((0, 1, 4)):
        torch.testing.assert_close(maps(model, images, (target,))[:, :, 0], found[:, :, number])
    torch.testing.assert_close(maps(model, images, (0, 1, 4), memory=1), found)


def test_half_precision_is_near_float64() -> None:
    model, images = seeded(TokenNet), noise(1, 3, 16, 16)
    expected = maps(model, images).float()
    found = maps(model.bfloat16(), images.bfloat16())
    assert found.dtype == torch.float32
    assert (found - expected).abs().amax((3, 4)).max() < 0.05 * expected.abs().amax()


def test_a_clip_of_joint_tokens_is_folded_to_steps_in_time() -> None:
    class Tubes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tubes = nn.Conv3d(3, 8, (2, 4, 4), (2, 4, 4))
            self.net = seeded(TokenNet, 0)

        def forward(self, x: Tensor) -> Tensor:
            return self.net.head(self.net.norm(self.net.blocks(self.tubes(x).flatten(2).transpose(1, 2))).mean(1))

    clip = noise(1, 3, 6, 16, 16)
    found = maps(seeded(Tubes), clip)
    assert found.shape == (1, 3, 2, 3, 4, 4)
    # No prefix tokens: all that is read comes from the clip.
    torch.testing.assert_close(found[0, 0].sum((1, 2, 3)), torch.ones(2, dtype=torch.float64))


class Windows(Written):
    """Four windows of four tokens, each for itself."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2).reshape(-1, 4, 8)
        qkv = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        x = F.scaled_dot_product_attention(*qkv).transpose(1, 2).reshape(-1, 16, 8)
        return self.head(x.mean(1))


class Pooled(Written):
    """Keys and values of every fourth token."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k[:, :, ::4], v[:, :, ::4])


class Mixed(Written):
    """Heads talk to each other after the softmax."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return (q @ k.mT).softmax(-1).flip(1).mul(0.5) @ v


class Shrinking(Written):
    """A second attention over a quarter of the tokens."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x)
        for tokens in (x, F.avg_pool2d(x, 2)):
            y = tokens.flatten(2).transpose(1, 2).unsqueeze(1)
            y = F.scaled_dot_product_attention(y, y, y)
        return self.head(y[:, 0].mean(1))


class Detached(Written):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            x = super().forward(x)
        return self.head.bias + x


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        (lambda: PlainCNN(), MethodError, "no self-attention over the photo's tokens.*use 'gradcam'"),
        (lambda: Windows(""), MethodError, "attends within windows.*use 'gradcam'"),
        (lambda: Pooled(""), MethodError, "pools the keys"),
        (lambda: Mixed(""), MethodError, "mixes or changes its attention"),
        (lambda: Shrinking(""), MethodError, "different number of tokens"),
        (lambda: Detached("fused"), ModelError, "does not depend on the model's attention"),
    ],
)
@pytest.mark.parametrize("method", METHODS)
def test_other_attention_is_refused(model: Any, error: type[Exception], message: str, method: str) -> None:
    task = ModelTask(seeded(model))
    with pytest.raises(error, match=message):
        explain(task, task.prepare(noise(1, 3, 16, 16)), [classes(0)], methods=[method])


def test_a_pooling_query_and_another_thread_are_left_alone() -> None:
    tokens = noise(2, 1, 16, 8)
    found: list[int] = []

    def elsewhere() -> None:
        F.scaled_dot_product_attention(tokens, tokens, tokens)
        found.append(len(attention.matrices))

    with explicit_attention(2, (16, 16)) as attention:
        F.scaled_dot_product_attention(tokens[:, :, :1], tokens, tokens)
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
    assert found == [0] and not attention.matrices and attention.refusal is None


def test_what_is_read_is_found_by_the_gradient() -> None:
    """The class token alone, or every place alike; registers that nobody reads do not count."""
    seen: list[Tensor] = []

    def keep(matrices: list[Tensor], gradients: list[Tensor], start: Tensor) -> Tensor:
        assert len(matrices) == 3 and matrices[0].shape == (1, 1, 2, start.shape[2], start.shape[2])
        assert [tuple(g.shape) for g in gradients] == [(1, 2, *matrices[0].shape[2:])] * 3
        seen.append(start)
        return start

    for prefix in (5, 0):
        read_attention(probe(seeded(TokenNet, prefix), noise(1, 3, 16, 16)), keep)
    assert seen[0][0, 0].tolist() == [1.0] + [0.0] * 20
    torch.testing.assert_close(seen[1], torch.full((1, 2, 16), 1 / 16, dtype=torch.float64))


def timm_vit(**options: Any) -> nn.Module:
    import timm

    small = {"img_size": 64, "num_classes": 5, "depth": 2, "embed_dim": 12, "num_heads": 3, "pretrained": False}
    return timm.create_model("vit_tiny_patch16_224", **small | options)


def timm_registers() -> nn.Module:
    return timm_vit(reg_tokens=4)


def timm_mean() -> nn.Module:
    return timm_vit(class_token=False, global_pool="avg", reg_tokens=2)


def timm_pooled() -> nn.Module:
    return timm_vit(class_token=False, global_pool="map")


def timm_distilled() -> nn.Module:
    import timm

    options = {"img_size": 64, "num_classes": 5, "depth": 2, "embed_dim": 12, "num_heads": 3, "pretrained": False}
    return timm.create_model("deit_tiny_distilled_patch16_224", **options)


def torchvision_vit() -> nn.Module:
    from torchvision.models import VisionTransformer

    model = VisionTransformer(64, 16, 2, 4, 16, 32, num_classes=5)
    nn.init.normal_(model.heads[-1].weight)  # they are zero, and so would the gradients be
    return model


class HuggingFace(nn.Module):
    def __init__(self, attention: str) -> None:
        super().__init__()
        from transformers import ViTConfig, ViTForImageClassification

        sizes = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 20}
        config = ViTConfig(image_size=64, patch_size=16, num_labels=5, attn_implementation=attention, **sizes)
        self.vit = ViTForImageClassification(config)

    def forward(self, x: Tensor) -> Tensor:
        return self.vit(x).logits


REAL = [timm_vit, timm_registers, timm_mean, timm_pooled, timm_distilled, torchvision_vit]


@pytest.mark.parametrize("make", REAL)
def test_real_transformers(make: Any) -> None:
    found = maps(seeded(make), noise(2, 3, 64, 64))
    assert found.shape == (2, 3, 2, 4, 4)
    assert found[:, 1:].flatten(2).amax(-1).min() > 0


@pytest.mark.parametrize("make", [timm_vit, timm_registers])
def test_fused_and_explicit_attention_of_timm_agree(make: Any) -> None:
    model, images = seeded(make), noise(2, 3, 64, 64)
    fused = maps(model, images)
    for block in model.blocks:
        assert block.attn.fused_attn
        block.attn.fused_attn = False
    torch.testing.assert_close(maps(model, images), fused)


def test_fused_and_eager_attention_of_transformers_agree() -> None:
    images = noise(2, 3, 64, 64)
    fused, eager = (maps(seeded(HuggingFace, way), images) for way in ("sdpa", "eager"))
    assert fused[:, 1:].abs().max() > 0
    # The eager softmax is taken in float32, whatever the model's type.
    torch.testing.assert_close(eager, fused, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "resnet18", "cait_xxs24_224", "convit_tiny"])
def test_real_models_without_such_attention(name: str) -> None:
    import timm

    model = timm.create_model(name, pretrained=False, num_classes=5)
    task = ModelTask(model)
    with pytest.raises(MethodError, match=r"this model .*use 'gradcam'"):
        explain(task, task.prepare(noise(1, 3, 224, 224).float()), [classes(0)], methods=["attention-relevance"])
