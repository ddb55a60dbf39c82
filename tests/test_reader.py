"""Layers that a task says how to read: tiles, packed rows, tokens in an order of their own; the engine upon them."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from mmexplain.engine import run
from mmexplain.errors import LayerError
from mmexplain.layer_analysis import layers_report
from mmexplain.preprocess import Preprocess
from mmexplain.probe import Probe
from mmexplain.problem import Problem
from mmexplain.reader import Reader, told_or_guessed
from mmexplain.taps import suggest, trace
from mmexplain.targets import Target
from mmexplain.tasks.classification.task import Classifier

TARGETS = [Target(str(number), "class", (number,)) for number in range(3)]


def test_tokens_in_an_order_of_their_own():
    value = torch.arange(2 * 7 * 3.0).view(2, 7, 3)
    order = torch.tensor([[3, 1, -1], [6, 2, 5]])
    maps = Reader("tokens", grid=(2, 3), order=order)(value)
    assert maps.shape == (2, 3, 2, 3)
    for row in range(2):
        for column in range(3):
            expected = value[:, order[row, column]] if order[row, column] >= 0 else torch.zeros(2, 3)
            assert torch.equal(maps[:, :, row, column], expected)


def test_rows_of_one_input_are_its_tiles():
    tiles = torch.randn(2 * 4, 1 + 4, 3)  # two inputs of 2 × 2 tiles of 2 × 2 tokens behind a class token
    number = torch.arange(4 * 5).view(4, 5)[:, 1:].view(2, 2, 2, 2)
    order = number.permute(0, 2, 1, 3).reshape(4, 4)
    reader = Reader("tokens", grid=(4, 4), rows=4, order=order)
    maps = reader(tiles)
    assert maps.shape == (2, 3, 4, 4) and reader.rows_per_input == 4
    for item in range(2):
        for row in range(4):
            for column in range(4):
                tile, token = row // 2 * 2 + column // 2, row % 2 * 2 + column % 2
                assert torch.equal(maps[item, :, row, column], tiles[item * 4 + tile, 1 + token])
    pictures = tiles[:, 1:].unflatten(1, (2, 2)).movedim(-1, 1)  # the same tiles as maps, channels first
    number = torch.arange(16).view(2, 2, 2, 2).permute(0, 2, 1, 3).reshape(4, 4)
    assert torch.equal(Reader("channels_first", grid=(4, 4), rows=4, order=number)(pictures), maps)


def test_rows_without_an_axis_of_inputs():
    packed = torch.randn(6, 3)
    order = torch.tensor([[5, 4, 3], [2, 1, 0]])
    maps = Reader("tokens", grid=(2, 3), rows=6, order=order)(packed)
    assert torch.equal(maps[0, :, 0, 0], packed[5]) and torch.equal(maps[0, :, 1, 2], packed[0])
    assert torch.equal(Reader("tokens", grid=(2, 3), rows=6)(packed)[0, :, 1, 0], packed[3])


def test_the_task_is_asked_first():
    def told(layer, shape):
        if layer == "words":
            raise LayerError("words are no places")
        return Reader("tokens", 1, (2, 8)) if layer == "wide" else None

    assert told_or_guessed(told, "wide", (1, 17, 4), (32, 32)) == Reader("tokens", 1, (2, 8))
    assert told_or_guessed(told, "other", (1, 17, 4), (32, 32)) == Reader("tokens", 1, (4, 4))
    assert told_or_guessed(told, "words", (1, 17, 4), (32, 32)) is None
    assert told_or_guessed(None, "wide", (1, 17, 4), (32, 32)) == Reader("tokens", 1, (4, 4))
    assert told_or_guessed(told, "wide", (3, 17, 4), (32, 32), inputs=2) is None  # 3 rows of 2 inputs


class Tiled(nn.Module):
    """Cuts ``[B, 3, 8, 8]`` into 2 × 2 tiles, sees each as a row of four shuffled tokens, and joins them."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(3 * 4, 6)
        self.mix = nn.Linear(6, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, image):
        cut = image.unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 1, 4, 5).flatten(0, 2)  # [B · 4, 3, 4, 4]
        patches = cut.unfold(2, 2, 2).unfold(3, 2, 2).permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)
        tokens = self.embed(patches).tanh().flip(1)
        joined = self.mix(tokens).unflatten(0, (-1, 4)).flatten(1, 2)  # [B, 16, 6]
        weights = torch.linspace(-1, 1, 16, dtype=joined.dtype).unsqueeze(-1)
        return self.head((joined.tanh() * weights).sum(1))


def tiled_reader(layer, shape):
    if layer != "mix" and layer != "embed":
        return None
    number = torch.arange(16).view(2, 2, 2, 2)
    number = number.flip(2, 3) if layer == "mix" else number
    return Reader("tokens", grid=(4, 4), rows=4, order=number.permute(0, 2, 1, 3).reshape(4, 4))


def problem(images):
    torch.manual_seed(0)
    model = Tiled().double().eval()
    return Problem(
        model,
        lambda inputs: model(inputs["image"]),
        lambda features, _: features,
        lambda output, rows: torch.stack(
            [torch.stack([line[t.ids[0]] for t in row]) for line, row in zip(output, rows, strict=True)]
        ),
        {"image": images},
        reader=tiled_reader,
    )


def hires(layer, activations, gradients):
    return {"map": (activations * gradients).sum(2), "gradient": gradients.norm(dim=2)}


@pytest.mark.parametrize("strategy", ["auto", "expand", "vjp", "loop"])
@pytest.mark.parametrize("layers", [["mix"], ["embed"], ["embed", "mix"]])
def test_the_engine_keeps_tiles_with_their_inputs(strategy, layers):
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1)).double()
    asked = problem(images)
    found = run(asked, [TARGETS, TARGETS[:2]], layers, hires, strategy=strategy).reduced
    for item in range(2):
        for number, target in enumerate([TARGETS, TARGETS[:2]][item]):
            alone = images[item : item + 1].clone().requires_grad_()
            score = asked.model(alone)[0, target.ids[0]]
            (pixels,) = torch.autograd.grad(score, alone)
            for layer in layers:
                # The chain rule at a linear layer: the gradient of the pixels of a place is that of its token times W.
                if layer == "embed":
                    weight = asked.model.embed.weight
                    for row in range(4):
                        for column in range(4):
                            patch = pixels[0, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].flatten()
                            token = torch.linalg.lstsq(weight.T.detach(), patch[:, None]).solution
                            expected = float(token.norm())
                            actual = float(found[layer]["gradient"][item, number, row, column])
                            assert actual == pytest.approx(expected, rel=1e-6)
                single = run(problem(images[item : item + 1]), [[target]], [layer], hires, strategy="loop").reduced
                torch.testing.assert_close(found[layer]["map"][item, number], single[layer]["map"][0, 0])


def test_rows_that_do_not_add_up_are_refused():
    asked = problem(torch.zeros(1, 3, 8, 8).double())
    asked.reader = lambda layer, shape: Reader("tokens", grid=(4, 4), rows=5)
    with pytest.raises(LayerError, match="runs on 4 rows for 1 input"):
        run(asked, [TARGETS], ["mix"], hires)
    asked.reader = lambda layer, shape: (_ for _ in ()).throw(LayerError("words are no places"))
    with pytest.raises(LayerError, match="words are no places"):
        run(asked, [TARGETS], ["mix"], hires)


def test_looking_at_a_model_asks_too():
    image = torch.randn(1, 3, 8, 8).double()
    model = problem(image).model
    maps = {record.name: record.maps for record in trace(model, lambda: model(image), (8, 8), tiled_reader)}
    assert maps["embed"] == maps["mix"] == (1, 6, 4, 4) and maps["head"] is None
    assert {record.maps for record in trace(model, lambda: model(image), (8, 8))} == {None}
    assert suggest(model, lambda: model(image), (8, 8), tiled_reader) == "mix"


def test_probes_and_reports_ask_too():
    image = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(2)).double()
    asked = problem(image)
    probe = Probe(asked, [TARGETS], torch.zeros(1, 3), ["mix"], logits=lambda output, rows: None)
    assert probe.activations["mix"].shape == (1, 6, 4, 4)

    class Task(Classifier):
        def reader(self, layer, shape):
            return tiled_reader(layer, shape)

    task = Task(asked.model.float(), Preprocess(resize=(8, 8)), ["a", "b", "c"])
    assert task.default_layer() == "mix"
    explanation = task.explain([image_of(1), image_of(2)], top=3)[1]
    assert explanation.map(0).shape == (4, 4)
    assert [layer.grid for layer in layers_report(task, image_of(1), layers=["embed", "mix"]).layers] == [
        (4, 4),
        (4, 4),
    ]


def image_of(seed):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (16, 16, 3), dtype=np.uint8))
