"""Seeds for weakly supervised segmentation: a model whose maps are known, files that trainers read, and controls."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from mmexplain.errors import InputError
from mmexplain.studies.annotation.cues import IGNORE
from mmexplain.studies.annotation.seed_files import SeedFiles, palette
from mmexplain.studies.annotation.seed_recipe import Recipe
from mmexplain.studies.annotation.seeds import study_seeds
from mmexplain.studies.annotation.seeds_told import seeds_figure
from tests.command_line import picture, record, refusal, run
from tests.evaluate.objects import COLOURS, colours, xml
from tests.studies.marked import SIZE, marked, outline, scattered

pytest_plugins = ["tests.command_line_fixtures"]

PLAIN = Recipe(grabcut=False)


def drawn(data: Path) -> dict[str, np.ndarray]:
    """Photo → label map of its blocks (green 1, red 2), read without the package."""
    found = {}
    for line in (data / "annotations.jsonl").read_text().splitlines():
        entry = json.loads(line)
        found[entry["file"]] = labels = np.zeros((SIZE, SIZE), np.uint8)
        for one in entry["objects"]:
            x, y, width, height = one["bbox"]
            labels[y : y + height, x : x + width] = {"green": 1, "red": 2}[one["cat"]]
    return found


@pytest.mark.parametrize(
    "recipe", [PLAIN, Recipe(), Recipe(conflicts="strongest")], ids=["plain", "GrabCut", "strongest"]
)
def test_masks_of_maps_that_are_known(tmp_path: Path, recipe: Recipe) -> None:
    data, out = scattered(tmp_path / "data"), tmp_path / "out"
    study, written = study_seeds(colours(), data, recipe, method="cam", out=out)
    kind = "SegmentationClassAug" if recipe.grabcut else "SegmentationClass"
    assert all(path.exists() for path in written)
    for name, true in drawn(data).items():
        assert (np.array(Image.open(out / kind / name)) == true).all()
    masks = study.tables[0]
    assert masks.rows[0][0] == "cam" and all(row[2].value == 1 for row in masks.rows if row[0] == "cam")
    assert [row[0] for row in masks.rows[:: 2 if recipe.grabcut else 1]] == ["cam", "centre", "random class"]
    assert study.tables[1].rows[0][1].value == 1 and study.tables[1].rows[0][2].value == 1
    assert study.held and len(study.controls) == 2 and study.items == 12
    assert study.details["iou"]["cam"]["cues"] == {"background": 1.0, "green": 1.0, "red": 1.0}


def test_controls_fail_for_a_model_that_looks_at_the_wrong_things(tmp_path: Path) -> None:
    data = scattered(tmp_path)
    swapped, _ = study_seeds(colours(["green", "red", "blue"]), data, PLAIN, method="cam")
    assert not swapped.held and swapped.tables[1].rows[0][1].value == 0
    assert "mIoU of objects by cues alone: -" in swapped.controls[0].found


def test_the_centre_is_what_it_would_be_by_hand(tmp_path: Path) -> None:
    """A block in the very middle is found by the Gaussian as well, but for its corners: the control must fail."""
    block = (10, 10, 22, 22)
    data = marked(tmp_path, {f"{number}.png": [("red", block)] for number in range(3)})
    study, _ = study_seeds(colours(), data, PLAIN, method="cam")
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    true = np.zeros((SIZE, SIZE), bool)
    true[10:22, 10:22] = True
    away = np.sort((y**2 + x**2).ravel())[true.sum() - 1]
    disc = y**2 + x**2 <= away
    assert study.details["iou"]["centre"]["cues"]["red"] == pytest.approx((disc & true).sum() / (disc | true).sum())
    assert study.details["iou"]["centre"]["cues"]["red"] > 0.8


def test_files_as_trainers_read_them(tmp_path: Path) -> None:
    data, out = scattered(tmp_path / "data", 3), tmp_path / "out"
    study_seeds(colours(), data, PLAIN, method="cam", out=out, photos=True)
    names = (out / "ImageSets" / "Segmentation" / "train.txt").read_text().split()
    assert names == ["00", "01", "02"]
    table = palette()
    assert (out / "labelmap.txt").read_text().splitlines() == [
        "background:0,0,0::",
        f"green:{table[3]},{table[4]},{table[5]}::",
        f"red:{table[6]},{table[7]},{table[8]}::",
    ]
    stored = load_file(out / "localization_cues.safetensors")
    for line in (out / "input_list.txt").read_text().splitlines():
        file, number = line.split()
        name = file.removesuffix(".jpg")
        photo, mask = (Image.open(out / folder) for folder in (f"JPEGImages/{file}", f"SegmentationClass/{name}.png"))
        assert mask.mode == "P" and photo.size == mask.size and photo.format == "JPEG"
        labels = np.array(mask)
        # what SEC's AnnotationLayer does with them
        image_level, planes = np.zeros(3), np.zeros((3, 41, 41))
        image_level[stored[f"{number}_labels"]] = 1
        cues = stored[f"{number}_cues"]
        planes[cues[0], cues[1], cues[2]] = 1
        assert image_level.tolist() == [0, 1, 1] and (planes.sum(0) <= 1).all()
        for row in range(41):
            y, x = (8 * row + 0.5) / 321 * SIZE, (8 * 20 + 0.5) / 321 * SIZE
            assert planes[labels[int(y), int(x)], row, 20] == 1, "every pixel of these photos has a cue"


def test_a_photo_that_exif_turns(tmp_path: Path) -> None:
    """Masks are upright, and the copy of the photo is turned with them."""
    upright = Image.new("RGB", (40, 60))
    upright.paste(COLOURS["red"], (4, 30, 20, 54))
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "data" / "red").mkdir(parents=True)
    lying = upright.transpose(Image.Transpose.ROTATE_90)
    lying.save(tmp_path / "data" / "red" / "a.jpg", exif=exif, quality=98, subsampling=0)
    study, _ = study_seeds(colours(), tmp_path / "data", Recipe(), method="cam", out=tmp_path, photos=True)
    copied = np.array(Image.open(tmp_path / "JPEGImages" / "a.jpg"))
    for kind in ("SegmentationClass", "SegmentationClassAug"):
        mask = np.array(Image.open(tmp_path / kind / "a.png"))
        assert mask.shape == copied.shape[:2] == (60, 40)
        assert (mask[34:50, 8:16] == 1).all() and (copied[34:50, 8:16, 0] > 200).all()
        assert not (mask == 1)[:27].any() and not (copied[:27, :, 0] > 60).any()
    assert study.controls == [] and "no control was made" in " ".join(study.notes)
    assert [table.title for table in study.tables] == ["Pixels with a cue"] and seeds_figure(study) is None


def test_voc_with_masks(tmp_path: Path) -> None:
    """Numbers are VOC's own, and its masks are what is measured against."""
    names = ["dog", "cat", "person"]  # red, green and blue to this model
    labels = np.zeros((SIZE, SIZE), np.uint8)
    labels[4:20, 4:20], labels[3, 3:21] = 12, 255
    for number in range(2):
        image = Image.new("RGB", (SIZE, SIZE))
        image.paste(COLOURS["red"], (4, 4, 20, 20))
        for folder, picture_ in (("JPEGImages", image), ("SegmentationClass", Image.fromarray(labels))):
            (tmp_path / folder).mkdir(exist_ok=True)
            picture_.save(tmp_path / folder / f"{number}.png")
        xml(tmp_path / "Annotations" / f"{number}.xml", (SIZE, SIZE), ("dog", (5, 5, 20, 20), 0))
    split = tmp_path / "ImageSets" / "Segmentation" / "val.txt"
    split.parent.mkdir(parents=True)
    split.write_text("1\n")
    study, _ = study_seeds(colours(names), split, PLAIN, method="cam", out=tmp_path / "out")
    assert study.items == 1 and study.details["iou"]["cam"]["cues"] == {"background": 1.0, "dog": 1.0}
    made = np.array(Image.open(tmp_path / "out" / "SegmentationClass" / "1.png"))
    assert set(np.unique(made)) == {0, 12} and (made[4:20, 4:20] == 12).all()
    assert len((tmp_path / "out" / "labelmap.txt").read_text().splitlines()) == 21


def test_saliency_gives_its_share_of_background(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "square").mkdir(parents=True)
    picture(64, 64).save(data / "square" / "a.png")
    import torch

    from tests.evaluate.objects import Classifier, Colours

    torch.manual_seed(0)
    model = Colours().eval()
    model.features = torch.nn.Sequential(torch.nn.Conv2d(3, 3, 5, padding=2), torch.nn.Tanh())
    task = Classifier(model, colours().preprocess, ["square", "b", "c"], layer="features", model_id="m")
    recipe = Recipe(background="saliency", level=0.25, grabcut=False, threshold=0.99)
    study_seeds(task, data, recipe, out=tmp_path / "out")
    made = np.array(Image.open(tmp_path / "out" / "SegmentationClass" / "a.png"))
    assert (made == 0).mean() == pytest.approx(0.25, abs=0.03), "less what the class's own cue takes"


def test_the_same_seed_gives_the_same(tmp_path: Path) -> None:
    data = scattered(tmp_path, 10)
    one, again = (study_seeds(colours(), data, Recipe(seed=3), method="gradcam")[0] for _ in range(2))
    assert one.details == again.details and one.markdown().split("Settings")[0] == again.markdown().split("Settings")[0]


def test_refusals(tmp_path: Path) -> None:
    data = scattered(tmp_path / "data", 2)
    with pytest.raises(InputError, match="threshold=0"):
        Recipe(threshold=0)
    with pytest.raises(InputError, match="limit=0"):
        study_seeds(colours(), data, limit=0)
    with pytest.raises(InputError, match="has none of the 2 classes"):
        study_seeds(colours(["a", "b", "c"]), data)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    flat = tmp_path / "flat"
    flat.mkdir()
    Image.new("RGB", (8, 8)).save(flat / "a.png")
    with pytest.raises(InputError, match="put them into folders"):
        study_seeds(colours(), flat)


def test_names_that_would_collide(tmp_path: Path) -> None:
    for folder, name in (("red", "a.png"), ("blue", "a.png"), ("blue", "b.png")):
        (tmp_path / "data" / folder).mkdir(parents=True, exist_ok=True)
        image = Image.new("RGB", (SIZE, SIZE))
        image.paste(COLOURS[folder], (4, 4, 20, 20))
        image.save(tmp_path / "data" / folder / name)
    study_seeds(colours(), tmp_path / "data", PLAIN, method="cam", out=tmp_path)
    assert (tmp_path / "ImageSets/Segmentation/train.txt").read_text().split() == ["blue_a", "blue_b", "red_a"]
    Image.new("RGB", (SIZE, SIZE)).save(tmp_path / "data" / "blue" / "a.jpg")
    with pytest.raises(InputError, match="cannot be told apart"):
        study_seeds(colours(), tmp_path / "data", PLAIN, method="cam", out=tmp_path)


def test_the_verb(tmp_path: Path, classifier: str, captioner: str) -> None:
    data = tmp_path / "data"
    (data / "images").mkdir(parents=True)
    lines = []
    for number in range(2):
        picture().save(data / "images" / f"{number}.png")
        block = (10, 60, 53, 110)
        thing = {"cat": "square", "bbox": [10, 60, 43, 50], "polys": [outline(block)], "crowd": 0}
        lines.append(json.dumps({"file": f"{number}.png", "w": 160, "h": 120, "objects": [thing]}))
    (data / "annotations.jsonl").write_text("\n".join(lines))
    arguments = ("study", "seeds", "--data", data, "--model", classifier)
    found = record(*arguments, "--out", tmp_path / "out", "--limit", 1)
    assert found["items"] == 1 and len(found["controls"]) == 2
    assert found["settings"]["threshold"] == 0.2 and found["settings"]["grabcut"] is True
    assert all(Path(file).exists() for file in found["files"]) and len(found["files"]) == 9
    printed = run(*arguments, "--no-grabcut", "--method", "gradcam++").stdout
    assert "Cues, pixel by pixel" in printed and "control" in printed and "GrabCut" not in printed.split("Cues")[0]
    assert "--out" in refusal(*arguments, "--photos")
    assert "--limit" in refusal(*arguments, "--limit", 0)
    assert "--threshold" in refusal(*arguments, "--threshold", 1)
    assert "is for classifiers" in refusal("study", "seeds", "--data", data, "--model", captioner)
    assert "no such file or folder" in refusal("study", "seeds", "--data", "nowhere", "--model", classifier)
    (data / "images" / "1.png").write_bytes(b"no photo")
    assert "is not an image" in refusal(*arguments)


def test_the_figure(tmp_path: Path) -> None:
    study, _ = study_seeds(colours(), scattered(tmp_path), PLAIN, method="cam")
    figure = seeds_figure(study)
    assert figure is not None
    masks, cues = figure.axes
    assert masks.get_yticklabels()[0].get_text() == "cam, cues alone"
    assert len(cues.get_yticklabels()) == 12


def test_classes_that_nothing_marks_are_given_all_the_same(tmp_path: Path) -> None:
    """A trainer that is not told of a class learns that it is absent."""
    Image.new("RGB", (50, 40)).save(tmp_path / "photo.jpg")
    files = SeedFiles(tmp_path / "out", {"red": 1, "green": 2}, False)
    files.add("photo", tmp_path / "photo.jpg", [2, 1], np.full((40, 50), IGNORE, np.uint8), None)
    files.finish()
    stored = load_file(tmp_path / "out" / "localization_cues.safetensors")
    assert stored["0_labels"].tolist() == [1, 2] and stored["0_cues"].shape == (3, 0)
