"""ImageNet's layout, and its classes among a model's labels."""

from __future__ import annotations

from pathlib import Path

import nltk
import pytest

from mmexplain.errors import InputError
from mmexplain.evaluate.data.classes import SYNSETS, VOC_NAMES, match
from mmexplain.evaluate.data.objects import read
from mmexplain.tasks.classification.labels import imagenet
from mmexplain.tasks.labels import Labels
from tests.evaluate.objects import photo, xml


def test_photos_in_folders_of_classes_with_boxes_anywhere(tmp_path: Path) -> None:
    photo(tmp_path / "n02123159" / "n02123159_1.JPEG", size=(20, 10))
    photo(tmp_path / "n02123159" / "n02123159_2.JPEG", size=(20, 10))
    photo(tmp_path / "n02123159" / "unmarked.JPEG", size=(20, 10))
    photo(tmp_path / "n02099601" / "n02099601_7.JPEG", size=(20, 10))
    xml(tmp_path / "n02123159" / "n02123159_1.xml", (20, 10), ("n02123159", (0, 0, 19, 9), 0))
    xml(tmp_path / "Annotation" / "n02123159" / "n02123159_2.xml", (20, 10), ("n02123159", (0, 0, 20, 10), 0))
    xml(tmp_path / "val" / "n02099601_7.xml", (20, 10), ("n02099601", (2, 3, 4, 5), 0), ("n02099601", (0, 0, 0, 0), 0))
    scenes = read(tmp_path)
    assert [scene.key for scene in scenes] == [
        "n02099601/n02099601_7.JPEG",
        "n02123159/n02123159_1.JPEG",
        "n02123159/n02123159_2.JPEG",
    ]
    assert [thing.box for thing in scenes[0].things] == [(2, 3, 5, 6), (0, 0, 1, 1)]
    assert scenes[1].things[0].box == scenes[2].things[0].box == (0, 0, 20, 10), "never beyond the photo"


def test_refusals(tmp_path: Path) -> None:
    photo(tmp_path / "dog" / "1.jpg")
    with pytest.raises(InputError, match="holds no photos with boxes"):
        read(tmp_path)
    xml(tmp_path / "a" / "1.xml", (64, 64), ("dog", (0, 0, 3, 3), 0))
    xml(tmp_path / "b" / "1.xml", (64, 64), ("dog", (0, 0, 3, 3), 0))
    with pytest.raises(InputError, match="bear the same name"):
        read(tmp_path)


@pytest.fixture
def wordnet() -> None:
    """The test is skipped where WordNet is not installed."""
    try:
        nltk.data.find("corpora/wordnet.zip")
    except LookupError:
        pytest.skip("needs WordNet (NLTK_DATA)")


def names(found: tuple[int, ...]) -> list[str]:
    return [imagenet()[number] for number in found]


def test_synset_numbers_are_labels_of_imagenet() -> None:
    found = match(["n02123159", "n02099601", "n00000000"], imagenet())
    assert {name: names(numbers) for name, numbers in found.items()} == {
        "n02123159": ["tiger cat"],
        "n02099601": ["golden retriever"],
    }


def test_kinds_by_wordnet(wordnet: None) -> None:
    found = {name: names(numbers) for name, numbers in match([*SYNSETS, "giraffe", "scissors"], imagenet()).items()}
    assert set(found) == set(SYNSETS), "each class that is listed has a label, and no other has one"
    assert found["cat"] == ["tabby", "tiger cat", "Persian cat", "Siamese cat", "Egyptian cat"]
    assert len(found["dog"]) == 118 and "golden retriever" in found["dog"] and "timber wolf" not in found["dog"]
    assert len(found["bird"]) == 59
    assert found["zebra"] == ["zebra"] and found["cow"] == ["ox"] and found["horse"] == ["sorrel"]
    assert found["bear"] == ["brown bear", "American black bear", "ice bear", "sloth bear"]
    assert found["mouse"] == ["mouse"] and found["tv"] == ["monitor", "television"]
    every = [label for labels in found.values() for label in labels]
    assert {label for label in every if every.count(label) > 1} <= {"studio couch"}, "which is a bed and a sofa"


def test_a_label_means_its_nearest_class(wordnet: None) -> None:
    both = match(["sandwich", "hot dog"], imagenet())
    assert names(both["sandwich"]) == ["cheeseburger"] and names(both["hot dog"]) == ["hotdog"]
    assert names(match(["sandwich"], imagenet())["sandwich"]) == ["cheeseburger", "hotdog"]
    vans = match(["car", "truck"], imagenet())
    assert "minivan" in names(vans["car"]) and "minivan" not in names(vans["truck"])


def test_names_of_voc(wordnet: None) -> None:
    voc = match(VOC_NAMES, imagenet())
    coco = match(VOC_NAMES.values(), imagenet())
    assert set(voc) == set(VOC_NAMES)
    assert all(voc[name] == coco[other] for name, other in VOC_NAMES.items())


def test_labels_of_other_models_are_matched_by_name() -> None:
    labels = Labels(["Dog", "teddy bear", "tvmonitor", "dining_table", "bear"])
    assert match(["dog", "bear", "tv", "diningtable", "cat"], labels) == {
        "dog": (0,),
        "bear": (4,),
        "tv": (2,),
        "diningtable": (3,),
    }


def test_wordnet_is_asked_for_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from nltk.corpus import wordnet

    def missing() -> None:
        raise LookupError("a text of many lines")

    monkeypatch.setattr(wordnet, "ensure_loaded", missing, raising=False)
    with pytest.raises(InputError, match=r"needs WordNet: python -m nltk.downloader wordnet"):
        match(["dog"], imagenet())
