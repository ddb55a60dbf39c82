from __future__ import annotations

import gzip
import json
import math
import os
from collections import Counter
from pathlib import Path

import nltk
import pytest
from click.testing import CliRunner

from mmexplain.errors import InputError
from mmexplain.tasks.captioning.flickr8k import Photo, Phrase, Sentence, load_annotations
from mmexplain.tasks.captioning.vocabulary import tokenize
from mmexplain.tasks.vqa.questions import (
    Caption,
    Question,
    boxes_of,
    generate,
    prune,
    read_captions,
    read_questions,
    write_questions,
)
from mmexplain.tasks.vqa.questions.__main__ import main
from mmexplain.tasks.vqa.questions.cocoqa import gives_away


def _has_data() -> bool:
    try:
        nltk.data.find("taggers/averaged_perceptron_tagger_eng")
        return nltk.data.find("corpora/wordnet.zip") is not None
    except LookupError:
        return False


needs_nltk_data = pytest.mark.skipif(not _has_data(), reason="needs nltk's tagger and WordNet (NLTK_DATA)")


def asked(caption: str) -> set[tuple[str, str, str]]:
    questions = generate([Caption("a.jpg", "train", 0, tuple(tokenize(caption)))])
    return {(question.kind, question.text, question.answer) for question in questions}


@needs_nltk_data
@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        # auxiliary before subject, wh-word to the front
        (
            "A man is riding a horse.",
            {("object", "who is riding the horse", "man"), ("object", "what is the man riding", "horse")},
        ),
        # do-support
        (
            "A man rides a horse.",
            {("object", "who rides the horse", "man"), ("object", "what does the man ride", "horse")},
        ),
        # a caption without a finite verb
        (
            "Two men carrying a canoe",
            {
                ("object", "who is carrying the canoe", "men"),
                ("object", "what are the two men carrying", "canoe"),
                ("number", "how many men are carrying the canoe", "two"),
            },
        ),
        # "who" and "what" are singular, "how many" is plural
        (
            "two dogs run in the snow",
            {
                ("object", "what runs in the snow", "dogs"),
                ("location", "where do the two dogs run", "snow"),
                ("number", "how many dogs run in the snow", "two"),
            },
        ),
        # a stranded preposition; colour; cat is black but the colour of the bed is not said
        (
            "A black cat is laying on a couch",
            {
                ("object", "what is laying on the couch", "cat"),
                ("object", "what is the black cat laying on", "couch"),
                ("colour", "what is the colour of the cat", "black"),
            },
        ),
        (
            "a dog carries a red ball in its mouth",
            {
                ("object", "what carries the red ball in its mouth", "dog"),
                ("object", "what does the dog carry in its mouth", "ball"),
                ("colour", "what is the colour of the ball", "red"),
            },
        ),
        # no wh-movement out of a conjunction
        ("the man is wearing a hat and sunglasses", {("object", "who is wearing the hat and sunglasses", "man")}),
        # compound sentences are split, with one subject or two
        (
            "a girl sits at a table and eats a sandwich",
            {
                ("object", "who sits at the table", "girl"),
                ("object", "what does the girl sit at", "table"),
                ("object", "who eats the sandwich", "girl"),
                ("object", "what does the girl eat", "sandwich"),
            },
        ),
        (
            "a man throws a tennis ball while a dog is chasing a bird",
            {
                ("object", "who throws the tennis ball", "man"),
                ("object", "what does the man throw", "ball"),
                ("object", "what is chasing the bird", "dog"),
                ("object", "what is the dog chasing", "bird"),
            },
        ),
        # a relative clause and the main clause have the same subject
        (
            "a man who is wearing a white helmet is riding a motorcycle",
            {
                ("object", "who is wearing the white helmet", "man"),
                ("object", "what is the man wearing", "helmet"),
                ("object", "who is riding the motorcycle", "man"),
                ("object", "what is the man riding", "motorcycle"),
                ("colour", "what is the colour of the helmet", "white"),
            },
        ),
        # who is running cannot be known
        ("a man with a dog running", set()),
        # infinitives
        (
            "a man is trying to catch a fish",
            {
                ("object", "who is trying to catch the fish", "man"),
                ("object", "what is the man trying to catch", "fish"),
            },
        ),
        ("there is a cat sleeping on a couch", {
            ("object", "what is sleeping on the couch", "cat"), ("object", "what is the cat sleeping on", "couch"),
        }),
        # "cream" is not the answer
        ("a woman is eating ice cream", {("object", "who is eating ice cream", "woman")}),
        # abstract nouns are not asked for
        ("a boy performs a trick", {("object", "who performs the trick", "boy")}),
        # no verb
        ("a man in a bar", {("location", "where is the man", "bar")}),
        (
            "a group of people are standing on a snowy hill",
            {
                ("object", "who is standing on the snowy hill", "people"),
                ("location", "where is the group of people standing", "hill"),
            },
        ),
        # clothes joined by "and" do not become the subject
        (
            "a girl in a blue shirt and shorts is holding two balloons",
            {
                ("object", "who is holding two balloons", "girl"),
                ("object", "what is the girl holding", "balloons"),
                ("number", "how many balloons is the girl holding", "two"),
                ("colour", "what is the colour of the shirt", "blue"),
            },
        ),
        # digits, and "one" is not a count
        (
            "2 dogs play with 1 toy",
            {
                ("object", "what plays with one toy", "dogs"),
                ("object", "what do the two dogs play with", "toy"),
                ("number", "how many dogs play with one toy", "two"),
            },
        ),
        # two colours are not one word; no colours of people; shades do not give the answer away
        ("a black man and a black and white dog", set()),
        ("a light brown dog", {("colour", "what is the colour of the dog", "brown")}),
        ("a gray dog", {("colour", "what is the colour of the dog", "grey")}),
        # which of the dogs?
        ("a brown dog and a black dog", set()),
        # the answer is among the question's words, singular or plural, as a number, or as a verb
        ("two dogs are pulling a sled in a sled race", {
            ("object", "what is pulling the sled in the sled race", "dogs"),
            ("number", "how many dogs are pulling the sled in the sled race", "two"),
        }),
        ("a dog is chasing two dogs", {("number", "how many dogs is the dog chasing", "two")}),
        ("two men carry two canoes", {("object", "who carries two canoes", "men"), (
            "object", "what do the two men carry", "canoes",
        )}),
        ("a man is skateboarding on a skateboard", {("object", "who is skateboarding on the skateboard", "man")}),
        ("", set()),
    ],
)  # fmt: skip
def test_questions_worked_by_hand(caption: str, expected: set[tuple[str, str, str]]) -> None:
    assert asked(caption) == expected


@needs_nltk_data
def test_a_phrase_ends_with_the_word_it_is_about() -> None:
    words = tuple(tokenize("two boys in a bright red canoe are drinking a cup of tea"))
    phrases = {(q.kind, q.answer): q.phrase for q in generate([Caption("a.jpg", "", 3, words)])}
    assert phrases["number", "two"] == (0, 1)
    assert phrases["colour", "red"] == (3, 6)
    assert phrases["object", "boys"] == (0, 1)
    assert phrases["object", "cup"] == (9, 10)


@needs_nltk_data
def test_a_photo_is_asked_the_same_only_once() -> None:
    words = ("a", "red", "ball")
    once = generate([Caption("a.jpg", "", 0, words), Caption("a.jpg", "", 1, words), Caption("b.jpg", "", 0, words)])
    assert [(q.photo, q.caption) for q in once] == [("a.jpg", 0), ("b.jpg", 0)]


@pytest.mark.skipif("MMEXPLAIN_DATA" not in os.environ, reason="needs MMEXPLAIN_DATA")
@needs_nltk_data
def test_on_real_captions_positions_and_answers_agree() -> None:
    photos = load_annotations(Path(os.environ["MMEXPLAIN_DATA"]) / "flickr8k")[:150]
    captions = [Caption(p.file, p.split, i, s.words) for p in photos for i, s in enumerate(p.sentences)]
    questions = generate(captions)
    words = {(caption.photo, caption.number): caption.words for caption in captions}
    assert len(questions) > len(captions)
    boxed = 0
    for question in questions:
        first, last = question.phrase
        said = words[question.photo, question.caption][first : last + 1]
        assert said and tokenize(question.text) == question.text.split() and " " not in question.answer
        if question.kind in ("object", "location"):
            assert said[-1] == question.answer
            boxed += bool(boxes_of(question, photos))
    assert boxed > 0.4 * len(questions)


@needs_nltk_data
@pytest.mark.parametrize(
    ("text", "answer", "expected"),
    [
        ("what are the dogs pulling in the sled race", "sled", True),
        ("what is the dog near the men's boat sitting on", "boats", True),
        ("who is in the women's room", "woman", True),
        ("what is the colour of the gray dog", "grey", True),
        ("how many dogs play with 2 balls", "two", True),
        ("what is the man surfing in", "surf", True),
        ("what is the sledge for", "sled", False),
        ("what is the man riding", "horse", False),
    ],
)
def test_questions_that_hold_their_answer(text: str, answer: str, expected: bool) -> None:
    assert gives_away(text, answer) is expected


def _question(answer: str, split: str = "train", photo: str = "", text: str = "what is this") -> Question:
    return Question(photo or f"{split}.jpg", split, text, answer, "object", 0, (0, 1))


@pytest.mark.parametrize("split", ["dev", "test"])
def test_questions_of_several_right_answers_are_only_learned_from(split: str) -> None:
    taught = [_question("child"), _question("boy"), _question("dog"), _question("dog", text="what runs")]
    plain = [_question("child", split, "b.jpg"), _question("dog", split, text="what runs")]
    doubtful = [_question("child", split), _question("boy", split)]
    assert prune([*taught, *doubtful, *plain], min_count=1, max_count=100) == [*taught, *plain]
    # The other answer counts even where it is too rare to be kept itself.
    rare = _question("toddler", split, "b.jpg")
    assert prune([*taught, rare, *plain], min_count=1, max_count=100) == [*taught, plain[1]]


def test_rare_answers_of_training_are_dropped_everywhere() -> None:
    questions = [
        *[_question("dog")] * 3,
        *[_question("cat")] * 2,
        *[_question("cat", "test")] * 9,
        _question("dog", "dev"),
    ]
    left = prune(questions, min_count=3, max_count=100)
    assert Counter((q.answer, q.split) for q in left) == {("dog", "train"): 3, ("dog", "dev"): 1}


def test_frequent_answers_are_thinned_as_the_paper_says() -> None:
    many, bound = 20_000, 50
    left = prune([_question("dog")] * many, min_count=1, max_count=bound)
    # accepted with exp((K - n) / 2K) at n taken: n grows as dn/dt = exp((K - n) / 2K), so n = K + 2K log(1 + t / 2K)
    expected = bound + 2 * bound * math.log(1 + (many - bound) / (2 * bound))
    assert len(left) == pytest.approx(expected, rel=0.15)
    assert len(prune([_question("dog")] * bound, 1, bound)) == bound


def test_other_splits_are_thinned_at_the_rate_of_training_and_do_not_change_it() -> None:
    train, test = [_question("dog")] * 4000, [_question("dog", "test")] * 2000
    alone, both = prune(train, 1, 100), prune([*train, *test], 1, 100)
    counts = Counter(q.split for q in both)
    assert counts["train"] == len(alone)
    assert counts["test"] / 2000 == pytest.approx(counts["train"] / 4000, rel=0.2)


def test_pruning_is_the_same_every_time_and_keeps_the_order() -> None:
    questions = [_question("dog", photo=f"{i:05}.jpg") for i in range(1000)]
    left = prune(questions, 1, 50, seed=1)
    assert left == prune(questions, 1, 50, seed=1) != prune(questions, 1, 50, seed=2)
    assert [q.photo for q in left] == sorted(q.photo for q in left)


def test_boxes_are_those_of_the_phrase_with_the_head() -> None:
    dog, ball = (0.0, 0.0, 0.5, 0.5), (0.5, 0.5, 1.0, 1.0)
    words = ("a", "dog", "has", "a", "red", "ball")
    sentence = Sentence(words, (Phrase(0, 1, "animals", (dog,)), Phrase(3, 5, "other", (ball,))))
    photos = [Photo("a.jpg", "train", (" ".join(words),), (sentence,))]
    assert boxes_of(Question("a.jpg", "", "what does the dog have", "ball", "object", 0, (3, 5)), photos) == (ball,)
    assert boxes_of(Question("a.jpg", "", "what has the red ball", "dog", "object", 0, (0, 1)), photos) == (dog,)
    assert boxes_of(Question("b.jpg", "", "what has the red ball", "dog", "object", 0, (0, 1)), photos) == ()
    assert boxes_of(Question("a.jpg", "", "what has the red ball", "dog", "object", 4, (0, 1)), photos) == ()


def test_questions_survive_a_file(tmp_path: Path) -> None:
    questions = [_question("dog"), Question("ü.jpg", "", "where is the man", "bar", "location", 4, (3, 4))]
    write_questions(tmp_path / "q.jsonl", questions)
    assert read_questions(tmp_path / "q.jsonl") == questions


@pytest.mark.parametrize("line", ["{", "[]", '{"photo": "a.jpg"}', '{"phrase": 3}'])
def test_a_line_that_is_no_question_is_quoted(tmp_path: Path, line: str) -> None:
    (tmp_path / "q.jsonl").write_text(line)
    with pytest.raises(InputError, match=r"line 1 of .*is not a question"):
        read_questions(tmp_path / "q.jsonl")
    with pytest.raises(InputError, match="cannot read the questions"):
        read_questions(tmp_path / "none.jsonl")


COCO = {
    "images": [{"id": 7, "file_name": "a.jpg"}],
    "annotations": [{"image_id": 7, "caption": "A dog."}, {"image_id": 7, "caption": "The cat's hat"}],
}


@pytest.mark.parametrize(
    ("name", "text", "split"),
    [
        ("captions.json", json.dumps(COCO), ""),
        ("captions.token", "a.jpg#0\tA dog .\na.jpg#1\tThe cat's hat\n", ""),
        ("captions.txt", "a.jpg\tA dog\n\na.jpg\tThe cat's hat\n", ""),
        ("captions.jsonl", '{"file": "a.jpg", "split": "dev", "captions": ["A dog", "The cat\'s hat"]}', "dev"),
        ("pairs.jsonl", '{"photo": "a.jpg", "caption": "A dog"}\n{"photo": "a.jpg", "caption": "the cat\'s hat"}', ""),
    ],
)
def test_caption_files(tmp_path: Path, name: str, text: str, split: str) -> None:
    (tmp_path / name).write_text(text)
    expected = [Caption("a.jpg", split, 0, ("a", "dog")), Caption("a.jpg", split, 1, ("the", "cat's", "hat"))]
    assert read_captions(tmp_path / name) == expected


def test_flickr8k_captions_are_the_annotated_sentences(tmp_path: Path) -> None:
    record = {
        "file": "a.jpg", "split": "none", "orig_w": 2, "orig_h": 2, "boxes": {}, "captions": ["Another wording"],
        "entities": [{"tokens": ["A", "dog", "."], "phrases": []}],
    }  # fmt: skip
    with gzip.open(tmp_path / "annotations.jsonl.gz", "wt") as file:
        file.write(json.dumps(record))
    assert read_captions(tmp_path / "annotations.jsonl.gz") == [Caption("a.jpg", "", 0, ("a", "dog"))]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("none.txt", None, "cannot read captions"),
        ("empty.txt", "\n", "holds no captions"),
        ("prose.txt", "a dog runs", r"line 1 of .*no tab.*a dog runs"),
        ("broken.json", "{", "cannot read captions"),
        ("other.json", "[]", "cannot read captions"),
        ("other.jsonl", '{"name": "a.jpg"}', "cannot read captions"),
        ("annotations.jsonl.gz", "not compressed", "cannot read captions"),
        ("captions.gz", "", "only compressed captions"),
    ],
)
def test_files_that_hold_no_captions(tmp_path: Path, name: str, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        read_captions(tmp_path / name)


@needs_nltk_data
def test_the_command_writes_questions_and_counts_them(tmp_path: Path) -> None:
    lines = [f"{i}.jpg\ta man is riding a brown horse on the beach" for i in range(3)]
    (tmp_path / "captions.txt").write_text("\n".join(lines))
    out = tmp_path / "new" / "questions.jsonl"
    result = CliRunner().invoke(main, [str(tmp_path / "captions.txt"), "--out", str(out), "--min-count", "3"])
    assert result.exit_code == 0, result.output
    answers = Counter(question.answer for question in read_questions(out))
    assert answers == {"man": 3, "horse": 3, "brown": 3, "beach": 3}
    assert "what is the man riding on the beach? horse" in result.output and "12 of 12 questions" in result.output


def test_missing_data_of_nltk_is_one_line_with_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise LookupError("Resource not found")

    monkeypatch.setattr("mmexplain.tasks.vqa.questions.tagging.pos_tag", missing)
    monkeypatch.setattr("nltk.data.find", missing)
    (tmp_path / "captions.txt").write_text("a.jpg\ta dog")
    result = CliRunner().invoke(main, [str(tmp_path / "captions.txt"), "--out", str(tmp_path / "q.jsonl")])
    assert result.exit_code == 2 and result.output.count("\n") == 1
    assert "python -m nltk.downloader averaged_perceptron_tagger_eng wordnet" in result.output
