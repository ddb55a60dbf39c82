"""The page of all protocols: what is on it, what is told to be missing, and whose date it bears."""

from __future__ import annotations

import argparse
import io
import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from rich.console import Console

from mmexplain.errors import InputError
from mmexplain.evaluate.intervals import Mean
from mmexplain.evaluate.protocol import Item, Metric, Protocol, Row
from mmexplain.evaluate.result import Line, Result
from mmexplain.evaluate.runner import ROWS, run

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Modules of the benchmarks are imported by their names, as its scripts do it."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(BENCHMARKS)
    yield
    for name in set(sys.modules) - before:
        if str(BENCHMARKS) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


class Counted(Protocol):
    """Three items with numbers of their own."""

    name: ClassVar[str] = "counted"
    title: ClassVar[str] = "Counted"
    labels: ClassVar[tuple[str, ...]] = ("method",)
    metrics: ClassVar[tuple[Metric, ...]] = (Metric("hit", "hits", percent=True), Metric("none", "undefined"))

    def settings(self) -> dict[str, Any]:
        return {"methods": ["gradcam"]}

    def items(self) -> Sequence[Item]:
        return [Item(str(number), number) for number in range(3)]

    def measure(self, items: Sequence[Item]) -> Sequence[Sequence[Row]]:
        return [[{"method": "gradcam", "hit": item.content / 2, "none": None}] for item in items]

    def notes(self) -> Sequence[str]:
        return ("A note.",)


def result(protocol: str = "pointing", **changes: Any) -> Result:
    """A hand-made one."""
    made = {"date": "2020-02-03", "machine": "abacus, 1 threads", "mmexplain": "0", "torch": "2"}
    lines = [
        Line({"subset": subset, "method": "gradcam"}, {"hit": Mean(value, value - 0.1, value + 0.1, 9, 4, 0)})
        for subset, value in (("all", 0.5), ("difficult", 0.25))
    ]
    metrics = (Metric("hit", "accuracy", percent=True),)
    found = Result(protocol, "Pointing", ("subset", "method"), metrics, lines, {"seed": 0}, ["A note."], 4, 1.5, made)
    return replace(found, **changes)


def store(folder: Path, found: Result, rows: int | None = None) -> None:
    """As the runner leaves it."""
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps(found.to_json()))
    count = found.items if rows is None else rows
    lines = [{"settings": found.settings}, *({"item": str(number), "rows": []} for number in range(count))]
    (folder / ROWS).write_text("".join(json.dumps(line) + "\n" for line in lines))


def arguments(work: Path, *only: str, **options: Any) -> argparse.Namespace:
    return argparse.Namespace(**{"data": work, "weights": None, "work": work, "only": only, "limit": None, **options})


def test_a_result_is_read_back_as_it_was(tmp_path: Path) -> None:
    from saved import saved

    assert saved(tmp_path) is None
    found = run(Counted(), tmp_path)
    again = saved(tmp_path)
    assert again is not None and again.markdown() == found.markdown() and again.to_json() == found.to_json()
    assert math.isnan(again.lines[0].means["none"].value)
    lines = (tmp_path / ROWS).read_text().splitlines()
    (tmp_path / ROWS).write_text("\n".join(lines[:-1]) + "\n")
    assert saved(tmp_path) is None, "a row is gone"


def test_date_and_seconds_are_those_of_the_measurement(tmp_path: Path) -> None:
    from saved import run_or_keep

    run(Counted(), tmp_path)
    record = json.loads((tmp_path / "result.json").read_text())
    record["made"]["date"], record["made"]["machine"], record["seconds"] = "2020-02-03", "abacus", 77.0
    (tmp_path / "result.json").write_text(json.dumps(record))
    kept = run_or_keep(Counted(), tmp_path)
    assert (kept.made["date"], kept.made["machine"], kept.seconds) == ("2020-02-03", "abacus", 77.0)
    assert json.loads((tmp_path / "result.json").read_text()) == record
    (tmp_path / ROWS).unlink()
    assert run_or_keep(Counted(), tmp_path).made["machine"] != "abacus", "it was measured anew"


def test_the_page_holds_everything_that_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import protocols
    from protocol_runs import Run

    runs = [Run(name, "one", "photos", ("gradcam",)) for name in ("pointing", "localisation", "faithfulness")]
    runs += [Run("randomisation", "gone", "photos", ("gradcam",)), Run("grounding", "one", "photos", ("layercam",))]
    monkeypatch.setattr(protocols, "RUNS", runs)
    monkeypatch.setattr(protocols, "STUDIES", {"time": lambda *_: "## Time\n", "words": lambda *_: "## Words\n"})
    (tmp_path / "words.md").write_text("## Words of yesterday\n")
    store(tmp_path / "pointing_one", result())
    store(tmp_path / "localisation_one", result("localisation"), rows=3)
    store(tmp_path / "randomisation_gone", result("randomisation"))
    store(tmp_path / "grounding_one", result("grounding", settings={"methods": ["gradcam"]}))

    def load(name: str, **_: Any) -> str:
        if name == "gone":
            raise InputError("no weights")
        return name

    def refuses(*_: Any, **__: Any) -> None:
        raise InputError("/secret/place holds results of other settings")

    monkeypatch.setattr(protocols, "load", load)
    monkeypatch.setattr(protocols, "get", lambda name: refuses)
    console = Console(file=io.StringIO(), width=200)
    done, studies, missing = protocols.gathered(arguments(tmp_path, "faithfulness", "randomisation", "time"), console)
    assert [planned.name for planned, _ in done] == ["pointing_one", "randomisation_gone"]
    assert studies == ["## Time\n", "## Words of yesterday\n"]
    assert missing == [
        "localisation, `one`: not measured yet",  # a row is not there
        "faithfulness, `one`: failed",
        "grounding, `one`: not measured yet",  # of another method
    ]
    assert isinstance(console.file, io.StringIO)
    assert "faithfulness_one failed: /secret/place" in console.file.getvalue()
    assert "randomisation_gone is not measured: no weights" in console.file.getvalue()
    page = protocols.written(done[:1], studies, missing).splitlines()
    assert "Measured on abacus, 1 threads; mmexplain 0, torch 2; 2020-02-03." in page
    assert page[page.index("Missing here:") + 2] == "- localisation, `one`: not measured yet"
    assert "## Time" in page and "/secret" not in "\n".join(page)


def test_days_of_one_machine_are_a_span() -> None:
    from protocols import made_with

    later = result(made={**result().made, "date": "2020-02-05"})
    other = result(made={**result().made, "machine": "slide rule"})
    assert made_with([later, result(), other]) == [
        "abacus, 1 threads; mmexplain 0, torch 2; 2020-02-03 to 2020-02-05",
        "slide rule; mmexplain 0, torch 2; 2020-02-03",
    ]


@pytest.mark.parametrize("text", ["0", "-3"])
def test_a_limit_is_1_or_more(text: str) -> None:
    from common import positive

    assert positive("2") == 2
    with pytest.raises(argparse.ArgumentTypeError, match=f"{text} is not 1 or more"):
        positive(text)


def test_columns_of_numbers_are_to_the_right() -> None:
    from common import table

    rows = [["Grad-CAM", "`gradcam`", "56.5 [1.0, 2.0]", "–"], ["no", "`x`", "–", "+3"]]
    assert table(["variant", "method", "error ↓", "gain"], rows).splitlines() == [
        "| variant  | method    |         error ↓ | gain |",
        "| -------- | --------- | --------------: | ---: |",
        "| Grad-CAM | `gradcam` | 56.5 [1.0, 2.0] |    – |",
        "| no       | `x`       |               – |   +3 |",
    ]


def whole_table(text: str) -> list[list[str]]:
    """Cells of the rows below a table's head."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "---" not in line]


def test_cascading_randomisation_is_a_column_for_each_method() -> None:
    from protocol_runs import Run
    from protocol_tables import cascade

    def line(method: str, mode: str, layer: str, value: float) -> Line:
        labels = {"method": method, "mode": mode, "random layers": layer}
        return Line(labels, {"signed": Mean(value, value - 0.1, value + 0.1, 9, 4, 0)})

    lines = [line("a", "cascading", "head", 0.5), line("b", "cascading", "head", math.nan)]
    lines += [line("a", "cascading", "body", 0.25), line("a", "independent", "body", 0.9)]
    made = result("randomisation", lines=lines, labels=("method", "mode", "random layers"))
    found = whole_table("\n".join(cascade(made, Run("randomisation", "m", "d", ("a", "b")))))
    assert found == [
        ["random layers", "a", "b"],
        ["head", "0.50 [0.40, 0.60]", "–"],
        ["body", "0.25 [0.15, 0.35]", "–"],
    ]


def test_ablations_stand_beside_grad_cam() -> None:
    from protocol_runs import RESNET50
    from protocol_tables import ablations

    def line(value: float, names: tuple[str, ...], **labels: str) -> Line:
        return Line(labels, {name: Mean(value, math.nan, math.nan, 9, 4, 0) for name in names})

    boxes = result(
        "localisation", labels=("method",), lines=[line(0.9, ("error_top1", "error_top5"), method="gradcam")]
    )
    boxes = replace(boxes, metrics=(Metric("error_top1", "", True), Metric("error_top5", "", True)))
    points = [
        line(value, ("hit", "energy"), subset=subset, method="gradcam-max")
        for subset, value in (("all", 0.4), ("difficult", 0.3))
    ]
    found = {("localisation", RESNET50): boxes, ("pointing", RESNET50): result(lines=points)}
    text = ablations(found)
    rows = whole_table(text)
    assert rows[1] == ["Grad-CAM", "`gradcam`", "90.0", "90.0", "–", "–", "–"]
    assert rows[4][1:] == ["`gradcam-max`", "–", "–", "40.0", "30.0", "40.0"]
    assert len(rows) == 7 and "could not be checked" in text
    assert ablations({("pointing", RESNET50): result()}) == ""


def test_the_time_of_an_evaluation_is_told(tmp_path: Path) -> None:
    from evaluation_time import section

    machine = {"cpu": "abacus", "cores": 1, "threads": 1, "torch": "2", "date": "2020-02-03"}
    record = {"machine": machine, "photos": 80, "captioning_seconds": [10, 20], "evaluating_seconds": [5, 20]}
    (tmp_path / "evaluation_time_all.json").write_text(json.dumps(record))
    text = section(tmp_path, tmp_path)
    assert "Captioning 80 photos with a beam of 3 took 30 s" in text and "25 s: 0.83 × as long (median of" in text
    assert "2 parts 0.75" in text and "Machine: abacus, 1 cores, 1 threads; torch 2; 2020-02-03." in text


def grounded() -> list[tuple[str, Row]]:
    """Ten photos of one word; the method points right in 6, Grad-CAM in 4, the centre in 5."""
    rows = []
    for number in range(10):
        for method, right in (("layercam", 6), ("gradcam", 4), ("attention", 2), ("centre", 5), ("random", 1)):
            row = {"method": method, "word": "dog", "phrase": "animals", "pointing": float(number < right)}
            row |= {"elsewhere": float(number == 9), "share": 0.05, "probability": 0.2, "iou": 0.5}
            rows.append((str(number), row))
    return rows


def test_the_worst_words_and_what_may_explain_them() -> None:
    import word_grounding

    text = word_grounding.words_table(grounded())
    assert whole_table(text)[1] == ["dog", "10", "60", "40", "50", "+10", "10", "5.0", "20.0"]
    assert text.startswith("Of 1 words that come up 8 times or more, 0 are less than 5 points above the centre.")
    causes = whole_table(word_grounding.causes_table(grounded()))[1:]
    assert [row[:3] for row in causes] == [
        ["size: share of the photo", "3 to 10 %", "10"],
        ["probability of the word", "10 to 50 %", "10"],
    ]
    assert [cell.split()[0] for cell in causes[0][3:]] == ["60.0", "20.0", "50.0", "25.0"]
    remedies = {row[1]: row for row in whole_table(word_grounding.remedies_table(grounded()))}
    assert remedies["gradcam"][0] == "method" and remedies["gradcam"][3].split()[0] == "-20.0"
    assert remedies["gradcam"][7] == "0.500" and remedies["centre"][2].split()[0] == "50.0"
