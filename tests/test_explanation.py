"""An Explanation finds its targets, prints the record that the command line promises, and survives the disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from mmexplain.errors import InputError, LayerError, MethodError, TargetError
from mmexplain.explanation import Explanation, MapKey
from mmexplain.geometry import Geometry
from mmexplain.picture import Picture
from mmexplain.targets import Target, contrast


def make() -> Explanation:
    """Two words on a 4 × 4 grid over an 80 × 40 photo of which the model saw the middle 40 × 40."""
    dog, grass = Target("dog", "word", (7,), 1), Target("grass", "word", (9,), 4)
    maps = torch.zeros(3, 4, 4)
    maps[0, 1, 2] = 1.0
    maps[1, 3, 0] = 2.0
    maps[2] = 0.5
    return Explanation(
        task="caption",
        model="toy",
        text="a dog runs on grass",
        targets=[dog, grass, contrast(dog, Target("cat", "word", (8,), 1))],
        scores=torch.tensor([-0.5, -1.0, 2.0]),
        probabilities=torch.tensor([0.61, 0.37, 0.61]),
        maps={
            MapKey("encoder", "gradcam"): maps,
            MapKey("encoder", "gradcam++"): -maps,
            MapKey("input", "guided-backprop"): torch.randn(3, 3, 16, 16),
        },
        geometry=Geometry.identity(40, 80).crop(0, 20, 40, 40).resize(16, 16),
        picture=Picture(torch.zeros(40, 80, 3, dtype=torch.uint8), "photo.jpg"),
        words=["a", "dog", "runs", "on", "grass"],
        provenance={"seed": 0},
        seconds=0.25,
        pixel_methods=frozenset({"guided-backprop"}),
    )


def test_an_interrupted_save_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make().save(tmp_path / "e.safetensors")
    before, original = path.read_bytes(), Path.write_bytes

    def full(self: Path, content: bytes) -> int:
        original(self, content[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError, match=r"cannot write .*e\.safetensors': No space left on device"):
        make().save(path)
    assert path.read_bytes() == before and [found.name for found in tmp_path.iterdir()] == [path.name]


def test_targets_are_found_by_number_label_and_themselves() -> None:
    explanation = make()
    assert explanation.find(1) == explanation.find("Grass") == explanation.find(explanation.targets[1]) == 1
    assert explanation.find(-1) == 2
    with pytest.raises(TargetError, match="'gras' is not among the explained targets; closest: 'grass'"):
        explanation.find("gras")
    with pytest.raises(TargetError, match="out of range"):
        explanation.find(3)


def test_a_word_said_twice_is_found_by_its_target() -> None:
    explanation = make()
    first, second = Target("a", "word", (3,), 0), Target("a", "word", (3,), 2)
    explanation.targets[:2] = [first, second]
    assert explanation.find("a") == explanation.find(first) == 0
    assert explanation.find(Target("a", "word", (3,), 2)) == 1, "targets are compared by value"
    assert torch.equal(explanation.map(second), explanation.map(1))
    with pytest.raises(TargetError, match="'a' is not among those that were explained"):
        explanation.find(Target("a", "word", (3,), 4))


def test_the_peak_of_a_clip_has_a_frame() -> None:
    explanation = make()
    explanation.geometry = explanation.geometry.sample((10, 20, 30, 40), 50)
    maps = torch.zeros(3, 4, 4, 4)
    maps[0, 2, 1, 2] = 1.0
    explanation.maps = {MapKey("encoder", "gradcam"): maps}
    assert explanation.peak(0) == explanation.geometry.peak_in_clip(maps[0])
    assert explanation.heatmap(0, size=(4, 8)).shape == (50, 4, 8)
    records = explanation.to_json()["targets"]
    assert (*records[0]["peak"], records[0]["frame"]) == explanation.peak(0)
    assert records[0]["frame"] == 30
    assert records[1]["peak"] is records[1]["frame"] is None
    with pytest.raises(ValueError, match="see peak_in_clip"):
        explanation.geometry.peak(maps[0])


def test_maps_are_chosen_by_layer_and_method() -> None:
    explanation = make()
    assert explanation.map("dog")[1, 2] == 1
    assert explanation.map("dog", method="gradcam++")[1, 2] == -1
    with pytest.raises(MethodError, match="no map was made by 'cam'"):
        explanation.map(0, method="cam")
    with pytest.raises(LayerError, match="no map was made at layer 'stem'"):
        explanation.map(0, layer="stem")


def test_pixel_maps_keep_the_sign_of_the_strongest_colour() -> None:
    explanation = make()
    values = explanation.maps[MapKey("input", "guided-backprop")][0]
    reduced = explanation.map(0, "input", "guided-backprop")
    assert torch.equal(reduced.abs(), values.abs().amax(0))
    assert bool(((reduced[None] == values).any(0)).all())


def test_a_heatmap_that_would_not_fit_is_refused_with_the_ways_around_it() -> None:
    explanation = make()
    explanation.geometry = Geometry.identity(1080, 1920).sample((10, 20, 30, 40), 15_000)
    explanation.maps = {MapKey("encoder", "gradcam"): torch.rand(3, 4, 4, 4)}
    with pytest.raises(
        InputError,
        match=r"15,000 frames of 1920×1080 pixels .* 115\.9 GiB: .*size=\(height, width\).*geometry\.each_frame",
    ):
        explanation.heatmap()
    assert explanation.heatmap(size=(9, 16)).shape == (15_000, 9, 16)
    number, frame = next(explanation.geometry.each_frame(explanation.map(), numbers=[20]))
    assert number == 20 and frame.shape == (1080, 1920)


def test_heatmap_and_peak_are_in_pixels_of_the_original() -> None:
    explanation = make()
    heatmap = explanation.heatmap("dog")
    assert heatmap.shape == (40, 80)
    assert heatmap[:, :20].isnan().all()
    assert heatmap[:, 60:].isnan().all()
    assert not heatmap[:, 20:60].isnan().any()
    small = explanation.heatmap("dog", size=(20, 40))
    assert small.shape == (20, 40)
    assert small.nan_to_num(-1).argmax() == 7 * 40 + 22, "the same place at half the size"
    # Cell (1, 2) of the 4 × 4 grid covers x 40-50 and y 10-20 of the photo.
    x, y = explanation.peak("dog") or (-1, -1)
    assert 40 <= x < 50
    assert 10 <= y < 20
    assert explanation.peak(2) is None, "a flat map has no peak"


def test_json_record_has_the_promised_fields() -> None:
    record = json.loads(json.dumps(make().to_json(["a.html"])))
    assert list(record) == ["task", "model", "input", "text", "words", "targets", "files", "seconds"]
    assert len(record["targets"]) == 9
    assert set(record["targets"][0]) == {
        "label", "kind", "index", "content", "score", "probability", "layer", "method", "peak",
    }  # fmt: skip
    assert record["targets"][0]["label"] == "dog"
    assert record["targets"][2]["label"] == "dog rather than cat"
    assert record["targets"][2]["peak"] is None


def test_round_trip(tmp_path: Path) -> None:
    explanation = make()
    loaded = Explanation.load(explanation.save(tmp_path / "e.safetensors"))
    assert loaded.to_json() == explanation.to_json()
    assert loaded.targets == explanation.targets
    assert loaded.geometry == explanation.geometry
    assert loaded.provenance == explanation.provenance
    for key, value in explanation.maps.items():
        assert torch.equal(loaded.maps[key], value)
    assert list(tmp_path.iterdir()) == [tmp_path / "e.safetensors"], "no partial file stays behind"


@pytest.mark.parametrize("damage", ["cut", "text", "missing", "other"])
def test_a_damaged_file_is_one_clear_line(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "e.safetensors"
    make().save(path)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:100])
    elif damage == "text":
        path.write_text("no explanation")
    elif damage == "missing":
        path.unlink()
    else:
        from safetensors.torch import save_file

        save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(InputError) as caught:
        Explanation.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_suffix_and_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot save as '.gif'"):
        make().save(tmp_path / "e.gif")
    with pytest.raises(InputError, match="does not exist"):
        make().save(tmp_path / "nowhere" / "e.html")


def make_clip() -> Explanation:
    """One action in a clip of 9 frames of which the model saw 1, 3, 5 and 7; maps of 2 steps in time."""
    explanation = make()
    maps = torch.zeros(1, 2, 4, 4)
    maps[0, 0, 1, 1], maps[0, 1] = 16.0, -3.0
    explanation.targets = [Target("jumping", "action", (3,))]
    explanation.scores, explanation.probabilities = torch.tensor([4.0]), torch.tensor([0.5])
    explanation.maps = {MapKey("conv", "gradcam"): maps}
    explanation.text_maps = {"gradient-x-embedding": torch.tensor([[0.5, -1.0, torch.nan, 0.0, 2.0]])}
    explanation.text_errors = {"gradient-x-embedding": torch.tensor([0.25])}
    explanation.geometry = Geometry.identity(40, 80).resize(16, 16).sample((1, 3, 5, 7), 9)
    pixels = torch.arange(4, dtype=torch.uint8)[:, None, None, None].expand(4, 40, 80, 3)
    explanation.picture = Picture(pixels, "clip.mp4", (1, 3, 5, 7), (0.1, 0.3, 0.5, 0.7))
    return explanation


def test_the_importance_of_a_frame_is_the_mean_of_what_is_positive_in_it() -> None:
    curve = make_clip().importance("jumping")
    # The input's frames lie at 1/8, 3/8, 5/8, 7/8 of its length, the map's steps (means 1 and 0) at 1/4 and 3/4.
    nan = torch.nan
    expected = torch.tensor([nan, 1.0, nan, 0.75, nan, 0.25, nan, 0.0, nan])
    torch.testing.assert_close(curve, expected, equal_nan=True)
    with pytest.raises(InputError, match="a photo has no frames"):
        make().importance()


def test_what_words_added_is_found_by_target_and_method() -> None:
    explanation = make_clip()
    assert explanation.words_read("jumping")[[0, 1, 4]].tolist() == [0.5, -1.0, 2.0]
    with pytest.raises(MethodError, match="were not explained by 'x'; there are: gradient-x-embedding"):
        explanation.words_read(0, "x")
    with pytest.raises(MethodError, match="the words that the model read were not explained"):
        make().words_read()
    record = explanation.to_json()["targets"][0]
    assert record["words"] == {"gradient-x-embedding": {"added": [0.5, -1.0, None, 0.0, 2.0], "error": 0.25}}
    assert "words" not in make().to_json()["targets"][0]


def test_clips_and_texts_survive_the_disk(tmp_path: Path) -> None:
    saved = make_clip()
    loaded = Explanation.load(saved.save(tmp_path / "clip.safetensors"))
    assert (loaded.picture.frames, loaded.picture.times) == (saved.picture.frames, saved.picture.times)
    assert torch.equal(loaded.picture.pixels, saved.picture.pixels)
    torch.testing.assert_close(loaded.text_maps, saved.text_maps, equal_nan=True)
    torch.testing.assert_close(loaded.text_errors, saved.text_errors)
    assert loaded.to_json() == saved.to_json()


def test_an_explanation_is_shown_in_a_line() -> None:
    shown = repr(make())
    assert "\n" not in shown and "tensor" not in shown
    assert "photo.jpg by toy: dog, grass, dog rather than cat; gradcam, gradcam++" in shown
