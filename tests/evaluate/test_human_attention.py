"""Human attention: the readers, and the protocol on made-up folders and on real photos."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mmexplain.errors import InputError
from mmexplain.evaluate import Result, run
from mmexplain.evaluate.data.human_attention import read_human_attention, read_map
from mmexplain.evaluate.data.vqa_hat import read_vqa_hat
from mmexplain.evaluate.human_attention import HumanAttention
from mmexplain.evaluate.metrics.saliency import fixated_pixels, grid_spearman, nss
from mmexplain.tasks.registry import load
from tests.command_line import picture

pytest_plugins = ["tests.command_line_fixtures"]

SIZE = (96, 120)


def blob(x: float, y: float, size: tuple[int, int] = SIZE) -> np.ndarray[Any, Any]:
    rows, columns = np.mgrid[: size[0], : size[1]]
    return (255 * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 800)).astype(np.uint8)


@pytest.fixture
def viewed(tmp_path: Path) -> Path:
    """Three photos; ``eye`` with points, ``mouse`` without; the mouse map of the last one is constant."""
    folder = tmp_path / "viewed"
    for name in ("images", "maps"):
        (folder / name).mkdir(parents=True)
    lines = []
    for number, (x, y) in enumerate([(30, 30), (90, 60), (60, 80)]):
        picture(*SIZE).save(folder / "images" / f"p{number}.jpg")
        Image.fromarray(blob(x, y)).save(folder / "maps" / f"p{number}_eye.png")
        mouse = np.full(SIZE, 7, np.uint8) if number == 2 else blob(x + 3, y)
        Image.fromarray(mouse).save(folder / "maps" / f"p{number}_mouse.png")
        maps = {kind: f"p{number}_{kind}.png" for kind in ("eye", "mouse")}
        points = {"eye": [[[x + 0.5, y + 0.5]], [[x + 4.5, y + 0.5], [-3.0, 5.0]]]}
        lines.append(json.dumps({"file": f"p{number}.jpg", "source": "own", "maps": maps, "points": points}))
    (folder / "annotations.jsonl").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def hat(tmp_path: Path) -> Path:
    """Two questions on two COCO photos with three annotators each, and a question that nobody looked at."""
    folder = tmp_path / "hat"
    for name in ("vqahat_val", "val2014"):
        (folder / name).mkdir(parents=True)
    for number in (9, 139):
        picture(*SIZE).save(folder / "val2014" / f"COCO_val2014_{number:012d}.jpg")
    for question, (x, y) in {90: (30, 30), 1391: (70, 60)}.items():
        for annotator in (1, 2, 3):
            Image.fromarray(blob(x + annotator, y)).save(folder / "vqahat_val" / f"{question}_{annotator}.png")
    asked = [(90, 9, "what runs on the grass"), (1391, 139, "quo vadis"), (1392, 139, "a dog")]
    record = {"questions": [{"question_id": q, "image_id": i, "question": text} for q, i, text in asked]}
    (folder / "OpenEnded_mscoco_val2014_questions.json").write_text(json.dumps(record))
    return folder


def means(result: Result, method: str, human: str) -> dict[str, float]:
    (line,) = [line for line in result.lines if line.labels == {"method": method, "human": human}]
    return {name: found.value for name, found in line.means.items()}


def test_controls_and_the_ceiling(viewed: Path, classifier: str) -> None:
    result = run(HumanAttention(load(classifier, device="cpu"), viewed, ["gradcam"]))
    methods = list(dict.fromkeys(line.labels["method"] for line in result.lines))
    assert methods[0] == "gradcam" and set(methods[1:]) == {"centre", "uniform", "another photo", "humans"}
    for human in ("eye", "mouse"):
        uniform = means(result, "uniform", human)
        assert all(math.isnan(uniform[name]) for name in ("spearman", "auc_judd", "nss", "cc"))
        assert uniform["kl"] > 0
        ceiling, other = means(result, "humans", human), means(result, "another photo", human)
        assert ceiling["cc"] > 0.9 > other["cc"] and ceiling["kl"] < other["kl"]
        assert ceiling["auc_judd"] > 0.95
    (line,) = [line for line in result.lines if line.labels == {"method": "humans", "human": "mouse"}]
    assert (line.means["cc"].rows, line.means["cc"].undefined) == (2, 1), "a constant human map is left out"
    assert line.means["nss"].undefined == 1, "and has no fixations"
    assert "freely" in result.markdown()


def test_rows_are_those_of_the_map(viewed: Path, classifier: str) -> None:
    task = load(classifier, device="cpu")
    protocol = HumanAttention(task, viewed, ["gradcam", "guided-backprop"])
    item = protocol.items()[1]
    (rows,) = protocol.measure([item])
    explanation = task.explain(item.content.photo, methods=["gradcam", "guided-backprop"])
    human = read_map(viewed / "maps" / "p1_eye.png")
    first = next(row for row in rows if row["method"] == "gradcam" and row["human"] == "eye")
    heat = explanation.heatmap(0, method="gradcam").double()
    assert first["spearman"] == pytest.approx(grid_spearman(heat, human))
    fixated = fixated_pixels(torch.tensor([[90.5, 60.5], [94.5, 60.5]]), *SIZE)
    assert fixated.sum() == 2 and first["nss"] == pytest.approx(nss(heat, fixated))
    pixels = next(row for row in rows if row["method"] == "guided-backprop" and row["human"] == "eye")
    magnitude = explanation.heatmap(0, method="guided-backprop").abs().double()
    assert pixels["nss"] == pytest.approx(nss(magnitude, fixated)), "gradients of colours count by magnitude"


def test_another_photo_is_never_the_same(viewed: Path, classifier: str) -> None:
    task = load(classifier, device="cpu")
    for seed in range(4):
        protocol = HumanAttention(task, viewed, ["gradcam"], seed=seed)
        for item in protocol.items():
            other = protocol._other(item.content, "eye")
            assert other is not None and other.name != f"{item.key}_eye.png"


def test_a_captioner_is_measured_by_its_whole_caption(viewed: Path, captioner: str) -> None:
    task = load(captioner, device="cpu")
    protocol = HumanAttention(task, viewed, ["gradcam"])
    (rows,) = protocol.measure(protocol.items()[:1])
    explanation = task.explain(viewed / "images" / "p0.jpg", whole=True)
    (whole,) = [number for number, target in enumerate(explanation.targets) if target.kind == "caption"]
    wanted = grid_spearman(explanation.heatmap(whole).double(), read_map(viewed / "maps" / "p0_eye.png"))
    assert rows[0]["spearman"] == (None if math.isnan(wanted) else pytest.approx(wanted, abs=1e-3))


def test_vqa_hat(hat: Path, answerer: str) -> None:
    found = read_vqa_hat(hat)
    assert [photo.key for photo in found] == ["90", "1391"] and found[0].question == "what runs on the grass"
    assert list(found[0].maps) == ["annotator 1", "annotator 2", "annotator 3"]
    assert found[1].photo.name == "COCO_val2014_000000000139.jpg"
    result = run(HumanAttention(load(answerer, device="cpu"), hat, ["gradcam"]))
    # The second question holds no word that the model knows.
    ceiling = next(line for line in result.lines if line.labels["method"] == "humans")
    assert ceiling.labels["human"] == "annotators" and ceiling.means["spearman"].rows == 3 * 2
    assert ceiling.means["spearman"].items == 1 and ceiling.means["spearman"].value > 0.9
    assert "VQA-HAT" in result.markdown()


def test_what_does_not_fit_is_refused(viewed: Path, hat: Path, classifier: str, answerer: str, mover: str) -> None:
    with pytest.raises(InputError, match="holds no questions"):
        HumanAttention(load(answerer, device="cpu"), viewed, ["gradcam"])
    with pytest.raises(InputError, match="name a VQA model"):
        HumanAttention(load(classifier, device="cpu"), hat, ["gradcam"])
    with pytest.raises(InputError, match="is for photos"):
        HumanAttention(load(mover, device="cpu"), viewed, ["gradcam"])
    with pytest.raises(InputError, match="no such folder"):
        HumanAttention(load(classifier, device="cpu"), viewed / "none", ["gradcam"])


def test_damaged_data_are_told(viewed: Path, hat: Path) -> None:
    with pytest.raises(InputError, match=r"holds no annotations\.jsonl"):
        read_human_attention(hat)
    with pytest.raises(InputError, match="holds no maps of VQA-HAT"):
        read_vqa_hat(hat / "val2014")
    (hat / "val2014" / "COCO_val2014_000000000139.jpg").unlink()
    with pytest.raises(InputError, match="question 1391 is on the COCO photo 000000000139, which is not in"):
        read_vqa_hat(hat)
    (hat / "OpenEnded_mscoco_val2014_questions.json").write_text("{}")
    with pytest.raises(InputError, match="is no file of VQA questions"):
        read_vqa_hat(hat)
    path = viewed / "annotations.jsonl"
    good = path.read_text()
    path.write_text(good + '{"file": "p0.jpg"}\n')
    with pytest.raises(InputError, match="line 4 of"):
        read_human_attention(viewed)
    path.write_text(good + "{\n")
    with pytest.raises(InputError, match="cannot read"):
        read_human_attention(viewed)
    path.write_text(good)
    (viewed / "maps" / "p0_eye.png").unlink()
    with pytest.raises(InputError, match="which is not there"):
        read_human_attention(viewed)
    (viewed / "maps" / "p0_eye.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match="cannot read the map"):
        read_map(viewed / "maps" / "p0_eye.png")


def test_real_photos(data_dir: Path, classifier: str) -> None:
    """The correlations that the data's own description tells: two kinds on one photo, and on two."""
    folder = data_dir / "human_attention"
    found = read_human_attention(folder)
    assert len(found) == 102 and sum(len(photo.maps) for photo in found) == 255
    assert all(
        read_map(path).shape == Image.open(photo.photo).size[::-1]
        for photo in found[:5]
        for path in photo.maps.values()
    )
    assert "mouse_lab" not in found[0].points and len(found[0].points["eye"]) == 139
    result = run(HumanAttention(load(classifier, device="cpu"), folder, ["gradcam"]), limit=3)
    assert means(result, "humans", "eye")["cc"] > 0.65 and means(result, "another photo", "eye")["cc"] < 0.35
    assert means(result, "centre", "eye")["auc_judd"] > 0.6
