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
    (folder / ROWS).write_text("{}\n" * (1 + (found.items if rows is None else rows)))


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
