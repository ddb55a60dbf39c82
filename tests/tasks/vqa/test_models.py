"""Both VQA models against slow re-implementations, their promises to the engine, and their files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mmexplain.errors import CheckpointError
from mmexplain.tasks.captioning.checkpoint import read_tensors, write_tensors
from mmexplain.tasks.captioning.vocabulary import SPECIAL, Vocabulary
from mmexplain.tasks.vqa.answering import question_tokens
from mmexplain.tasks.vqa.coattention import CoAttention
from mmexplain.tasks.vqa.deeper_lstm import DeeperLSTM
from mmexplain.tasks.vqa.weights import load_encoder, load_vqa, save_vqa

VOCABULARY = Vocabulary([*SPECIAL, *(f"w{i}" for i in range(20))])
ANSWERS = ["dog", "red", "two", "garbage bin", "grass"]
Model = DeeperLSTM | CoAttention


def make(architecture: type[Model]) -> Model:
    torch.manual_seed(0)
    if architecture is DeeperLSTM:
        return DeeperLSTM(VOCABULARY, ANSWERS, embedding=10, hidden=8, common=12).eval()
    return CoAttention(VOCABULARY, ANSWERS, size=12, attention=6).eval()


@pytest.fixture(params=[DeeperLSTM, CoAttention])
def model(request: pytest.FixtureRequest) -> Model:
    return make(request.param)


@pytest.fixture
def grid() -> Tensor:
    return torch.rand(3, 1280, 2, 3, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def question() -> Tensor:
    """Three questions of 5, 1 and 3 words."""
    words = torch.randint(4, len(VOCABULARY), (3, 5), generator=torch.Generator().manual_seed(2))
    return torch.where(torch.arange(5) < torch.tensor([[5], [1], [3]]), words, VOCABULARY.pad)


def sigmoid_lstm(cell: nn.Module, suffix: str, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Gates written out, in the order i, f, g, o."""
    gates = x @ getattr(cell, f"weight_ih{suffix}").T + getattr(cell, f"bias_ih{suffix}")
    gates = gates + h @ getattr(cell, f"weight_hh{suffix}").T + getattr(cell, f"bias_hh{suffix}")
    i, f, g, o = gates.chunk(4)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def test_deeper_lstm_by_its_description(grid: Tensor, question: Tensor) -> None:
    model = make(DeeperLSTM).double()
    assert isinstance(model, DeeperLSTM)
    grid = grid.double()
    logits = model.decode(grid, question).logits
    for row, length in enumerate([5, 1, 3]):
        first = second = (torch.zeros(8, dtype=torch.float64), torch.zeros(8, dtype=torch.float64))
        for word in question[row, :length].tolist():
            first = sigmoid_lstm(model.layers[0], "", torch.tanh(model.embed.weight[word]), *first)
            second = sigmoid_lstm(model.layers[1], "", first[0], *second)
        asked = torch.tanh(model.read(torch.cat([*first, *second])))
        v = torch.tensor([grid[row, c].mean() for c in range(1280)], dtype=torch.float64)
        seen = torch.tanh(model.see(v / v.square().sum().sqrt() * 1280**0.5))
        expected = model.output(torch.tanh(model.fuse(seen * asked)))
        assert torch.allclose(logits[row], expected, atol=1e-10)


def test_coattention_by_its_equations(grid: Tensor, question: Tensor) -> None:
    """Equations 3-5 and 7 of Lu et al. 2016, question by question, word by word, in float64."""
    model = make(CoAttention).double()
    assert isinstance(model, CoAttention)
    grid = grid.double()
    output = model.decode(grid, question)
    assert output.attention is not None and output.levels is not None
    for row, length in enumerate([5, 1, 3]):
        v = torch.stack([model.annotate(grid[row, :, y, x]) for y in range(2) for x in range(3)], 1)  # [d, N]
        words = [model.embed.weight[word] for word in question[row, :length].tolist()]
        padded = [*words, torch.zeros(12, dtype=torch.float64), torch.zeros(12, dtype=torch.float64)]
        phrases = []
        for t in range(length):
            grams = [
                torch.tanh(sum(conv.weight[:, :, s] @ padded[t + s] for s in range(n)) + conv.bias)
                for n, conv in zip((1, 2, 3), model.grams, strict=True)
            ]
            phrases.append(torch.stack(grams).max(0).values)
        h = c = torch.zeros(12, dtype=torch.float64)
        whole = []
        for phrase in phrases:
            h, c = sigmoid_lstm(model.lstm, "_l0", phrase, h, c)
            whole.append(h)
        built = None
        for level, (states, att, build) in enumerate(
            zip((words, phrases, whole), model.attend, model.build, strict=True)
        ):
            q = torch.stack(states, 1)  # [d, T]
            affinity = torch.tanh(q.T @ att.w_b.weight @ v)  # eq. 3
            h_v = torch.tanh(att.w_v.weight @ v + (att.w_q.weight @ q) @ affinity)  # eq. 4
            h_q = torch.tanh(att.w_q.weight @ q + (att.w_v.weight @ v) @ affinity.T)
            e_v, e_q = (att.w_hv.weight @ h_v)[0].exp(), (att.w_hq.weight @ h_q)[0].exp()
            a_v, a_q = e_v / e_v.sum(), e_q / e_q.sum()
            met = v @ a_v + q @ a_q  # eq. 5
            built = torch.tanh(build(met if built is None else torch.cat([met, built])))  # eq. 7
            assert torch.allclose(output.levels[row, level].flatten().double(), a_v, atol=1e-6)  # softmax in fp32
        assert built is not None
        assert torch.allclose(output.logits[row], model.output(built), atol=1e-5)
        assert torch.equal(output.attention[row], output.levels[row, 2])


def test_padding_changes_nothing(model: Model, grid: Tensor, question: Tensor) -> None:
    model, grid = model.double(), grid.double()
    together = model.decode(grid, question).logits
    longer = torch.cat([question, torch.full((3, 6), VOCABULARY.pad)], dim=1)
    assert torch.allclose(model.decode(grid, longer).logits, together, atol=1e-7)  # the softmax runs in fp32
    for row, length in enumerate([5, 1, 3]):
        alone = model.decode(grid[[row]], question[[row], :length]).logits
        assert torch.allclose(alone[0], together[row], atol=1e-7)


def test_attention_over_words_sums_to_one_over_real_words(grid: Tensor, question: Tensor) -> None:
    model = make(CoAttention)
    assert isinstance(model, CoAttention)
    photo = model.annotate(grid.flatten(2).transpose(1, 2))
    levels, told = model.read_question(question)
    for words, attend in zip(levels, model.attend, strict=True):
        _, _, a_v, a_q = attend(photo, words, told)
        assert torch.equal(a_q > 0, told)
        assert torch.allclose(a_q.sum(1), torch.ones(3)) and torch.allclose(a_v.sum(1), torch.ones(3))
    attention = model.decode(grid, question).attention
    assert attention is not None and attention.shape == (3, 2, 3)
    assert torch.allclose(attention.sum((1, 2)), torch.ones(3))


def test_rows_do_not_mix(model: Model, grid: Tensor, question: Tensor) -> None:
    features = grid.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model.decode(features, question).logits[1].sum(), features)
    assert gradient[1].abs().sum() > 0
    assert gradient[[0, 2]].abs().sum() == 0


def test_several_questions_about_a_photo_are_as_good_as_repeated_photos(model: Model, grid: Tensor) -> None:
    question = torch.randint(4, len(VOCABULARY), (6, 4), generator=torch.Generator().manual_seed(4))
    shared, repeated = model.decode(grid, question), model.decode(grid.repeat_interleave(2, 0), question)
    assert torch.allclose(shared.logits, repeated.logits, atol=1e-6)
    if shared.levels is not None:
        assert repeated.levels is not None and torch.allclose(shared.levels, repeated.levels, atol=1e-6)


def test_a_position_is_scored_as_if_it_were_the_photo(grid: Tensor, question: Tensor) -> None:
    """Exactly so for the deeper LSTM; the co-attention's question is attended to with the whole photo in view."""
    model = make(DeeperLSTM)
    found = model.detect(grid, question)
    assert found.shape == (3, len(ANSWERS), 2, 3)
    for y, x in [(0, 0), (1, 2)]:
        alone = model.decode(grid[:, :, y : y + 1, x : x + 1], question).logits
        assert torch.allclose(found[:, :, y, x], alone, atol=1e-6)
    attending = make(CoAttention)
    single = grid[:, :, :1, :1]
    assert torch.allclose(attending.detect(single, question)[..., 0, 0], attending.decode(single, question).logits)


def test_all_answers_can_be_differentiated_at_once(model: Model, grid: Tensor, question: Tensor) -> None:
    """The engine pulls K gradients back from one decode under vmap."""
    features = grid.clone().requires_grad_()
    logits = model.decode(features, question).logits
    one_hot = torch.eye(len(ANSWERS))[:, None].expand(-1, 3, -1)
    (batched,) = torch.autograd.grad(logits, features, one_hot, retain_graph=True, is_grads_batched=True)
    for k in range(len(ANSWERS)):
        (single,) = torch.autograd.grad(logits[:, k].sum(), features, retain_graph=True)
        assert torch.allclose(batched[k], single, atol=1e-6)


def test_words_are_embedded_once(model: Model, grid: Tensor, question: Tensor) -> None:
    shapes: list[torch.Size] = []
    handle = model.embed.register_forward_hook(lambda _module, _inputs, output: shapes.append(output.shape))
    model.decode(grid, question)
    handle.remove()
    assert shapes == [(3, 5, model.embed.embedding_dim)]


def test_photos_become_grids(model: Model) -> None:
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        assert model.encode(images).shape == (2, 1280, 2, 3)
        assert model(images, torch.tensor([[5, 6], [7, 0]])).logits.shape == (2, len(ANSWERS))


def test_questions_become_tokens() -> None:
    tokens = question_tokens(["W1 w2, w3?", "w0 nonsense"], VOCABULARY)
    assert tokens.tolist() == [[5, 6, 7], [4, 3, 0]]


def test_a_model_survives_its_file(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_vqa(path, model, {"input_size": 96, "name": "tiny"})
    again = load_vqa(path)
    assert type(again) is type(model) and again.vocabulary == VOCABULARY and again.answers == ANSWERS
    assert again.input_size == 96 and not again.training
    for name, tensor in model.state_dict().items():
        assert torch.allclose(again.state_dict()[name], tensor, rtol=1e-3, atol=1e-6)
    assert path.with_suffix(".json").exists()
    encoder = load_encoder(path)
    assert all(torch.equal(tensor, again.encoder.state_dict()[name]) for name, tensor in encoder.state_dict().items())
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


def test_a_file_that_does_not_fit_is_told_in_one_line(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_vqa(path, model, {"input_size": 96})
    tensors, header = read_tensors(path)
    del tensors["output.bias"]
    write_tensors(path, tensors, header)
    with pytest.raises(CheckpointError, match=r"missing output\.bias") as complaint:
        load_vqa(path)
    assert "\n" not in str(complaint.value) and str(path) in str(complaint.value)
    write_tensors(path, tensors, {**header, "answers": None})
    with pytest.raises(CheckpointError, match="broken header"):
        load_vqa(path)
    write_tensors(path, tensors, {**header, "architecture": "show-attend-tell"})
    with pytest.raises(CheckpointError, match="holds no VQA model: its architecture is 'show-attend-tell'"):
        load_vqa(path)
    write_tensors(path, {"output.bias": torch.zeros(3)}, header)
    with pytest.raises(CheckpointError, match="does not fit GridEncoder: missing"):
        load_encoder(path)
    with pytest.raises(CheckpointError, match="no weights at"):
        load_vqa(tmp_path / "absent.safetensors")
