"""ViLT: answers out of a list, patches that the model shuffles, questions in sub-words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import mmexplain
from mmexplain.io import load_image
from tests.tasks.huggingface.planted import changed_at, photo
from tests.tasks.huggingface.tiny_queries import ANSWERS, vilt

QUESTION = "What color is the ball?"
SIZES = {"wide": (240, 100), "tall": (90, 200), "square": (120, 120)}


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("vilt")
    vilt(folder)
    return mmexplain.load(f"hf:{folder}", device="cpu")


@pytest.fixture(scope="module")
def own(task: Any) -> Callable[..., torch.Tensor]:
    """Logits of transformers' own processor and forward pass, in whatever order it draws."""
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(task.model_id.removeprefix("hf:"))

    def run(image: Any, question: str) -> torch.Tensor:
        with torch.no_grad():
            logits: torch.Tensor = task.model(**processor(image, question, return_tensors="pt")).logits[0]
        return logits

    return run


@pytest.mark.parametrize("shape", SIZES)
def test_scores_are_the_models_own(task: Any, own: Any, shape: str) -> None:
    image = photo(*SIZES[shape])
    found = task.explain(image, QUESTION, list(ANSWERS), top=0)
    expected = own(image, QUESTION)
    assert torch.allclose(found.scores, expected, atol=1e-4)
    # Answers do not exclude each other.
    assert torch.allclose(found.probabilities, expected.sigmoid(), atol=1e-4)
    (likeliest,) = task.explain(image, QUESTION).targets
    assert likeliest.label == ANSWERS[int(expected.argmax())]


def test_nothing_depends_on_the_order_that_is_drawn(task: Any) -> None:
    image = photo(240, 100)
    options = {"top": 2, "methods": ["gradcam-no-relu", "layercam"], "layers": ["vilt.encoder.layer.0"]}
    torch.manual_seed(1)
    one = task.explain(image, QUESTION, **options)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    other = task.explain(image, QUESTION, **options)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(maps, other.maps[key]) and bool(maps.any()) for key, maps in one.maps.items())


@pytest.mark.parametrize("strategy", ["expand", "vjp"])
def test_strategies_agree(task: Any, strategy: str) -> None:
    options = {"answers": list(ANSWERS), "top": 0, "methods": ["gradcam-no-relu", "gradcam++"]}
    one = task.explain(photo(90, 200), QUESTION, strategy="loop", **options)
    other = task.explain(photo(90, 200), QUESTION, strategy=strategy, **options)
    for key, maps in one.maps.items():
        assert torch.allclose(maps, other.maps[key], rtol=1e-3, atol=1e-6), key


@pytest.mark.parametrize("shape", SIZES)
def test_planted_evidence_is_found_where_it_is(task: Any, shape: str) -> None:
    """Only one patch is let out of the embedding: the one that a change of the photo at a place changes."""
    width, height = SIZES[shape]
    image = photo(width, height)
    for x, y in ((0.3 * width, 0.7 * height), (0.8 * width, 0.2 * height)):
        alone = task.prepare(load_image(image)), task.prepare(load_image(changed_at(image, int(x), int(y), 2)))
        with torch.no_grad():
            one, two = (task.encode(batch.inputs) for batch in alone)
        number = int((one - two)[0].abs().sum(-1).argmax())
        assert number > 0
        encoder, before = task.model.vilt.encoder, task.model.vilt.encoder.forward

        def only(hidden: torch.Tensor, *args: Any, number: int = number, run: Any = before, **kwargs: Any) -> Any:
            mask = torch.zeros(hidden.shape[1], 1)
            mask[: hidden.shape[1] - one.shape[1]] = 1.0  # noqa: B023
            mask[hidden.shape[1] - one.shape[1] + number] = 1.0  # noqa: B023
            return run(hidden * mask, *args, **kwargs)

        encoder.forward = only
        try:
            for strategy in ("loop", "expand"):
                found = task.explain(
                    image,
                    QUESTION,
                    ["red", "dog"],
                    top=0,
                    layers=["vilt.embeddings.patch_embeddings", "vilt.embeddings.dropout", "vilt.embeddings"],
                    methods=["hirescam", "occlusion(patch=8, stride=8)"],
                    strategy=strategy,
                )
                assert len(found.maps) == 4
                rows, columns = task.prepare(load_image(image)).inputs["image"].shape[-2:]
                for key, maps in found.maps.items():
                    for strengths in maps.abs():
                        peak = found.geometry.peak(strengths)
                        assert peak is not None
                        assert abs(peak[0] - x) <= 8 * width / columns and abs(peak[1] - y) <= 8 * height / rows, key
        finally:
            encoder.forward = before


def test_places_are_the_photos(task: Any) -> None:
    """A photo whose values are its coordinates: the processor's pixels are where the geometry says."""
    width, height = 230, 110
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    ramp = Image.fromarray(np.stack([x, y, 0 * x], -1).astype(np.uint8))
    pixels, geometry = task.preprocess(load_image(ramp))
    values = (pixels * 0.5 + 0.5) * 255
    for row in range(2, pixels.shape[-2] - 2):
        for column in range(2, pixels.shape[-1] - 2):
            found = geometry.point_to_original(column + 0.5, row + 0.5)
            assert found == pytest.approx([float(v) + 0.5 for v in values[:2, row, column]], abs=1.0)
    assert pixels.shape[-2] % 8 == pixels.shape[-1] % 8 == 0
    assert geometry.visible == (0, 0, width, height)


def test_words_of_several_tokens_add_up(task: Any) -> None:
    found = task.explain(photo(120, 120), "What are the dogs playing?", ["red"], top=0, text="all")
    assert found.words == ["What", "are", "the", "dogs", "playing"]
    parts = found.text_maps["integrated-gradients"]
    assert parts.shape == (1, 5) and bool(parts.isfinite().all()) and bool(parts.any())
    assert float(found.text_errors["integrated-gradients"].max()) < 0.1


def test_several_photos_have_grids_of_their_own(task: Any) -> None:
    images = [photo(*size) for size in SIZES.values()]
    several = task.explain(images, QUESTION, ["dog"], top=0)
    assert [next(iter(found.maps.values())).shape[-2:] for found in several] == [(2, 6), (6, 3), (4, 4)]
    for image, found in zip(images, several, strict=True):
        alone = task.explain(image, QUESTION, ["dog"], top=0)
        assert all(torch.equal(maps, alone.maps[key]) for key, maps in found.maps.items())


def test_patches_that_the_model_leaves_out_are_empty(tmp_path: Path) -> None:
    vilt(tmp_path, most=6)
    some = mmexplain.load(f"hf:{tmp_path}", device="cpu")
    (maps,) = some.explain(
        photo(120, 120), QUESTION, methods=["layercam"], layers=["vilt.encoder.layer.0"]
    ).maps.values()
    full = some.explain(photo(120, 120), QUESTION, methods=["gradcam-no-relu"], layers=["vilt.encoder.layer.0"])
    (signed,) = full.maps.values()
    assert maps.shape[-2:] == (4, 4)
    assert int((signed != 0).sum()) == 6


def test_attention_that_begins_with_the_question_is_not_followed(task: Any) -> None:
    with pytest.raises(mmexplain.MethodError, match="use 'gradcam'"):
        task.explain(photo(240, 100), QUESTION, methods=["attention-rollout"])


def test_contrasts_and_errors(task: Any) -> None:
    image = photo(120, 120)
    found = task.explain(image, QUESTION, ["red", "dog"], versus="two", top=0)
    alone = task.explain(image, QUESTION, ["red", "dog", "two"], top=0).scores
    assert torch.allclose(found.scores, alone[:2] - alone[2], atol=1e-5)
    with pytest.raises(mmexplain.TargetError, match="'blue' is not among"):
        task.explain(image, QUESTION, ["blue"])
    with pytest.raises(mmexplain.InputError, match="holds no word"):
        task.explain(image, " ?? ")
    with pytest.raises(mmexplain.InputError, match="reads 40; shorten it"):
        task.explain(image, "what is " * 30)
    with pytest.raises(mmexplain.InputError, match=r"2 question\(s\) for 1 photo"):
        task.explain([image], [QUESTION, QUESTION])
    with pytest.raises(mmexplain.InputError, match="cannot take a photo of 400×10 pixels"):
        task.explain(photo(400, 10), QUESTION)
    with pytest.raises(mmexplain.ModelError, match="serves vqa, not caption"):
        mmexplain.load(task.model_id, "caption", "cpu")


def test_layers_are_listed_as_they_are_read(task: Any) -> None:
    from mmexplain.taps import trace

    on = task.on(photo(240, 100))
    batch = on.prepare(photo(240, 100))
    found = {
        record.name: record.maps and tuple(record.maps[2:])
        for record in trace(on.model, lambda: on.trial(batch.inputs), (16, 48), on.reader)
    }
    assert found[task.default_layer()] == found["vilt.encoder.layer.0"] == (2, 6)
    assert found["vilt.embeddings.dropout"] == found["vilt.embeddings.patch_embeddings"] == (2, 6)
