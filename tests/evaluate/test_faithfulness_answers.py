"""Faithfulness of answers, on a model whose answer to each question hangs on one known quarter of the photo."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from mmexplain.errors import InputError
from mmexplain.evaluate import Row, run
from mmexplain.evaluate.faithfulness import STEPS, Faithfulness
from mmexplain.evaluate.faithfulness_rows import METRICS
from mmexplain.evaluate.questions import context_of
from mmexplain.preprocess import Preprocess
from mmexplain.tasks.registry import load
from mmexplain.tasks.vqa import VQA, VQAAdapter

SHARP = 4.0
DIM, BRIGHT = 0.8, 1.0
QUESTIONS = ["how red is the first", "how the second", "zebra"]
EVERYTHING: dict[str, Any] = {"metrics": [metric.name for metric in METRICS], "steps": 3, "samples": 20}


class Quarters(VQAAdapter):
    """ "red" is as likely as the photo is red in the upper left quarter if the question says "first", and in the lower
    right one if not; the layer that is explained puts out the pixels themselves."""

    answers = ("red", "not red")
    words: ClassVar[dict[str, int]] = {"how": 2, "red": 3, "is": 4, "the": 5, "first": 6, "second": 7}
    unknown = 1

    def __init__(self) -> None:
        super().__init__()
        self.pixels = nn.Identity()

    def encode(self, images: Tensor) -> Tensor:
        pixels: Tensor = self.pixels(images)
        return pixels

    def decode(self, features: Tensor, question: Tensor) -> Tensor:
        first = (question == self.words["first"]).any(1)
        red = torch.where(first, features[:, 0, :8, :8].mean((1, 2)), features[:, 0, 8:, 8:].mean((1, 2)))
        return torch.stack([SHARP * red, torch.zeros_like(red)], 1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One photo with two red quarters, the upper left one dimmer, on black."""
    (tmp_path / "images").mkdir()
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[:8, :8, 0], pixels[8:, 8:, 0] = round(255 * DIM), round(255 * BRIGHT)
    Image.fromarray(pixels).save(tmp_path / "images" / "a.png")
    lines = [json.dumps({"image": "a.png", "question": question}) for question in QUESTIONS]
    (tmp_path / "qa.jsonl").write_text("\n".join(lines))
    return tmp_path


def task() -> VQA:
    return VQA(Quarters(), Preprocess(resize=(16, 16), mean=(0.0,) * 3, std=(1.0,) * 3), layer="pixels")


def likely(red: float) -> float:
    return 1 / (1 + math.exp(-SHARP * red))


def measured(folder: Path, methods: list[str], **options: Any) -> list[list[Row]]:
    protocol = Faithfulness(task(), folder, methods, **options)
    return [list(rows) for rows in protocol.measure(protocol.items())]


def test_a_right_map_beats_a_wrong_one_by_hand(folder: Path) -> None:
    """HiResCAM is positive in the quarter that is read alone. Grad-CAM is largest where the photo is reddest, which is
    right for the second question and wrong for the first."""
    first, second, unknown = measured(folder, ["hirescam", "gradcam"], steps=4)
    assert unknown == [], "the model knows no word of 'zebra'"
    right, wrong = (next(r for r in first if r["method"] == m and not r["against"]) for m in ("hirescam", "gradcam"))
    assert right["target"] == "red"
    before, nothing = likely(DIM), 0.5
    # Shown: the quarter as it is; or at 0.8 of its brightness, for the other one is the map's maximum.
    assert right["drop"] == pytest.approx(0, abs=1e-6)
    assert wrong["drop"] == pytest.approx((before - likely(DIM * DIM / BRIGHT)) / before, abs=1e-5)
    # A step takes 64 pixels, a quarter of the photo: the first one, or the second one, is what the answer hangs on.
    assert right["deletion"] == pytest.approx((before / 2 + nothing * 3.5) / 4, abs=1e-5)
    assert wrong["deletion"] == pytest.approx((before * 1.5 + nothing * 2.5) / 4, abs=1e-5)
    assert right["insertion"] > wrong["insertion"]
    wins = {(row["method"], row["against"]): row["win"] for row in first if row["against"]}
    assert wins == {("hirescam", "gradcam"): 1, ("gradcam", "hirescam"): 0}
    here, there = (next(r for r in second if r["method"] == m and not r["against"]) for m in ("hirescam", "gradcam"))
    assert here["drop"] == pytest.approx(0, abs=1e-6) == there["drop"]
    assert here["deletion"] == pytest.approx((likely(BRIGHT) / 2 + nothing * 3.5) / 4, abs=1e-5)
    assert there["deletion"] == pytest.approx(here["deletion"], abs=1e-6)


def test_no_question_changes_another_ones_rows(folder: Path) -> None:
    """Questions of one photo, of different lengths, are run together."""
    together = measured(folder, ["hirescam", "input-x-gradient"], **EVERYTHING)
    protocol = Faithfulness(task(), folder, ["hirescam"], **EVERYTHING)
    for item, rows in zip(protocol.items(), together, strict=True):
        ((*alone,),) = protocol.measure([item])
        own = [row for row in rows if row["method"] == "hirescam" and not row["against"]]
        assert len(own) == len(alone) == (item.content.question != "zebra")
        for one, other in zip(own, alone, strict=True):
            assert set(one) == {"method", "against", "target", *(m.name for m in METRICS if m.name != "win")}
            assert all(one[name] == pytest.approx(other[name], abs=1e-6) for name in one)
    # The score is linear in the pixels: HiResCAM foretells what any of them adds.
    assert [rows[0]["infidelity"] for rows in together[:2]] == pytest.approx([0, 0], abs=1e-6)
    (wrong, *_), *_ = measured(folder, ["gradcam"], **EVERYTHING)
    assert wrong["infidelity"] > 1e-3


def test_the_question_is_read_again(folder: Path) -> None:
    photo = folder / "images" / "a.png"
    explanations = task().explain([photo, photo], QUESTIONS[:2])
    assert context_of(task(), explanations)["question"].tolist() == [[2, 3, 4, 5, 6], [2, 5, 7, 0, 0]]


def test_it_runs_and_goes_on(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    out = tmp_path_factory.mktemp("out")
    run(Faithfulness(task(), folder, ["gradcam"]), out, limit=1)
    result = run(Faithfulness(task(), folder, ["gradcam"]), out)
    assert (result.items, result.settings["steps"]) == (3, STEPS)
    assert "its likeliest answer is explained" in result.markdown()
    (folder / "qa.jsonl").unlink()
    with pytest.raises(InputError, match=r"holds no qa\.jsonl"):
        Faithfulness(task(), folder, ["gradcam"]).items()


@pytest.mark.parametrize("model", ["deeper-lstm-norm-i", "hierarchical-coattention"])
def test_real_questions_of_the_bundled_models(data_dir: Path, model: str) -> None:
    loaded: Any = load(model, device="cpu")
    protocol = Faithfulness(loaded, data_dir / "daquar", ["gradcam"], steps=2)
    item = protocol.items()[0]
    ((row,),) = protocol.measure([item])
    explanation = loaded.explain(item.content.photo, item.content.question)
    assert row["target"] == explanation.targets[0].label
    image = loaded.prepare(item.content.photo).inputs["image"]
    black = torch.tensor(loaded.black()).view(1, -1, 1, 1)
    values = nn.functional.interpolate(explanation.map(0)[None, None], size=image.shape[2:], mode="bilinear")[0, 0]
    shown = black + values.clamp(min=0) / values.max() * (image - black)
    with torch.no_grad():
        question = loaded.context([item.content.question])["question"]
        before, after = (
            float(loaded.answerer(x, question).logits.softmax(1)[0, explanation.targets[0].ids[0]])
            for x in (image, shown)
        )
    assert row["drop"] == pytest.approx(max(0, before - after) / before, abs=1e-4)
