"""The protocol against a slow loop in float64, one input at a time, and its behaviour with flat maps and seeds."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional

from mmexplain.errors import InputError, MethodError
from mmexplain.evaluate import Row, run
from mmexplain.evaluate.data.folder import files
from mmexplain.evaluate.faithfulness import METRICS, Faithfulness
from mmexplain.evaluate.metrics.insertion_deletion import blurred
from mmexplain.evaluate.questions import Question, ask, probe_of
from mmexplain.evaluate.registry import get
from mmexplain.explanation import Explanation
from mmexplain.preprocess import Preprocess
from mmexplain.tasks.action.task import Action
from mmexplain.tasks.captioning import CaptionerAdapter, Captioning, WordList
from mmexplain.tasks.classification import Classifier
from tests.models import PlainCNN, seeded

PREPROCESS = Preprocess(resize=(16, 16), mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))
WORDS = ["<end>", "a", "dog", "cat", "runs", "on", "the", "grass"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for number in range(3):
        pixels = random.integers(0, 256, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    return tmp_path


def classifier() -> Classifier:
    return Classifier(seeded(PlainCNN), PREPROCESS, layer="relu2")


def rows_of(protocol: Faithfulness, number: int | None = None) -> list[list[Row]]:
    items = list(protocol.items())
    return [list(rows) for rows in protocol.measure(items if number is None else items[number : number + 1])]


def test_against_a_loop(folder: Path) -> None:
    """Drop, insertion and deletion as the papers write them: one pixel set, one forward pass."""
    task = classifier()
    methods = ["gradcam", "gradcam++"]
    found = rows_of(Faithfulness(task, folder, methods, steps=4))
    black = torch.tensor(PREPROCESS.black, dtype=torch.float64).view(3, 1, 1)
    ordered = 0
    for number, rows in enumerate(found):
        explanation = task.explain(folder / f"{number}.png", methods=methods)
        image = task.prepare(folder / f"{number}.png").inputs["image"][0].double()
        falls = []

        def says(changed: Tensor, chosen: int = explanation.targets[0].ids[0]) -> float:
            with torch.no_grad():
                return float(task.model(changed[None]).softmax(1)[0, chosen])

        for method in methods:
            (row,) = (r for r in rows if r["method"] == method and r["against"] == "")
            values = explanation.map(0, method=method)
            values = functional.interpolate(values[None, None].float(), size=(16, 16), mode="bilinear")[0, 0]
            share = values.double() / values.max().double() if values.max() > 0 else torch.zeros(16, 16)
            before, after = says(image), says(black + share * (image - black))
            falls.append((before - after) / before)
            assert row["drop"] == pytest.approx(max(0.0, falls[-1]), abs=1e-5)
            assert row["increase"] == float(after > before)
            key = f"{number}.png".encode()
            drawn = torch.randperm(256, generator=torch.Generator().manual_seed(crc32(key))).tolist()
            flat = values.flatten().tolist()
            ranked = [i for _, _, i in sorted((-flat[i], place, i) for place, i in enumerate(drawn))]
            curves: dict[str, list[float]] = {"insertion": [], "deletion": []}
            for count in (0, 64, 128, 192, 256):
                removed, added = image.clone(), blurred(image).clone()
                for i in ranked[:count]:
                    removed[:, i // 16, i % 16] = black[:, 0, 0]
                    added[:, i // 16, i % 16] = image[:, i // 16, i % 16]
                curves["deletion"].append(says(removed))
                curves["insertion"].append(says(added))
            ordered += bool(values.max() > values.min())
            for name, curve in curves.items():
                if values.max() == values.min():
                    assert row[name] is None
                    continue
                assert row[name] == pytest.approx(sum((a + b) / 8 for a, b in itertools.pairwise(curve)), abs=1e-5)
        wins = {(r["method"], r["against"]): r["win"] for r in rows if r["against"]}
        first = 0.5 if falls[0] == falls[1] else float(falls[0] < falls[1])
        assert wins == {("gradcam", "gradcam++"): first, ("gradcam++", "gradcam"): 1 - first}
    assert ordered >= 3


def test_correlation_with_occlusion_on_the_maps_grid(folder: Path) -> None:
    task = Classifier(seeded(PlainCNN), Preprocess(resize=(80, 80), mean=(0.5,) * 3), layer="relu2")
    found = rows_of(Faithfulness(task, folder, ["gradcam++"], metrics=["correlation"]))
    for number, (row,) in enumerate(found):
        explanation = task.explain(folder / f"{number}.png", methods=["gradcam++", "occlusion"])
        one, other = explanation.map(0, method="gradcam++"), explanation.map(0, method="occlusion")
        cells = other.reshape(40, 2, 40, 2).mean((1, 3))
        expected = stats.spearmanr(one.flatten().numpy(), cells.flatten().numpy()).statistic
        # Ranks of values that are all but equal depend on rounding.
        assert row["correlation"] == pytest.approx(expected, abs=1e-3) and abs(expected) > 0.01
    (own, *_), *_ = rows_of(Faithfulness(task, folder, ["occlusion"], metrics=["correlation"]))
    assert own["correlation"] == pytest.approx(1)


def test_no_item_changes_another_ones_rows(folder: Path) -> None:
    """Nothing that is drawn or batched depends on what else is measured."""
    everything: dict[str, Any] = {"metrics": [metric.name for metric in METRICS], "steps": 3, "samples": 20}
    together = rows_of(Faithfulness(classifier(), folder, ["gradcam", "input-x-gradient"], **everything))
    for number, rows in enumerate(together):
        (alone,) = rows_of(Faithfulness(classifier(), folder, ["gradcam"], **everything), number)
        (row,) = (r for r in rows if r["method"] == "gradcam" and not r["against"])
        assert set(row) == {"method", "against", "target", *(m.name for m in METRICS if m.name != "win")}
        for name, value in alone[0].items():
            assert row[name] == (pytest.approx(value, abs=1e-6) if isinstance(value, float) else value)


def test_another_seed_draws_otherwise(folder: Path) -> None:
    options: dict[str, Any] = {"metrics": ["infidelity", "sensitivity", "road"], "samples": 20}
    one, same, other = (
        rows_of(Faithfulness(classifier(), folder, ["gradcam++"], seed=seed, **options), 0) for seed in (0, 0, 1)
    )
    assert one == same
    assert all(one[0][0][name] != other[0][0][name] for name in options["metrics"])


class Blind(nn.Module):
    """Says the same of every photo."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3)

    def forward(self, images: Tensor) -> Tensor:
        return 0 * self.conv(images).mean((2, 3)) + torch.tensor([1.0, 0.0])


def test_flat_maps_have_no_order(folder: Path) -> None:
    """The maps are zero: nothing is shown, and no order of pixels and no rank correlation is there."""
    task = Classifier(Blind(), PREPROCESS, layer="conv")
    metrics = [metric.name for metric in METRICS]
    result = run(Faithfulness(task, folder, ["gradcam", "gradcam++"], metrics=metrics, steps=3, samples=10))
    line = result.lines[0].means
    assert line["drop"].value == 0 and line["increase"].value == 0
    for name in ("insertion", "deletion", "road", "correlation"):
        assert math.isnan(line[name].value) and line[name].undefined == 3
    assert line["infidelity"].value == 0 and line["sensitivity"].value == 0
    assert result.lines[2].labels["against"] == "gradcam++" and result.lines[2].means["win"].value == 0.5


def test_maps_that_are_infinite_are_undefined(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = Explanation.map

    def with_infinity(self: Explanation, *target: Any, method: str | None = None, **options: Any) -> Tensor:
        found = own(self, *target, method=method, **options)
        return found.index_fill(0, torch.tensor([0]), math.inf) if method == "gradcam" else found

    monkeypatch.setattr(Explanation, "map", with_infinity)
    metrics = [metric.name for metric in METRICS if metric.name != "correlation"]
    options: dict[str, Any] = {"metrics": metrics, "steps": 3, "samples": 10}
    (rows,) = rows_of(Faithfulness(classifier(), folder, ["gradcam", "gradcam++"], **options), 0)
    for row in rows:
        numbers = {row[name] for name in metrics if name in row}
        assert (numbers == {None}) == (row["method"] == "gradcam" or row["against"] == "gradcam")


class Tiny(CaptionerAdapter):
    """A CNN with an LSTM that sees the photo first."""

    def __init__(self) -> None:
        super().__init__()
        self.vocabulary = WordList(WORDS, end=0)
        self.cnn = nn.Sequential(nn.Conv2d(3, 6, 3, 2), nn.ReLU())
        self.see, self.embed = nn.Linear(6, 12), nn.Embedding(len(WORDS), 12)
        self.lstm, self.speak = nn.LSTM(12, 12, batch_first=True), nn.Linear(12, len(WORDS))

    def encode(self, images: Tensor) -> Tensor:
        features: Tensor = self.cnn(images)
        return features

    def decode(self, features: Tensor, tokens: Tensor) -> Tensor:
        photo = self.see(features.amax((2, 3)))[:, None]
        hidden, _ = self.lstm(torch.cat([photo, self.embed(tokens[:, :-1])], 1))
        logits: Tensor = self.speak(hidden)
        return logits

    def generate(self, features: Tensor, beam: int, max_length: int) -> list[list[int]]:
        """Captions of different lengths."""
        spoken = [[1, 2, 4, 5, 6, 7], [1, 3], [6, 2, 4]]
        return [spoken[int(total * 1e4) % 3] for total in features.flatten(1).mean(1)]


def test_each_content_word_of_a_caption(folder: Path) -> None:
    """Words are scored in their caption, by probability, whichever caption the other photos of the batch have."""
    torch.manual_seed(0)
    task = Captioning(Tiny(), PREPROCESS, layer="cnn.1")
    options: dict[str, Any] = {"metrics": ["drop", "deletion", "infidelity", "sensitivity"], "steps": 2, "samples": 10}
    together = rows_of(Faithfulness(task, folder, ["gradcam"], **options))
    for number, rows in enumerate(together):
        explanation = task.explain(folder / f"{number}.png")
        content = [target for target in explanation.targets if target.content]
        assert [row["target"] for row in rows] == [target.label for target in content] and content
        image = task.prepare(folder / f"{number}.png").inputs["image"]
        tokens = torch.tensor([[target.ids[0] for target in explanation.targets]])
        black = torch.tensor(PREPROCESS.black).view(1, 3, 1, 1)
        for row, target in zip(rows, content, strict=True):
            values = functional.interpolate(explanation.map(target)[None, None], size=(16, 16), mode="bilinear")[0, 0]
            share = values / values.max() if values.max() > 0 else values
            with torch.no_grad():
                before, after = (
                    float(
                        task.captioner.decode(task.captioner.encode(x), tokens).softmax(-1)[
                            0, target.index, target.ids[0]
                        ]
                    )
                    for x in (image, black + share * (image - black))
                )
            assert row["drop"] == pytest.approx(max(0, before - after) / before, abs=1e-5)
        (alone,) = rows_of(Faithfulness(task, folder, ["gradcam"], **options), number)
        for one, other in zip(rows, alone, strict=True):
            assert all(one[name] == pytest.approx(other[name], abs=1e-5) for name in options["metrics"])


def test_questions_are_answered_in_order_whatever_the_chunks(folder: Path) -> None:
    """Questions that are cut in two by a chunk, and chunks that hold several."""
    task = classifier()
    paths = [folder / "0.png", folder / "1.png"]
    explanations = task.explain(paths, top=2)
    probe = probe_of(task, task.prepare(paths), explanations)
    torch.testing.assert_close(torch.stack([e.scores for e in explanations]), probe.scores)
    images = torch.randn(11, 3, 16, 16, dtype=torch.float64)
    sizes, owners = [3, 1, 7], [1, 0, 1]
    starts = [0, 3, 4]
    questions = [
        Question(owner, size, lambda part, s=start: images[s + part.start : s + part.stop])
        for owner, size, start in zip(owners, sizes, starts, strict=True)
    ]
    for memory in (1, 20 * 3 * 256 * 8 * 4, 2**30):
        probe.memory = memory
        found = ask(probe, questions)
        for scores, owner, size, start in zip(found, owners, sizes, starts, strict=True):
            logits = task.model(images[start : start + size]).detach()
            ids = [target.ids[0] for target in explanations[owner].targets]
            torch.testing.assert_close(scores, logits[:, ids].float())
    assert ask(probe, []) == []


def test_it_is_found_by_name_and_resumes(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert get("faithfulness") is Faithfulness
    out = tmp_path_factory.mktemp("out")
    first = run(Faithfulness(classifier(), folder, ["gradcam"], steps=2), out, limit=1)
    whole = run(Faithfulness(classifier(), folder, ["gradcam"], steps=2), out)
    assert (first.items, whole.items) == (1, 3)
    assert "Average Drop" in whole.markdown() and "Petsiuk" in whole.markdown()


def test_wrong_arguments_are_told(folder: Path) -> None:
    task = classifier()
    with pytest.raises(InputError, match="unknown metric 'inserton'; closest: 'insertion'"):
        Faithfulness(task, folder, ["gradcam"], metrics=["inserton"])
    with pytest.raises(InputError, match="1 step and 10 samples"):
        Faithfulness(task, folder, ["gradcam"], steps=0)
    with pytest.raises(InputError, match="at least one method"):
        Faithfulness(task, folder, [])
    with pytest.raises(MethodError):
        Faithfulness(task, folder, ["gradcamm"])
    with pytest.raises(InputError, match="no such folder"):
        Faithfulness(task, folder / "none", ["gradcam"]).items()
    with pytest.raises(InputError, match="puts out none"):
        rows_of(Faithfulness(Classifier(PlainCNN(), PREPROCESS, layer="relu2", link="none"), folder, ["gradcam"]))


def test_photos_of_a_folder(tmp_path: Path) -> None:
    for name in ("JPEGImages/b.jpg", "JPEGImages/a.JPG", "SegmentationClass/a.png", "JPEGImages/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert [item.key for item in files(tmp_path)] == ["a.JPG", "b.jpg"], "masks are no photos"
    assert [item.key for item in files(tmp_path / "SegmentationClass")] == ["a.png"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no file in .* ends in"):
        files(tmp_path / "empty")


class Clip(nn.Module):
    """A 3-D CNN over clips."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(3, 4, 3, (1, 2, 2), 1)
        self.fc = nn.Linear(4, 3)

    def forward(self, clip: Tensor) -> Tensor:
        return self.fc(self.conv(clip).relu().amax((2, 3, 4)))


def test_clips(tmp_path: Path) -> None:
    """The window in the middle, masked in space and time."""
    frames = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), dtype=np.uint8)
    images = [Image.fromarray(frame) for frame in frames]
    images[0].save(tmp_path / "clip.gif", save_all=True, append_images=images[1:], duration=100)
    task = Action(seeded(Clip).float(), PREPROCESS, frames=4, layer="conv", model_id="clip")
    metrics = [metric.name for metric in METRICS if metric.name != "road"]
    protocol = Faithfulness(task, tmp_path, ["gradcam"], metrics=metrics, steps=2, samples=10)
    ((row,),) = rows_of(protocol)
    explanation = task.explain(str(tmp_path / "clip.gif"), sampling="dense")
    clip = task.prepare(str(tmp_path / "clip.gif")).inputs["clip"]
    values = functional.interpolate(explanation.map(0)[None, None], size=(4, 16, 16), mode="trilinear")[0, 0]
    share = values / values.max() if values.max() > 0 else values
    black = torch.tensor(PREPROCESS.black).view(1, 3, 1, 1, 1)
    with torch.no_grad():
        chosen = explanation.targets[0].ids[0]
        before, after = (float(task.model(x).softmax(1)[0, chosen]) for x in (clip, black + share * (clip - black)))
    assert row["drop"] == pytest.approx(max(0, before - after) / before, abs=1e-5)
    assert all(row[name] is not None for name in ("insertion", "deletion", "infidelity", "sensitivity"))
    steps = {kind.name: Faithfulness(kind, tmp_path, ["gradcam"]).settings()["steps"] for kind in (task, classifier())}
    assert steps == {"action": 16, "classify": 32}, "a pass over a clip takes long"
    with pytest.raises(InputError, match="of photos, not of clips"):
        Faithfulness(task, tmp_path, ["gradcam"], metrics=["road"])


def test_a_real_classifier_on_real_photos(data_dir: Path) -> None:
    """Deletion lies below insertion where maps find what the class is read from; what they show is enough for it."""
    from mmexplain.tasks.registry import load

    protocol = Faithfulness(load("efficientnet-lite0", device="cpu"), data_dir / "coco_mini", ["gradcam"], steps=4)
    (line,) = run(protocol, limit=2).lines
    assert line.means["deletion"].value < line.means["insertion"].value and line.means["drop"].value < 0.5
