"""Analysing what people said: made-up people whose answers are known, and files that are not what they should be."""

from __future__ import annotations

import csv
import json
import math

import numpy as np
import pytest

from mmexplain.errors import InputError
from mmexplain.evaluate.intervals import mean
from mmexplain.studies.people.answer_files import read_answers, read_key
from mmexplain.studies.people.answers import analyse, figure, save_scored
from mmexplain.studies.people.cases import from_stores
from mmexplain.studies.people.crossed import crossed_mean
from mmexplain.studies.people.questionnaire import questionnaire
from mmexplain.studies.people.simulated_participants import always_first, guesser, oracle, sees, simulate
from tests.command_line import record, refusal, run
from tests.studies.people import store


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Of a study of class discrimination, and of one of trust."""
    folder = tmp_path_factory.mktemp("keys")
    stores = [store(folder, 15), store(folder, 15, model="bad")]
    told = questionnaire(from_stores(stores[:1]), models=["good"], side=30)
    both = questionnaire(from_stores(stores), methods=["gradcam"], models=["good", "bad"], side=30)
    paths = []
    for name, made in (("told", told), ("both", both)):
        paths.append(folder / name / "key.json")
        made.save(folder / name)
    return paths


def read(key, *files, misses=0):
    return read_answers(files, read_key(key), misses)


def arms(key, **chances):
    """Code → chance, by names of methods."""
    codes = {arm["method"].replace(" ", "_"): code for code, arm in read_key(key)["arms"].items()}
    return {codes[name]: chance for name, chance in chances.items()}


def found(study, column):
    table = study.tables[0]
    return {row[0]: row[table.heads.index(column)] for row in table.rows}


# -- class discrimination: people whose answers are known ---------------------------------------------------------


@pytest.mark.parametrize("behaviour", [guesser, always_first])
def test_who_looks_at_nothing_is_at_chance(keys, tmp_path, behaviour):
    study = analyse(read(keys[0], *simulate(read_key(keys[0]), tmp_path, 120, behaviour)))
    for accuracy in found(study, "accuracy").values():
        assert accuracy.rows == 600 and accuracy.items == 15
        assert abs(accuracy.value - 0.5) < 4 * 0.5 / 600**0.5, "four standard deviations of a fair coin"
        assert accuracy.low < 0.5 < accuracy.high
    assert set(found(study, "against chance").values()) == {"no difference"} and study.held


def test_who_sees_everything_is_right(keys, tmp_path):
    behaviour = sees(arms(keys[0], gradcam=1.0))
    study = analyse(read(keys[0], *simulate(read_key(keys[0]), tmp_path, 40, behaviour)))
    accuracy = found(study, "accuracy")
    assert accuracy["gradcam"].value == 1 and accuracy["gradcam"].low > 0.79  # Wilson's of 15 photos: 0.796
    assert found(study, "against chance") == {
        "gradcam": "above", "guided-backprop": "no difference", "random noise": "no difference",
    }  # fmt: skip
    assert study.held


def test_who_has_the_key_is_found_out(keys, tmp_path):
    """Noise tells nobody anything: who is right about it knows the key, and the control says so."""
    study = analyse(read(keys[0], *simulate(read_key(keys[0]), tmp_path, 20, oracle)))
    assert {value.value for value in found(study, "accuracy").values()} == {1.0}
    assert not study.held and "100.0% right" in study.controls[0].found


def test_accuracy_is_that_of_a_count_by_hand(keys, tmp_path):
    key = read_key(keys[0])
    files = simulate(key, tmp_path, 12, guesser, seed=3)
    right: dict[str, list[bool]] = {}
    for file in files:
        for row in csv.DictReader(file.open()):
            if row["question"] != "check":
                method = key["arms"][row["arm"]]["method"]
                right.setdefault(method, []).append(row["answer_text"] == key["pictures"][row["shown"]])
    study = analyse(read(keys[0], *files))
    assert {name: value.value for name, value in found(study, "accuracy").items()} == {
        name: pytest.approx(sum(values) / len(values)) for name, values in right.items()
    }


# -- trust -------------------------------------------------------------------------------------------------------------


def test_preferences(keys, tmp_path):
    key = read_key(keys[1])
    always = analyse(read(keys[1], *simulate(key, tmp_path / "a", 120, always_first)))
    for preference in found(always, "preference").values():
        assert preference.low < 0 < preference.high, "always A is for neither model, sides being drawn"
    assert "A was preferred in 100.0%" in " ".join(always.notes) and always.held

    half = sees(arms(keys[1], gradcam=0.5))
    study = analyse(read(keys[1], *simulate(key, tmp_path / "b", 60, half)))
    preference = found(study, "preference")
    assert preference["gradcam"].value == pytest.approx(1.0, abs=0.2), "half of the time +2, else 0 on average"
    assert preference["gradcam"].low > 0.5 and study.held
    spread = dict(zip(study.tables[1].heads[1:], study.tables[1].rows[0][1:], strict=True))
    answers = found(study, "answers")["gradcam"]
    assert sum(spread.values()) == answers
    assert sum(int(name.replace("−", "-")) * count for name, count in spread.items()) == pytest.approx(
        preference["gradcam"].value * answers
    )

    cheat = analyse(read(keys[1], *simulate(key, tmp_path / "c", 20, oracle)))
    assert {value.value for value in found(cheat, "preference").values()} == {2.0} and not cheat.held


def test_who_sees_no_difference_breaks_no_control(keys, tmp_path):
    study = analyse(read(keys[1], *simulate(read_key(keys[1]), tmp_path, 12, lambda *_: 3)))
    assert {value.value for value in found(study, "preference").values()} == {0.0} and study.held
    assert study.controls[0].found == "None of the answers tells a difference."


# -- who counts --------------------------------------------------------------------------------------------------------


def test_who_is_left_out_and_why(keys, tmp_path):
    key = read_key(keys[0])
    good = simulate(key, tmp_path, 3, guesser, name="good")
    (careless,) = simulate(key, tmp_path, 1, always_first, name="careless", attentive=False, seed=1)
    (gone,) = simulate(key, tmp_path, 1, guesser, name="gone")
    gone.write_text("".join(gone.read_text().splitlines(keepends=True)[:8]))
    answers = read(keys[0], *good, careless, gone)
    told = {one.name: one.left_out for one in answers.participants}
    assert [told[f"good-00{n}"] for n in range(3)] == [""] * 3 and len(answers.counted) == 3
    assert told["careless-000"].startswith("missed ") and "attention checks (question " in told["careless-000"]
    assert told["gone-000"] == "answered 7 of 19 questions"
    study = analyse(answers)
    assert study.tables[-1].title == "Left out" and len(study.tables[-1].rows) == 2
    assert {found(study, "against chance")[name] for name in ("gradcam", "random noise")} == {"too few to tell"}
    assert {one.name for one in read(keys[0], *good, careless, misses=4).counted} == {*list(told)[:4]}
    with pytest.raises(InputError, match="no answers are left: all 1 participants are left out"):
        analyse(read(keys[0], gone))


def test_copies_count_once_and_contradictions_not_at_all(keys, tmp_path):
    key = read_key(keys[0])
    (file,) = simulate(key, tmp_path / "a", 1, guesser, name="p")
    (again,) = simulate(key, tmp_path / "b", 1, guesser, name="p")
    (other,) = simulate(key, tmp_path / "c", 1, guesser, name="p", seed=9)
    answers = read(keys[0], file, again)
    assert len(answers.participants) == 1 and answers.copies == [again]
    with pytest.raises(InputError, match=r"'p-000' sent different answers in .*keep one of the files"):
        read(keys[0], file, other)


def changed(file, line, column, value):
    rows = list(csv.reader(file.open()))
    rows[line][rows[0].index(column)] = value
    with file.open("w", newline="") as opened:
        csv.writer(opened).writerows(rows)


@pytest.mark.parametrize(
    "column, value, reason",
    [
        ("answer", "3", "there is no option '3' among 2"),
        ("answer", "", "there is no option ''"),
        ("reaction_ms", "-5", "reaction_ms is '-5'"),
        ("arm", "xxxxxx", "arm is 'xxxxxx', and participant 'p-000' was shown"),
        ("options", "dog | cow", "options is 'dog | cow'"),
        ("seed", "seven", "and 0 questions were asked"),
        ("study", "another", "answers of study 'another', and the key is of"),
    ],
)
def test_files_that_do_not_fit_the_study(keys, tmp_path, column, value, reason):
    (file,) = simulate(read_key(keys[0]), tmp_path, 1, guesser, name="p")
    first = next(n for n, row in enumerate(csv.DictReader(file.open()), 1) if row["question"] != "check")
    changed(file, 1 if column == "seed" else first, column, value)
    assert reason in refusal("study", "answers", file, "--key", keys[0])


def test_other_files(keys, tmp_path):
    (file,) = simulate(read_key(keys[0]), tmp_path, 1, guesser, name="p")
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join([*lines[:4], lines[4][:20]]))
    assert "line 5: cut off or damaged" in refusal("study", "answers", file, "--key", keys[0])
    file.write_text("".join([lines[0], *lines[2:]]))
    assert "order is '2'" in refusal("study", "answers", file, "--key", keys[0])
    file.write_text(lines[0])
    assert "holds no answers" in refusal("study", "answers", file, "--key", keys[0])
    file.write_text("a,b\n1,2\n")
    assert "has no column 'study'" in refusal("study", "answers", file, "--key", keys[0])
    file.write_bytes(b"\xff\xfe\x00")
    assert "not CSV in UTF-8" in refusal("study", "answers", file, "--key", keys[0])
    assert "cannot read" in refusal("study", "answers", tmp_path / "nothing.csv", "--key", keys[0])
    assert "is no key of a questionnaire" in refusal("study", "answers", file, "--key", file)
    assert "cannot read the key" in refusal("study", "answers", file, "--key", tmp_path / "nothing.json")


def test_the_verb(keys, tmp_path):
    files = simulate(read_key(keys[0]), tmp_path, 12, guesser)
    out = tmp_path / "out"
    printed = record("study", "answers", *files, "--key", keys[0], "--out", out)
    assert printed["name"] == "answers" and printed["held"] and len(printed["files"]) == 4
    assert printed == record("study", "answers", *files, "--key", keys[0], "--out", out) | {
        "seconds": printed["seconds"]
    }, "the same answers, the same numbers"
    scored = list(csv.DictReader((out / "scored.csv").open()))
    assert len(scored) == 12 * 19 and {row["correct"] for row in scored} == {"0", "1"}
    assert {row["method"] for row in scored} == {"", "gradcam", "guided-backprop", "random noise"}
    told = run("study", "answers", *files, "--key", keys[0])
    assert told.exit_code == 0 and "Accuracy, % (chance 50)" in told.stdout and "control held" in told.stdout


def test_names_that_a_spreadsheet_would_run_stay_texts(keys, tmp_path):
    (file,) = simulate(read_key(keys[0]), tmp_path, 1, guesser, name="p")
    file.write_text(file.read_text().replace("p-000", "=cmd|x"))
    answers = read(keys[0], file)
    save_scored(answers, tmp_path / "scored.csv")
    assert {row["participant"] for row in csv.DictReader((tmp_path / "scored.csv").open())} == {"'=cmd|x"}


def test_figure_has_a_line_for_each_method(keys, tmp_path):
    study = analyse(read(keys[0], *simulate(read_key(keys[0]), tmp_path, 12, guesser)))
    (axes,) = figure(study).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["gradcam", "guided-backprop", "random noise"]
    json.dumps(study.to_json(), allow_nan=False)


# -- intervals ---------------------------------------------------------------------------------------------------------


def crossed(people, photos, seed, of_people=0.0, of_photos=0.0, noise=1.0):
    random = np.random.default_rng(seed)
    person, photo = random.normal(0, of_people, people), random.normal(0, of_photos, photos)
    rows = [
        (person[p] + photo[i] + random.normal(0, noise), f"p{p}", f"i{i}") for p in range(people) for i in range(photos)
    ]
    return tuple(zip(*rows, strict=True))


def test_interval_is_that_of_answers_repeated_by_hand():
    values, people, photos = crossed(12, 10, 1, 0.5, 0.5)
    kept = [k for k in range(120) if k % 3]  # not everybody saw every photo
    values, people, photos = ([column[k] for k in kept] for column in (values, people, photos))
    random, means = np.random.default_rng(5), []
    for _ in range(1500):
        drawn = (
            np.bincount(random.integers(0, 12, 12), minlength=12),
            np.bincount(random.integers(0, 10, 10), minlength=10),
        )
        repeated = [
            value
            for value, person, photo in zip(values, people, photos, strict=True)
            for _ in range(drawn[0][int(person[1:])] * drawn[1][int(photo[1:])])
        ]
        means.append(np.mean(repeated))
    found = crossed_mean(values, people, photos)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])), abs=0.07)
    assert found.value == pytest.approx(np.mean(values)) and (found.rows, found.items) == (80, 10)


def test_interval_covers_where_drawing_people_alone_does_not():
    """Photos differ, and people hardly: an interval over people alone misses the truth most of the time."""
    hits = {"crossed": 0, "people": 0}
    for seed in range(60):
        values, people, photos = crossed(12, 12, seed, 0.1, 1.0)
        both, alone = crossed_mean(values, people, photos), mean(values, people)
        hits["crossed"] += both.low < 0 < both.high
        hits["people"] += alone.low < 0 < alone.high
    assert hits["crossed"] >= 50 and hits["people"] <= 40


def test_few_and_none():
    assert math.isnan(crossed_mean([], [], []).value)
    few = crossed_mean([1.0, 0.0], ["a", "b"], ["x", "y"])
    assert few.value == 0.5 and math.isnan(few.low)
    people, photos = [f"p{n // 10}" for n in range(120)], [f"i{n % 10}" for n in range(120)]
    all_right = crossed_mean([1.0] * 120, people, photos, share=True)
    assert (all_right.low, all_right.high) == pytest.approx((0.722, 1.0), abs=0.001), "Wilson's of 10 of 10"


@pytest.mark.parametrize("lacking", ["study", "design", "arms"])
def test_a_key_that_lacks_something(keys, tmp_path, lacking):
    key = {name: value for name, value in read_key(keys[0]).items() if name != lacking}
    (tmp_path / "key.json").write_text(json.dumps(key))
    with pytest.raises(InputError, match=r"is no key of a questionnaire"):
        read_key(tmp_path / "key.json")


@pytest.mark.parametrize("column", ["seed", "answer", "reaction_ms"])
def test_numbers_without_end(keys, tmp_path, column):
    (file,) = simulate(read_key(keys[0]), tmp_path, 1, lambda *_: 1)
    lines = list(csv.DictReader(file.open(newline="", encoding="utf-8")))
    lines[0][column] = "9" * 5000
    with file.open("w", newline="", encoding="utf-8") as opened:
        writer = csv.DictWriter(opened, lines[0])
        writer.writeheader()
        writer.writerows(lines)
    with pytest.raises(InputError, match="digits"):
        read(keys[0], file)
