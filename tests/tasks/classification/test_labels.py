"""Finding a class by what a person types."""

import pytest

from mmexplain.errors import CheckpointError, InputError, TargetError
from mmexplain.tasks.classification.labels import Labels, imagenet

PETS = Labels(["tabby, tabby cat", "tiger cat", "Siamese cat", "bull mastiff", "fire hydrant", "Cardigan", "cardigan"])


@pytest.mark.parametrize(
    ("typed", "index"),
    [
        ("tiger cat", 1),
        ("TIGER CAT", 1),
        ("  tiger   cat ", 1),
        ("tiger_cat", 1),
        ("tabby", 0),
        ("Tabby Cat", 0),
        ("tabby, tabby cat", 0),
        ("hydrant", 4),
        ("fire", 4),
        ("mastiff", 3),
        ("Cardigan", 5),
        ("cardigan", 6),
    ],
)
def test_a_class_is_found_by_name_synonym_or_whole_words(typed, index):
    assert PETS.find(typed) == index


def test_an_exact_name_wins_over_names_that_contain_it():
    assert Labels(["hotdog stand", "dog", "wild dog"]).find("dog") == 1


@pytest.mark.parametrize("typed", ["cat", "CARDIGAN"])
def test_a_name_of_several_classes_asks_which(typed):
    with pytest.raises(TargetError, match=r"names \d classes; say which: '.+' \(\d\), '.+' \(\d\)"):
        PETS.find(typed)


def test_a_piece_of_a_word_is_a_typing_error_and_the_closest_are_offered():
    with pytest.raises(TargetError) as caught:
        imagenet().find("zebr")
    assert str(caught.value).startswith("'zebr' is not among the model's 1,000 classes; closest: 'zebra', ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("typed", ["", "  ", "xyzzyq"])
def test_nonsense_is_quoted(typed):
    with pytest.raises(TargetError, match=f"^{typed!r} is not among the model's 7 classes"):
        PETS.find(typed)


def test_classes_of_the_same_name_are_told_apart_by_number():
    labels = Labels(["crane", "heron", "crane"])
    assert [labels.shown(index) for index in range(3)] == ["crane (0)", "heron", "crane (2)"]
    assert labels.find("crane (2)") == 2
    with pytest.raises(TargetError, match=r"'crane' \(0\), 'crane' \(2\)"):
        labels.find("crane")


def test_long_lists_of_candidates_are_cut():
    with pytest.raises(TargetError, match=r"names 9 classes; say which: .*, …$"):
        Labels([f"cat {kind}" for kind in "abcdefghi"]).find("cat")


def test_imagenet_is_in_the_order_of_the_synsets():
    # Numbers that every ImageNet model shares, from the papers and their code.
    known = {0: "tench", 243: "bull mastiff", 282: "tiger cat", 340: "zebra", 388: "giant panda", 999: "toilet tissue"}
    labels = imagenet()
    assert len(labels) == 1000
    for index, name in known.items():
        assert labels[index] == name
        assert labels.find(name) == index


def test_every_imagenet_name_finds_its_own_class():
    labels = imagenet()
    assert [labels.find(name) for name in labels] == list(range(1000))


@pytest.mark.parametrize(
    ("synonym", "index"),
    [("man-eating shark", 2), ("Carcharodon carcharias", 2), ("boxer", 242), ("n02123159", 282), ("crane bird", 134)],
)
def test_imagenet_synonyms(synonym, index):
    pytest.importorskip("timm")
    assert imagenet().find(synonym) == index


def test_a_synonym_of_several_classes_asks_which():
    pytest.importorskip("timm")
    with pytest.raises(TargetError, match=r"'panther' names 2 classes; say which: 'cougar' \(286\), 'jaguar' \(290\)$"):
        imagenet().find("panther")


def test_checkpoints_choose_their_own_names_then_the_known_ones_then_none():
    assert list(Labels.choose(["a", "b"], imagenet(), 2)) == ["a", "b"]
    assert Labels.choose(None, imagenet(), 1000) is imagenet()
    assert Labels.choose(None, imagenet(), 7) is None
    assert Labels.choose(None, None, 7) is None
    with pytest.raises(CheckpointError, match="7 classes but names 2"):
        Labels.choose(["a", "b"], imagenet(), 7)


def test_names_must_be_text():
    with pytest.raises(InputError, match="must be text, got 3"):
        Labels(["a", 3])
