"""What a study tells: cells, controls, files."""

import json
import math

import pytest

from mmexplain.evaluate.intervals import Mean
from mmexplain.studies import Control, Study, Table


def study(**changes):
    table = Table(
        "Accuracy",
        ("group", "share", "value", "n"),
        [("a", 0.5, 0.123, 1200), ("b", Mean(0.25, 0.2, 0.3, 40, 20), None, 3), ("c", math.nan, 2.0, 0)],
        percent=("share",),
    )
    options = {
        "name": "trial",
        "title": "A trial",
        "tables": [table],
        "controls": [Control("Chance is a half.", "49 % of 100.", True)],
        "settings": {"methods": ["gradcam", "cam"], "layer": None},
        "notes": ["Read this."],
        "items": 1234,
        "seconds": 1.5,
        "details": {"odd": math.inf},
    }
    return Study(**(options | changes))


def test_cells_are_told_for_people():
    assert study().tables[0].cells() == [
        ["a", "50.0", "0.12", "1,200"],
        ["b", "25.0 [20.0, 30.0]", "–", "3"],
        ["c", "–", "2.00", "0"],
    ]


def test_rows_are_as_long_as_the_heads():
    with pytest.raises(ValueError, match="Short"):
        Table("Short", ("a", "b"), [("x",)])


def test_a_control_that_fails_is_seen():
    failed = study(controls=[Control("So.", "Not so.", False)])
    assert study().held and not failed.held
    assert "**failed**: So. Not so." in failed.markdown()
    assert failed.to_json()["held"] is False


def test_files(tmp_path):
    from matplotlib.figure import Figure

    paths = study().save(tmp_path / "new", Figure())
    assert [path.name for path in paths] == ["study.json", "study.md", "study.png"] and all(
        map(type(paths[0]).exists, paths)
    )
    record = json.loads(paths[0].read_text())
    assert record["details"] == {"odd": None} and record["tables"][0]["rows"][1][1]["value"] == 0.25
    text = paths[1].read_text()
    assert "| group | share | value | n |\n| --- | ---: | ---: | ---: |" in text
    assert "1,234 items; mean [95% bootstrap interval over items]." in text and "layer none" in text


def test_strangers_words_are_no_markup():
    table = Table("Odd", ("file", "n"), [("a|b<img src=x>\nc", 1)])
    assert "| a\\|b&lt;img src=x> c | 1 |" in study(tables=[table]).markdown()
