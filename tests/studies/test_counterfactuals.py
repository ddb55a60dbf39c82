"""Counterfactual regions: removed by hand, by a model whose truth is known, and from the command line."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor, nn

from mmexplain.errors import InputError
from mmexplain.studies import Study
from mmexplain.studies.counterfactuals.cases import ELSEWHERE, EVIDENCE, MARKED, MOVED, REMOVED, change
from mmexplain.studies.counterfactuals.figure import chart, examples, examples_figure
from mmexplain.studies.counterfactuals.removal import BLUR, Filled, known_fills, moved, strongest
from mmexplain.studies.counterfactuals.study import Counterfactuals
from mmexplain.tasks.classification.task import Classifier
from tests.command_line import picture, record, refusal, run
from tests.evaluate.objects import colours, lines, photo

pytest_plugins = ["tests.command_line_fixtures"]

SIDE, BLOCK = 64, 16
PHOTOS = 12


class Opposed(nn.Module):
    """The logit of red is the mean of the red channel less that of the blue one, and the other way round: what speaks
    against red is blue. ``sign`` turns round what the left half of the photo says, unseen by pooled gradients."""

    def __init__(self, sign: float = 1.0) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 2, 1, bias=False)
        with torch.no_grad():
            self.features.weight.copy_(torch.tensor([[1.0, 0, 0], [0, 0, 1.0]])[:, :, None, None])
        self.register_buffer("sides", torch.where(torch.arange(32) < 12, sign, 1.0) * 20)

    def forward(self, x: Tensor) -> Tensor:
        red, blue = (self.features(x) * self.sides).mean((2, 3)).unbind(1)
        return torch.stack((red - blue, blue - red), 1)


def opposed(sign: float = 1.0) -> Classifier:
    return Classifier(Opposed(sign).eval(), colours().preprocess, ["red", "blue"], layer="features", model_id="opposed")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A red block and a blue one on black, which stand elsewhere in each photo: the blue one in the left third."""
    folder = tmp_path_factory.mktemp("blocks")
    random = np.random.default_rng(1)
    entries = []
    for number in range(PHOTOS):
        (x, y), (u, v) = random.integers(24, SIDE - BLOCK, 2).tolist(), random.integers(0, SIDE - BLOCK, 2).tolist()
        u = u % 8
        name = f"{number:02}.png"
        photo(folder / "images" / name, ("red", (x, y, x + BLOCK, y + BLOCK)), ("blue", (u, v, u + BLOCK, v + BLOCK)))
        entries.append((name, [("red", (x, y, BLOCK, BLOCK)), ("blue", (u, v, BLOCK, BLOCK))]))
    return lines(folder, *entries, size=(SIDE, SIDE))


@pytest.fixture(scope="module")
def ran(data: Path) -> tuple[Counterfactuals, Study]:
    study = Counterfactuals(opposed(), data, area=(BLOCK / SIDE) ** 2, draws=2)
    return study, study.run()


# -- regions and fills ------------------------------------------------------------------------------------------------


def test_the_strongest_pixels() -> None:
    values = np.array([[0.0, 3.0, 1.0], [3.0, 0.0, 2.0]])
    assert np.argwhere(strongest(values, 1)).tolist() == [[0, 1]], "of equal ones the first"
    assert np.argwhere(strongest(values, 3)).tolist() == [[0, 1], [1, 0], [1, 2]]
    assert int(strongest(values, 6).sum()) == 4, "zero marks nothing"
    assert strongest(np.zeros((2, 2)), 1) is None and strongest(-np.ones((2, 2)), 1) is None
    assert strongest(np.array([[1.0, np.nan]]), 1) is None and strongest(np.array([[1.0, np.inf]]), 1) is None


def test_a_moved_region_is_the_same_one_elsewhere() -> None:
    region = np.zeros((5, 7), bool)
    region[0, :3] = region[1, 0] = True  # a corner: mirrored it is another
    images = {
        np.roll(turned, (y, x), (0, 1)).tobytes()
        for turned in (region, region[::-1], region[:, ::-1], region[::-1, ::-1])
        for y in range(5)
        for x in range(7)
    }
    random = np.random.default_rng(0)
    found = [moved(region, random) for _ in range(2000)]
    assert len(images) == 4 * 35 and {one.tobytes() for one in found} == images
    cover = np.mean(found, axis=0)
    assert np.allclose(cover, region.mean(), atol=0.05), "each pixel is as likely as any other"


def test_fills() -> None:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (24, 32, 3), dtype=np.uint8)
    region = np.zeros((24, 32), bool)
    region[5:12, 8:20] = True
    filled = Filled(pixels)
    for fill in ("inpaint", "blur", "mean"):
        found = filled(region, fill)
        assert (found[~region] == pixels[~region]).all() and (found[region] != pixels[region]).any()
        assert (filled(np.zeros_like(region), fill) == pixels).all()
    assert (filled(region, "mean")[region] == pixels.reshape(-1, 3).mean(0).round()).all()
    for channel in range(3):
        wanted = ndimage.gaussian_filter(pixels[..., channel].astype(float), 24 * BLUR, mode="nearest")
        assert np.abs(filled(region, "blur")[region][:, channel] - wanted[region]).max() <= 0.51
    grey = np.full((24, 32, 3), 90, np.uint8)
    grey[region] = (255, 0, 0)
    wide = ndimage.binary_dilation(region)
    assert np.abs(Filled(grey)(wide, "inpaint").astype(int) - 90).max() <= 3, "what is round it goes on"


def test_unknown_fills() -> None:
    with pytest.raises(InputError, match="unknown fill 'blurr'; closest: 'blur'"):
        known_fills(["blurr"])
    with pytest.raises(InputError, match="at least one"):
        known_fills([])
    assert known_fills(["mean", "blur", "mean"]) == ["mean", "blur"]


def test_without_opencv_inpainting_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmexplain.studies.counterfactuals.removal.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'mmexplain\[studies\]'"):
        known_fills(["inpaint"])
    assert known_fills(["blur"]) == ["blur"]


def test_changes_by_hand() -> None:
    before = torch.tensor([[1.0, 2.0, 3.0], [math.log(0.2), math.log(0.3), math.log(0.5)]], dtype=torch.float64)
    logs = [[0.4, 0.3, 0.3], [0.1, 0.6, 0.3]]
    after = torch.tensor([[[2.0, 2.0, 2.0], row] for row in logs], dtype=torch.float64)
    after[:, 1] = after[:, 1].log()
    found = change(before, after, 0, [1, 2])
    assert found.log_probability == pytest.approx((math.log(2) + math.log(0.5)) / 2)
    assert (found.surer, found.score) == (0.5, 1.0)
    assert found.probability == pytest.approx(0.05)
    assert found.others == pytest.approx((math.log(1) + math.log(2) + 2 * math.log(0.6)) / 4)
    assert change(before, after, 0, []).others is None


# -- a model whose truth is known -------------------------------------------------------------------------------------


def test_against_a_removal_by_hand(ran: tuple[Counterfactuals, Study], data: Path) -> None:
    """The counterfactual region of red is the blue block, that of blue the red one, but for the blur of resizing."""
    study, _ = ran
    task = opposed()
    assert [case.target for case in study.cases] == ["red", "blue"] * PHOTOS
    for case in study.cases[:4]:
        pixels = np.asarray(Image.open(data / "images" / case.photo))
        other = pixels[..., 2 if case.target == "red" else 0] > 0
        own = pixels[..., 0 if case.target == "red" else 2] > 0
        assert case.area == pytest.approx((BLOCK / SIDE) ** 2, abs=1e-9) == other.mean()
        for removed, region in ((MARKED, other), (EVIDENCE, own)):
            changed = pixels.copy()
            changed[region] = pixels.reshape(-1, 3).mean(0).round()
            with torch.no_grad():
                before, after = (
                    task.model(task.prepare(Image.fromarray(one)).inputs["image"])[0] for one in (pixels, changed)
                )
            found = case.changes["mean"][removed]
            number = case.number
            assert found.score == pytest.approx(float(after[number] - before[number]), abs=0.15)
            rise = float(after.log_softmax(0)[number] - before.log_softmax(0)[number])
            assert found.log_probability == pytest.approx(rise, abs=0.15)
            assert found.surer == (rise > 0) == (removed == MARKED)
            # Of two classes one loses what the other gains.
            gain = float(after.log_softmax(0)[1 - number] - before.log_softmax(0)[1 - number])
            assert found.others == pytest.approx(gain, abs=0.15)


def test_where_the_maps_lie(ran: tuple[Counterfactuals, Study]) -> None:
    for case in ran[0].cases:
        assert case.lies[MARKED].others > 0.85 and case.lies[MARKED].own < 0.1
        assert case.lies[EVIDENCE].own > 0.85 and case.lies[EVIDENCE].others < 0.1
        assert case.lies["uniform"].own == case.lies["uniform"].others == pytest.approx((BLOCK / SIDE) ** 2)


def test_controls_hold_where_maps_tell_the_truth(ran: tuple[Counterfactuals, Study]) -> None:
    study, found = ran
    assert [control.held for control in found.controls] == [True] * 4
    assert found.items == PHOTOS and len(found.details["cases"]) == 2 * PHOTOS
    for fill in ("inpaint", "blur", "mean"):
        marked, factual = (study.summary.mean(fill, name, "log_probability") for name in (MARKED, EVIDENCE))
        values = [case.changes[fill][MARKED].log_probability for case in study.cases]
        assert marked.value == pytest.approx(np.mean(values)) and marked.low < marked.value < marked.high
        assert marked.low > 0 > factual.high
        pairs = [
            case.changes[fill][MARKED].log_probability - case.changes[fill][ELSEWHERE].log_probability
            for case in study.cases
            if ELSEWHERE in case.changes[fill]
        ]
        assert len(pairs) == 2 * PHOTOS - 2, "the first photo had none before it"
        assert study.summary.beyond(fill, ELSEWHERE).value == pytest.approx(np.mean(pairs))
        assert study.summary.beyond(fill, MOVED).low > 0
    assert [len(table.rows) for table in found.tables] == [4, 4, 4, 12, 4]


def test_controls_fail_where_maps_lie(data: Path, tmp_path: Path) -> None:
    """Pooled gradients do not see that blue on the left speaks for red: what is said of red is wrong there."""
    shutil.copytree(data / "images", tmp_path / "images")
    entries = [json.loads(line) for line in (data / "annotations.jsonl").read_text().splitlines()]
    red = [(one["file"], [(o["cat"], o["bbox"]) for o in one["objects"] if o["cat"] == "red"]) for one in entries]
    lines(tmp_path, *red, size=(SIDE, SIDE))
    study = Counterfactuals(opposed(sign=-1.0), tmp_path, fills=["mean"], area=(BLOCK / SIDE) ** 2, draws=2)
    found = study.run()
    assert [case.target for case in study.cases] == ["red"] * PHOTOS
    assert study.summary.mean("mean", MARKED, "log_probability").high < 0
    assert study.summary.mean("mean", MARKED, "surer").value == 0
    assert not found.controls[0].held and not found.held


def test_fewer_photos_than_an_interval_takes_settle_nothing(data: Path) -> None:
    found = Counterfactuals(opposed(), data, fills=["mean"], limit=3).run()
    assert found.items == 3 and not any(control.held for control in found.controls)
    assert any("no intervals" in note for note in found.notes)


def test_maps_that_mark_nothing(data: Path) -> None:
    """Red is all that the logit of red depends on, and more of it is better: nothing speaks against it."""
    with pytest.raises(InputError, match="no counterfactual map marks anything"):
        Counterfactuals(colours(), data, fills=["mean"], limit=2).run()


def test_seeds_and_the_model(data: Path) -> None:
    task = opposed()
    task.model.train()
    before = {name: value.clone() for name, value in task.model.state_dict().items()}

    def cases(seed: int) -> Any:
        return Counterfactuals(task, data, fills=["mean"], limit=4, seed=seed).run().details["cases"]

    first, other = cases(3), cases(4)
    assert first == cases(3)
    for one, two in zip(first, other, strict=True):
        assert one["changes"]["mean"][MARKED] == two["changes"]["mean"][MARKED]
    assert [one["changes"]["mean"][MOVED] for one in first] != [one["changes"]["mean"][MOVED] for one in other]
    assert task.model.training and task.model.features.weight.grad is None
    assert all(bool((value == before[name]).all()) for name, value in task.model.state_dict().items())


def test_the_likeliest_class(data: Path) -> None:
    study = Counterfactuals(opposed(), data, fills=["mean"], of="top", score="log-probability", limit=3)
    found = study.run()
    assert found.settings["of"] == "top" and len(study.cases) == 3
    assert all(case.probability > 0.4 and not case.lies and not case.several for case in study.cases)
    assert len(found.tables) == 1


def test_figures(ran: tuple[Counterfactuals, Study]) -> None:
    study, _ = ran
    shown = examples(study, "blur")
    assert [example.why for example in shown] == ["raised most", "second most", "median", "least"]
    changes = [example.change for example in shown]
    every = [case.changes["blur"][MARKED].log_probability for case in study.cases]
    assert changes == sorted(changes, reverse=True) and (changes[0], changes[-1]) == (max(every), min(every))
    for example in shown:
        assert math.log(example.after / example.case.probability) == pytest.approx(example.change, abs=1e-6)
        changed = np.asarray(example.without) != np.asarray(example.photo)
        assert changed.any() and not changed.all()
    assert len(examples_figure(shown).axes[0].images) == 4 * 4
    panels = chart(study.summary).axes
    assert [axes.get_title(loc="left") for axes in panels] == ["filled: inpaint", "filled: blur", "filled: mean"]
    assert [label.get_text() for label in panels[0].get_yticklabels()] == list(REMOVED)


def test_bad_options(data: Path) -> None:
    for options, told in (
        ({"area": 0.0}, "at most half"),
        ({"area": 0.6}, "at most half"),
        ({"limit": 0}, "1 or more"),
        ({"draws": 0}, "1 or more"),
        ({"of": "all"}, "'labels' or 'top'"),
        ({"score": "odds"}, "unknown score 'odds'"),
    ):
        with pytest.raises(InputError, match=told):
            Counterfactuals(opposed(), data, **options).run()


# -- the command line -------------------------------------------------------------------------------------------------


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(3):
        picture(120, 150 + 10 * number).save(folder / f"{number}.png")
    return folder


def test_the_table_and_the_files(photos: Path, classifier: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ("study", "counterfactuals", "--data", photos, "--model", classifier, "--fill", "blur", "--draws", 1)
    assert "no counterfactual map marks anything" in refusal(*arguments), "nothing at its last layer speaks against it"
    arguments += ("--layer", "layer2")
    result = run(*arguments, "--out", out)
    assert result.exit_code == 0, result.output
    printed = result.stdout.splitlines()
    assert any(line.startswith("removed region") and line.split()[-1] == "n" for line in printed)
    assert any(line.startswith("moved at random") and line.split()[-1] == "3" for line in printed)
    assert sum(line.startswith(("control held", "control failed")) for line in printed) == 4
    assert {path.name for path in out.iterdir()} == {"study.json", "study.md", "study.png", "examples.png"}
    stored = json.loads((out / "study.json").read_text())
    assert stored["settings"]["of"] == "top" and len(stored["details"]["cases"]) == 3


def test_words_and_answers(photos: Path, captioner: str, answerer: str, tmp_path: Path) -> None:
    base = ("study", "counterfactuals", "--fill", "mean", "--draws", 1, "--score", "log-probability", "--data")
    words = record(*base, photos, "--model", captioner, "--limit", 2)
    assert words["items"] == 2 and words["settings"]["of"] is None
    asked = tmp_path / "asked"
    asked.mkdir()
    photos.rename(asked / "images")
    questions = [("0.png", "a red dog"), ("0.png", "a cat runs"), ("1.png", "dog"), ("2.png", "zebras")]
    (asked / "qa.jsonl").write_text(
        "\n".join(json.dumps({"image": image, "question": text}) for image, text in questions)
    )
    answers = record(*base, asked, "--model", answerer)
    assert answers["items"] == 2 and len(answers["details"]["cases"]) == 3
    assert any("1 questions" in note for note in answers["notes"])
    for case in answers["details"]["cases"]:
        if case["photo"] == "1.png":
            assert case["changes"] == {} or 0 < case["area"] <= 0.1


def test_refusals(photos: Path, classifier: str, captioner: str, mover: str, photo: Path, tmp_path: Path) -> None:
    base = ("study", "counterfactuals", "--data")
    assert "no such file or folder: 'nowhere'" in refusal(*base, "nowhere", "--model", classifier)
    assert "is no data with boxes" in refusal(*base, photo, "--model", classifier)
    assert "holds no photos with boxes" in refusal(*base, photos, "--model", classifier, "--of", "labels")
    assert "only classifiers" in refusal(*base, photos, "--model", captioner, "--of", "labels")
    assert "is none that this study takes" in refusal(*base, photos, "--model", mover)
    assert "at most half" in refusal(*base, photos, "--model", classifier, "--area", 0.7)
    assert "--limit" in refusal(*base, photos, "--model", classifier, "--limit", 0)
    assert "is no folder" in refusal(*base, photos, "--model", classifier, "--out", photo)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no file in" in refusal(*base, empty, "--model", classifier)
    (photos / "0.png").write_text("no photo")
    assert "0.png" in refusal(*base, photos, "--model", classifier)
    marked = lines(tmp_path / "marked", size=(10, 10))
    assert "none of the 0 classes" in refusal(*base, marked, "--model", classifier)
