"""Making a study with people: what is shown, what the key says of it, what the page does not tell."""

from __future__ import annotations

import io
import json
import re
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from mmexplain.errors import InputError, MethodError
from mmexplain.preprocess import Preprocess
from mmexplain.studies.people.cases import from_data, from_stores
from mmexplain.studies.people.plan import _Below, cell, plan, seed_of
from mmexplain.studies.people.questionnaire import questionnaire
from tests.command_line import record, refusal, run
from tests.evaluate.objects import colours, lines
from tests.evaluate.objects import photo as coloured
from tests.gallery.stores import CROPPED, HEIGHT, SQUASHED, WIDTH, Told, photo, spot, write
from tests.studies.people import OTHER, PLACES, store

RED, BLUE = (0, 0, 24, 24), (36, 36, 60, 60)


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    return store(tmp_path_factory.mktemp("one"))


@pytest.fixture(scope="module")
def made(one):
    return questionnaire(from_stores([one]), models=["good"], side=90)


@pytest.fixture(scope="module")
def trust(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    stores = [
        store(folder, pixels=False),
        store(folder, model="bad", pixels=False, places={"cat": (4, 1), "cow": (0, 0)}),
    ]
    return questionnaire(from_stores(stores), models=["good", "bad"], side=90)


def pixels(made, number):
    return np.asarray(Image.open(io.BytesIO(made.images[number])), dtype=float)


def place_of_change(picture, plain):
    """The cell of 6×6 where two pictures differ most."""
    change = np.abs(picture - plain).sum(2).reshape(6, HEIGHT // 6, 6, WIDTH // 6).mean((1, 3))
    return tuple(int(axis) for axis in np.unravel_index(change.argmax(), (6, 6)))


def plain():
    drawn = np.zeros((HEIGHT, WIDTH, 3))
    drawn[:, : WIDTH // 2, 0] = drawn[:, WIDTH // 2 :, 2] = 220
    return drawn


# -- what is shown ----------------------------------------------------------------------------------------------------


def test_every_picture_shows_what_the_key_says(made):
    arms = {name["method"]: code for code, name in made.key["arms"].items()}
    assert set(arms) == {"gradcam", OTHER.method, "random noise"}
    seen = Counter()
    for item in made.design["items"]:
        assert set(item["options"]) == {"cat", "dog"}, "the two likeliest"
        for code, image in item["arms"][arms["gradcam"]]:
            label = made.key["pictures"][code]
            assert place_of_change(pixels(made, image), plain()) == PLACES[label]
            seen[label] += 1
    assert seen == {"cat": 12, "dog": 12}


def test_noise_is_one_picture_for_both_answers(made):
    (noise,) = (code for code, arm in made.key["arms"].items() if arm["control"])
    images = []
    for item in made.design["items"]:
        (one, image), (two, again) = item["arms"][noise]
        assert image == again and one != two
        assert {made.key["pictures"][one], made.key["pictures"][two]} == {"cat", "dog"}
        images.append(image)
    assert len({made.images[image] for image in images}) == 12, "each photo has noise of its own"


def test_only_what_the_model_saw_is_shown(tmp_path):
    """A sixth of the photo is cropped on either side: what is left is a square."""
    options = {"kind": "class", "labels": ["cat", "dog"], "geometry": CROPPED, "source": photo(tmp_path / "p.jpg")}
    (case,) = from_stores([write(tmp_path / "s", [Told("p", "", spot((1, 1), (4, 4)), **options)], task="classify")])
    made = questionnaire([case], side=50)
    assert {Image.open(io.BytesIO(file)).size for file in made.images} == {(50, 50)}


def test_trust_shows_both_models_and_one_twice(trust):
    arms = {arm["method"]: code for code, arm in trust.key["arms"].items()}
    assert set(arms) == {"gradcam", "the same map twice"} and trust.key["models"] == ["good", "bad"]
    whose = Counter()
    for item in trust.design["items"]:
        assert item["said"] == "cat", "what both hold likeliest"
        for code, image in item["arms"][arms["gradcam"]]:
            expected = {"better": (1, 1), "other": (4, 1)}[trust.key["pictures"][code]]
            assert place_of_change(pixels(trust, image), plain()) == expected
        (one, image), (two, again) = item["arms"][arms["the same map twice"]]
        assert image == again
        assert {trust.key["pictures"][one], trust.key["pictures"][two]} == {"better", "other"}
        whose[place_of_change(pixels(trust, image), plain())] += 1
    assert set(whose) == {(1, 1), (4, 1)}


def test_photos_that_models_disagree_on_are_not_asked_about(tmp_path):
    stores = [store(tmp_path, 2), store(tmp_path, 2, model="bad", places={"cow": (4, 1), "cat": (0, 0)})]
    with pytest.raises(InputError, match="whose likeliest target is the same"):
        from_stores(stores)


def test_photos_that_are_gone_are_left_out(tmp_path):
    opened = store(tmp_path, 3)
    (tmp_path / "photos" / "1.jpg").unlink()
    assert sorted(case.id for case in from_stores([opened])) == ["photo-0.jpg", "photo-2.jpg"]


def test_function_words_captions_and_repeated_words_are_passed_over(tmp_path):
    words = "a dog and the Dog on grass"
    told = Told("p", words, spot(*[(0, n % 6) for n in range(7)]), source=photo(tmp_path / "p.jpg"))
    (case,) = from_stores([write(tmp_path / "store", [told])], where="label <> 'and'")
    assert case.labels == ("dog", "grass") and case.targets == ((1, 6),)


def marked(folder, count=4):
    entries = []
    for number in range(count):
        coloured(folder / "images" / f"{number}.png", ("red", RED), ("blue", BLUE))
        entries.append((f"{number}.png", [("red", (0, 0, 24, 24)), ("blue", (36, 36, 24, 24))]))
    coloured(folder / "images" / "plain.png", ("green", RED))
    lines(folder, *entries, ("plain.png", [("green", (0, 0, 24, 24))]))
    return folder


def test_data_with_marked_objects(tmp_path):
    """Photos of two classes that the model has; checks show a photo beside a class that is in none of its marks."""
    cases = list(from_data([colours()], marked(tmp_path / "data"), ["gradcam"]))
    assert len(cases) == 4 and all(set(case.labels) == {"red", "blue"} for case in cases)
    made = questionnaire(cases, checks=3)
    checks = {code: check["sort"] for code, check in made.key["checks"].items()}
    assert Counter(checks.values()) == {"instruction": 3}, "green is on none of these photos: no foreign class is known"
    more = [*cases, *_of_green(tmp_path)]
    made = questionnaire(more, checks=4, seed=1)
    photos = [check for check in made.design["checks"] if checks_sort(made, check) == "photo"]
    assert len(photos) == 2
    for check in photos:
        answer = made.key["checks"][check["item"]]["answer"]
        (foreign,) = set(check["options"]) - {answer}
        marks = {"red", "blue"} if made.key["checks"][check["item"]]["photo"] != "of green.png" else {"green", "red"}
        assert answer in marks and foreign not in marks and check["image"] is not None


def checks_sort(made, check):
    return made.key["checks"][check["item"]]["sort"]


def _of_green(folder):
    coloured(folder / "green" / "images" / "of green.png", ("green", RED), ("red", BLUE))
    lines(folder / "green", ("of green.png", [("green", (0, 0, 24, 24)), ("red", (36, 36, 24, 24))]))
    return from_data([colours()], folder / "green", ["gradcam"])


def test_trust_on_data_asks_where_both_models_are_right(tmp_path):
    """The second model calls blue what is red, and red what is blue: both are right about green alone."""
    folder = tmp_path / "data"
    for name in ("red", "green", "blue"):
        coloured(folder / "images" / f"{name}.png", (name, (0, 0, 60, 60)))
    lines(folder, *((f"{name}.png", [(name, (0, 0, 60, 60))]) for name in ("red", "green", "blue")))
    swapped = colours(("blue", "green", "red"))
    (case,) = from_data([colours(), swapped], folder, ["gradcam"])
    assert case.id.endswith("green.png") and case.labels == ("green",) and len(case.explanations) == 2
    with pytest.raises(InputError, match="no photo with objects of two classes"):
        list(from_data([colours()], folder, ["gradcam"]))


def test_objects_that_are_cropped_away_are_not_asked_about(tmp_path):
    centre = {
        "input_size": (3, 32, 32),
        "interpolation": "bilinear",
        "crop_pct": 1.0,
        "mean": (0.0, 0.0, 0.0),
        "std": (1.0, 1.0, 1.0),
    }
    task = colours()
    task.preprocess = Preprocess.from_timm({**centre, "crop_mode": "center"})
    seen, cut = ("red", (44, 0, 60, 60)), ("red", (0, 0, 20, 60))
    for name, red in (("seen", seen), ("cut", cut)):
        coloured(tmp_path / name / "images" / "p.png", red, ("blue", (70, 0, 84, 60)), size=(128, 64))
        left, top, right, bottom = red[1]
        boxes = [("red", (left, top, right - left, bottom - top)), ("blue", (70, 0, 14, 60))]
        lines(tmp_path / name, ("p.png", boxes), size=(128, 64))
    assert len(list(from_data([task], tmp_path / "seen", ["gradcam"]))) == 1
    with pytest.raises(InputError, match="two classes that the model has, and sees"):
        list(from_data([task], tmp_path / "cut", ["gradcam"]))


# -- codes and order --------------------------------------------------------------------------------------------------


def test_the_page_tells_nothing_that_only_the_key_should(made, one):
    page = made.page()
    assert "default-src &#39;none&#39;" in page and "http:" not in page and "https:" not in page
    text = re.sub(
        r"data:image/jpeg;base64,[A-Za-z0-9+/=]*|<script>.*?</script>|<style>.*?</style>", "", page, flags=re.S
    )
    for secret in ("photo-", "gradcam", "guided", "noise", "good", "key", one.root):
        assert secret not in text.replace("The keys", ""), secret
    assert '"answer":' not in text and made.key["design"]["study"] in text


def test_order_of_pictures_tells_nothing(made):
    """Neither the first of a pair, nor the picture with the lower number, is of one class more than chance allows."""
    first = lower = 0
    pairs = [pair for item in made.design["items"] for pair in item["arms"].values()]
    for pair in pairs:
        first += made.key["pictures"][pair[0][0]] == "cat"
        lower += made.key["pictures"][min(pair, key=lambda one: one[1])[0]] == "cat"
    assert 8 <= first <= 28 and 8 <= lower <= 28 and len(pairs) == 36, "within 3.3 standard deviations of 18"


def test_same_seed_same_study(one, made):
    again = questionnaire(from_stores([one]), models=["good"], side=90)
    assert again.design == made.design and again.images == made.images
    other = questionnaire(from_stores([one], seed=1), side=90, seed=1)
    assert other.design["study"] != made.design["study"]


def test_generator_and_seed_are_the_published_ones():
    below = _Below(1)
    assert [below(1000) for _ in range(3)] == [627, 2, 527]  # mulberry32(1): 0.6270…, 0.0027…, 0.5274…
    assert seed_of("hello", "world") == 0xD58B3FA7  # FNV-1a of "hello world"


def test_every_participant_gets_all_photos_once_and_arms_evenly(made):
    sides, coins = Counter(), Counter()
    for number in range(200):
        asked = plan(made.design, seed_of(made.design["study"], str(number)))
        assert [question.order for question in asked] == list(range(1, 17))
        real = [question for question in asked if question.kind != "check"]
        assert len({question.item for question in real}) == 12
        assert set(Counter(question.arm for question in real).values()) == {4}
        for question in real:
            sides[question.options[0]] += 1
            coins[made.key["pictures"][question.shown[0]], question.options[0]] += 1
        checks = [question.order for question in asked if question.kind == "check"]
        assert len(checks) == 4 and all(4 * k < order <= 4 * k + 4 for k, order in enumerate(checks)), "spread evenly"
    assert all(abs(count - 600) < 4 * 21 for count in coins.values()) and len(coins) == 4, "both coins are fair"
    assert all(abs(count - 1200) < 4 * 25 for count in sides.values())


def test_fewer_questions_than_photos(one):
    made = questionnaire(from_stores([one]), questions=5, checks=0, control=False, methods=["gradcam"], side=40)
    asked = plan(made.design, 3)
    assert len(asked) == made.number == 5 and len(made.key["arms"]) == 1 and not made.key["checks"]


@pytest.mark.parametrize(
    "text, told",
    [
        ("=1+1", "'=1+1"), ("+4", "'+4"), ("-4", "'-4"), ("@x", "'@x"), (" =1", "' =1"), ("＝1", "'＝1"),
        ("a=b", "a=b"), ("a\r\n=b", "a =b"), ("\t=1", "' =1"), ("", ""),
    ],
)  # fmt: skip
def test_no_text_is_a_formula(text, told):
    assert cell(text) == told


# -- the verb ---------------------------------------------------------------------------------------------------------


def test_the_verb_as_json(one, tmp_path):
    out = tmp_path / "study"
    found = record("study", "questionnaire", one.root, "--out", out, "--questions", 6, "--side", 100, "--limit", 8)
    assert {name: found[name] for name in ("kind", "photos", "arms", "questions", "checks")} == {
        "kind": "discrimination", "photos": 8, "arms": ["gradcam", OTHER.method, "random noise"], "questions": 6,
        "checks": 4,
    }  # fmt: skip
    assert sorted(path.name for path in out.iterdir()) == ["README.txt", "index.html", "key.json"]
    key = json.loads((out / "key.json").read_text())
    assert key["study"] == found["study"] and sorted(key["photos"].values())[0].startswith("photo-")
    assert "reaction_ms" in (out / "README.txt").read_text()
    assert "whose answers need their key" in refusal("study", "questionnaire", one.root, "--out", out)


def test_the_verb_for_people(one, tmp_path):
    consent = tmp_path / "consent.txt"
    consent.write_text("First <b>part</b>.\n\nSecond\npart.")
    done = run("study", "questionnaire", one.root, "--out", tmp_path / "s", "--consent", consent, "--side", 100)
    assert done.exit_code == 0 and "a participant answers 12 questions and 4 attention checks" in done.stdout
    page = (tmp_path / "s" / "index.html").read_text()
    assert "<p>First &lt;b&gt;part&lt;/b&gt;.</p>\n<p>Second part.</p>" in page


def test_refusals(one, tmp_path):
    def refused(*arguments):
        return refusal("study", "questionnaire", *arguments, "--out", tmp_path / "out")

    assert "is no store of `mmexplain run`" in refused(tmp_path / "nothing")
    assert "a questionnaire is of one store or two" in refused(one.root, one.root, one.root)
    assert "leave it out with --model" in refused(tmp_path, "--model", "efficientnet-lite0", "--where", "true")
    assert "--layer is for --model" in refused(one.root, "--layer", "x")
    assert "no such file or folder" in refused(tmp_path / "nothing", "--model", "efficientnet-lite0")
    assert "no maps of 'cam' were made; there are: gradcam" in refused(one.root, "--method", "cam")
    assert "could be told apart: explain two or more" in refused(one.root, "--where", "label = 'cat'")
    assert "--limit" in refused(one.root, "--limit", "0")
    assert "cannot read --consent" in refused(one.root, "--consent", tmp_path / "nothing")
    assert "is no folder" in refusal("study", "questionnaire", one.root, "--out", "")


def test_clips_and_models_without_a_method_in_common(tmp_path):
    told = Told("p", "", spot((0, 0), (1, 1)), kind="action", labels=["run", "jump"], geometry=SQUASHED)
    with pytest.raises(InputError, match="explains clips"):
        from_stores([write(tmp_path / "clips", [told], task="action")])
    cases = from_stores([store(tmp_path, 2, pixels=False), store(tmp_path, 2, model="bad", pixels=False)])
    with pytest.raises(MethodError, match="no maps of 'cam' were made by both models"):
        questionnaire(cases, methods=["cam"])
    with pytest.raises(InputError, match="at least one photo"):
        questionnaire([])
