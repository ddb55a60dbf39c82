"""Both captioners against slow re-implementations, their promises to the engine, and their files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from mmexplain.errors import CheckpointError
from mmexplain.tasks.captioning.checkpoint import read_tensors, write_tensors
from mmexplain.tasks.captioning.encoder import GridEncoder
from mmexplain.tasks.captioning.show_and_tell import ShowAndTell
from mmexplain.tasks.captioning.show_attend_tell import ShowAttendTell, doubly_stochastic
from mmexplain.tasks.captioning.vocabulary import SPECIAL, Vocabulary
from mmexplain.tasks.captioning.weights import load_captioner, save_captioner

VOCABULARY = Vocabulary([*SPECIAL, *(f"w{i}" for i in range(20))])
Captioner = ShowAndTell | ShowAttendTell


def make(architecture: type[Captioner]) -> Captioner:
    torch.manual_seed(0)
    if architecture is ShowAndTell:
        return ShowAndTell(VOCABULARY, embedding=24, hidden=16).eval()
    return ShowAttendTell(VOCABULARY, annotation=20, attention=12, embedding=24, hidden=16).eval()


@pytest.fixture(params=[ShowAndTell, ShowAttendTell])
def captioner(request: pytest.FixtureRequest) -> Captioner:
    return make(request.param)


@pytest.fixture
def grid() -> Tensor:
    return torch.rand(3, 1280, 2, 3, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def tokens() -> Tensor:
    return torch.randint(4, len(VOCABULARY), (3, 5), generator=torch.Generator().manual_seed(2))


def test_the_encoder_is_timms_network_smoothed() -> None:
    import timm

    torch.manual_seed(3)
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    encoder = GridEncoder()
    encoder.load_state_dict({k: v for k, v in network.state_dict().items() if not k.startswith("classifier")})
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        expected = network.forward_features(images)
        padded = torch.nn.functional.pad(expected, (1, 1, 1, 1))
        expected = sum(padded[:, :, i : i + 2, j : j + 3] for i in range(3) for j in range(3)) / 9
        assert torch.allclose(encoder(images), expected, atol=1e-5)


def test_batch_norm_keeps_its_statistics_in_training() -> None:
    encoder = GridEncoder().train()
    before = {name: buffer.clone() for name, buffer in encoder.named_buffers()}
    encoder(torch.randn(2, 3, 32, 32))
    assert all(torch.equal(buffer, before[name]) for name, buffer in encoder.named_buffers())


def test_stepping_is_teacher_forcing(captioner: Captioner, grid: Tensor, tokens: Tensor) -> None:
    output = captioner.decode(grid, tokens)
    state, previous = captioner.start(grid), torch.full((3,), VOCABULARY.start)
    for t in range(tokens.shape[1]):
        hidden, state, attention = captioner.step(state, previous)
        assert torch.allclose(hidden, output.hidden[:, t], atol=1e-6)
        if attention is not None:
            assert output.attention is not None
            assert torch.allclose(attention, output.attention[:, t], atol=1e-6)
        previous = tokens[:, t]


def test_several_captions_of_a_photo_are_as_good_as_repeated_photos(captioner: Captioner, grid: Tensor) -> None:
    tokens = torch.randint(4, len(VOCABULARY), (6, 4), generator=torch.Generator().manual_seed(4))
    shared = captioner.decode(grid, tokens)
    repeated = captioner.decode(grid.repeat_interleave(2, 0), tokens)
    assert torch.allclose(shared.hidden, repeated.hidden, atol=1e-6)


def test_rows_are_independent_and_words_see_only_what_came_before(
    captioner: Captioner, grid: Tensor, tokens: Tensor
) -> None:
    features = grid.clone().requires_grad_()
    hidden = captioner.decode(features, tokens).hidden
    (gradient,) = torch.autograd.grad(hidden[1].sum(), features)
    assert gradient[1].abs().sum() > 0
    assert gradient[[0, 2]].abs().sum() == 0
    other = tokens.clone()
    other[:, 3] = 4
    changed = captioner.decode(grid, other).hidden
    assert torch.equal(changed[:, :4], hidden[:, :4])


def lstm(cell: torch.nn.Module, suffix: str, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Gates written out, in the order i, f, g, o."""
    gates = x @ getattr(cell, f"weight_ih{suffix}").T + getattr(cell, f"bias_ih{suffix}")
    gates = gates + h @ getattr(cell, f"weight_hh{suffix}").T + getattr(cell, f"bias_hh{suffix}")
    i, f, g, o = gates.chunk(4)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def test_show_and_tell_by_its_equations(grid: Tensor, tokens: Tensor) -> None:
    model = make(ShowAndTell).double()
    assert isinstance(model, ShowAndTell)
    grid = grid.double()
    logits = model.project(model.decode(grid, tokens).hidden)
    h = c = torch.zeros(16, dtype=torch.float64)
    h, c = lstm(model.lstm, "_l0", model.see.weight @ grid[0].mean((1, 2)) + model.see.bias, h, c)  # eq. 10
    for t, word in enumerate([VOCABULARY.start, *tokens[0, :-1].tolist()]):
        h, c = lstm(model.lstm, "_l0", model.embed.weight[word], h, c)  # eqs 11 and 12
        assert torch.allclose(logits[0, t], model.output.weight @ h + model.output.bias, atol=1e-10)


def test_show_attend_and_tell_by_its_equations(grid: Tensor, tokens: Tensor) -> None:
    model = make(ShowAttendTell).double()
    assert isinstance(model, ShowAttendTell)
    grid = grid.double()
    output = model.decode(grid, tokens)
    assert output.attention is not None
    logits = model.project(output.hidden)
    a = torch.stack([model.annotate(grid[0, :, y, x]) for y in range(2) for x in range(3)])
    h, c = torch.tanh(model.init_h(a.mean(0))), torch.tanh(model.init_c(a.mean(0)))
    for t, word in enumerate([VOCABULARY.start, *tokens[0, :-1].tolist()]):
        e = torch.stack([model.energy(torch.tanh(model.key(a_i) + model.query(h))) for a_i in a])[:, 0]  # eq. 4
        alpha = e.exp() / e.exp().sum()  # eq. 5
        z = torch.sigmoid(model.gate(h)) * sum(w * a_i for w, a_i in zip(alpha, a, strict=True))  # eq. 13, with β
        h, c = lstm(model.lstm, "", torch.cat([model.embed.weight[word], z]), h, c)
        expected = model.l_o(model.embed.weight[word] + model.l_h(h) + model.l_z(z))  # eq. 7
        assert torch.allclose(output.attention[0, t].flatten().double(), alpha, atol=1e-6)  # the softmax runs in fp32
        assert torch.allclose(logits[0, t], expected, atol=1e-5)


def test_detectors_survive_the_move_into_a_decoder(captioner: Captioner, grid: Tensor) -> None:
    generator = torch.Generator().manual_seed(5)
    weight, bias = torch.randn(6, 1280, generator=generator), torch.randn(6, generator=generator)
    chosen = [5, 7, 8, 11, 12, 20]
    captioner.adopt_detector(weight, bias, chosen)
    with torch.no_grad():
        for name, parameter in captioner.named_parameters():
            if name in ("see.bias", "annotate.bias"):
                parameter.zero_()
        # the other rows of the first layer meet random entries of the words' vectors in Show and Tell: leave them out
        if isinstance(captioner, ShowAndTell):
            captioner.embed.weight[chosen, 6:] = 0
        found = captioner.detect(grid, torch.tensor(chosen))
    expected = torch.einsum("wc,bchv->bwhv", weight, grid) + bias[:, None, None]
    assert torch.allclose(found, expected, atol=1e-3)


def test_coverage_by_hand() -> None:
    attention = torch.tensor([[[[0.5, 0.5]], [[1.0, 0.0]], [[0.0, 1.0]]]])
    mask = torch.tensor([[True, True, False]])
    assert doubly_stochastic(attention, mask) == pytest.approx(((1 - 1.5) ** 2 + (1 - 0.5) ** 2) / 2)


def test_a_model_survives_its_file(captioner: Captioner, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_captioner(path, captioner, {"input_size": 96, "name": "tiny"})
    again = load_captioner(path)
    assert type(again) is type(captioner) and again.vocabulary == VOCABULARY and again.input_size == 96
    assert not again.training
    for name, tensor in captioner.state_dict().items():
        kept = again.state_dict()[name]
        assert kept.dtype == tensor.dtype
        assert torch.allclose(kept, tensor, rtol=1e-3, atol=1e-6)
    assert path.with_suffix(".json").exists()


def test_a_file_that_does_not_fit_is_told_in_one_line(captioner: Captioner, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_captioner(path, captioner, {"input_size": 96})
    tensors, header = read_tensors(path)
    del tensors["embed.weight"]
    tensors["extra"] = torch.zeros(1)
    tensors["detection_bias"] = torch.zeros(3)
    write_tensors(path, tensors, header)
    with pytest.raises(CheckpointError) as caught:
        load_captioner(path)
    text = str(caught.value)
    assert "missing embed.weight" in text and "unexpected extra" in text and "[3] instead of [24]" in text
    assert "\n" not in text


@pytest.mark.parametrize("content", [None, b"", b"no tensors", b"\xff" * 100])
def test_what_is_no_checkpoint_is_told_in_one_line(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        load_captioner(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    write_tensors(path, {"weight": torch.zeros(2)}, {"architecture": "resnet"})
    with pytest.raises(CheckpointError, match="'resnet'"):
        load_captioner(path)
