"""Going through items, storing rows, means with intervals: on a protocol that measures numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmexplain.errors import InputError
from mmexplain.evaluate import Item, Metric, Protocol, Row, run
from mmexplain.evaluate.intervals import difference, mean
from mmexplain.evaluate.pairs import beyond
from mmexplain.evaluate.store import Store


class Numbers(Protocol):
    """Each item is a list of numbers; ``twice`` doubles them."""

    name, title = "numbers", "Numbers"
    metrics = (Metric("value", "value"), Metric("even", "even", percent=True, better=""))
    batch = 2

    def __init__(self, numbers: Mapping[str, Sequence[float | None]], factor: int = 1, fail_at: str = "") -> None:
        self.numbers, self.factor, self.fail_at = numbers, factor, fail_at
        self.measured: list[str] = []

    def settings(self) -> Mapping[str, Any]:
        return {"factor": self.factor}

    def items(self) -> Sequence[Item]:
        return [Item(key, values) for key, values in self.numbers.items()]

    def measure(self, items: Sequence[Item]) -> Sequence[Sequence[Row]]:
        for item in items:
            if item.key == self.fail_at:
                raise KeyboardInterrupt
            self.measured.append(item.key)
        return [
            [
                {"method": method, "value": None if v is None else factor * self.factor * v, "even": float(v in (2, 4))}
                for v in item.content
                for method, factor in (("once", 1), ("twice", 2))
            ]
            for item in items
        ]


def test_means_are_over_rows_and_undefined_numbers_are_counted() -> None:
    result = run(Numbers({"a": [1, 2], "b": [6], "c": [None]}))
    once, twice = result.lines
    assert once.labels == {"method": "once"} and once.means["value"].value == 3 and twice.means["value"].value == 6
    found = once.means["value"]
    assert (found.rows, found.items, found.undefined) == (3, 2, 1)
    assert once.means["even"].value == 0.25
    assert result.items == 3


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    numbers = {key: [number] for number, key in enumerate("abcdef")}
    with pytest.raises(KeyboardInterrupt):
        run(Numbers(numbers, fail_at="e"), tmp_path)
    path = tmp_path / "rows.jsonl"
    assert len(path.read_text().splitlines()) == 1 + 4
    path.write_text(path.read_text()[:-7])  # a crash in the middle of a line
    again = Numbers(numbers)
    steps: list[tuple[int, int]] = []
    result = run(again, tmp_path, progress=lambda done, total: steps.append((done, total)))
    assert again.measured == ["d", "e", "f"] and steps == [(5, 6), (6, 6)]
    whole = run(Numbers(numbers))
    assert result.lines == whole.lines
    third = Numbers(numbers)
    run(third, tmp_path)
    assert third.measured == [] and len(path.read_text().splitlines()) == 7


def test_results_of_other_settings_are_not_mixed(tmp_path: Path) -> None:
    run(Numbers({"a": [1]}), tmp_path)
    with pytest.raises(InputError, match=r"other settings \(factor\): choose another --out"):
        run(Numbers({"a": [1]}, factor=2), tmp_path)
    (tmp_path / "rows.jsonl").write_text("something else\n")
    with pytest.raises(InputError, match="is not a file of results"):
        run(Numbers({"a": [1]}), tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        b"\xff\xfe\x00",
        b"[1, 2]",
        b"7",
        b"null",
        b'{"item": "b"}',
        b'{"item": "b", "rows": {}}',
        b'{"item": "b", "rows": ["text"]}',
        b'{"item": 7, "rows": []}',
        b'{"item": "b", "rows": [{"method": "once", "value": "many"}]}',
        b'{"item": "b", "rows": [{"method": "once", "value": [1]}]}',
        b'{"item": "b", "rows": [{"method": "once", "value": NaN}]}',
        b"[" * 100_000,
    ],
)
def test_damaged_rows_are_measured_again(tmp_path: Path, damage: bytes) -> None:
    numbers = {"a": [1], "b": [2], "c": [3]}
    wanted = run(Numbers(numbers), tmp_path)
    path = tmp_path / "rows.jsonl"
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([*lines[:2], damage, *lines[3:]]))
    again = Numbers(numbers)
    assert run(again, tmp_path).lines == wanted.lines and again.measured == ["b"]
    assert sorted(path.read_bytes().split(b"\n")) == sorted(lines)


def test_a_row_without_the_label_that_its_mean_is_taken_within_is_measured_again(tmp_path: Path) -> None:
    metric = Metric("value", "value", within="class")
    path = tmp_path / "rows.jsonl"
    with Store(path, {}, [metric]) as store:
        store.add("a", [{"value": 1.0, "class": "dog"}, {"other": 2}])
        store.add("b", [{"value": 1.0}])
    with Store(path, {}, [metric]) as store:
        assert list(store.rows) == ["a"]


@pytest.mark.parametrize("text", [b"\xff\xfe", b"[]", b"3", b'{"settings": 3}', b"{}", b"\n", b"[" * 100_000])
def test_a_file_that_is_no_file_of_results_is_told_and_kept(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "rows.jsonl").write_bytes(text)
    with pytest.raises(InputError, match="is not a file of results; choose another --out"):
        run(Numbers({"a": [1]}), tmp_path)
    assert (tmp_path / "rows.jsonl").read_bytes() == text


def test_rows_of_other_data_are_not_mixed_and_a_limit_may_be_raised(tmp_path: Path) -> None:
    numbers = {key: [number] for number, key in enumerate("abcd")}
    run(Numbers(numbers), tmp_path, limit=1)
    further = Numbers(numbers)
    assert run(further, tmp_path, limit=3).items == 3 and further.measured == ["b", "c"]
    for other in ({**numbers, "e": [1]}, {**numbers, "d": [30]}, {"a": [0]}):
        with pytest.raises(InputError, match=r"other settings \(data\): choose another --out"):
            run(Numbers(other), tmp_path, limit=1)


def test_what_is_written(tmp_path: Path) -> None:
    result = run(Numbers({"a": [1], "b": [2, None], "c": [4]}), tmp_path / "new")
    record = json.loads((tmp_path / "new" / "result.json").read_text())
    assert record["lines"][0]["means"]["value"]["value"] == pytest.approx(7 / 3)
    text = (tmp_path / "new" / "result.md").read_text()
    assert "| method | value ↑ | even | beyond once | n |" in text and "| once | 2.333 | 50.0 (n 4) |  | 3 |" in text
    assert "| twice | 4.667 | 50.0 (n 4) | +2.333 | 3 |" in text and "3 items" in text
    assert "No interval below 10 items." in text and "once: 1 of value; twice: 1 of value" in text
    assert "rows" not in record
    assert (tmp_path / "new" / "result.png").read_bytes()[:4] == b"\x89PNG"
    assert result.to_json()["lines"] == record["lines"]


def test_nothing_to_measure_is_told() -> None:
    with pytest.raises(InputError, match="nothing to measure"):
        run(Numbers({}))
    with pytest.raises(InputError, match="could measure none of the 1 items"):
        run(Numbers({"a": []}))
    with pytest.raises(InputError, match="limit=0"):
        run(Numbers({"a": [1]}), limit=0)
    assert run(Numbers({"a": [1], "b": [5]}), limit=1).lines[0].means["value"].value == 1


def test_intervals_draw_items_and_not_their_rows() -> None:
    """Against a loop that draws items with replacement and takes the mean of all their rows."""
    random = np.random.default_rng(1)
    items = [f"{number // 10}" for number in range(200)]
    values = (np.repeat(random.normal(size=20), 10) + 0.1 * random.normal(size=200)).tolist()
    found = mean(values, items)
    groups = np.array(values).reshape(20, 10)
    drawn = [groups[random.integers(0, 20, 20)].mean() for _ in range(4000)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    assert found.low == pytest.approx(low, abs=0.05) and found.high == pytest.approx(high, abs=0.05)
    alone = mean(values, [str(number) for number in range(200)])
    assert alone.high - alone.low < 0.5 * (found.high - found.low), "rows taken for independent look too certain"
    assert found.value == pytest.approx(np.mean(values)) and (found.rows, found.items) == (200, 20)


def test_intervals_of_little() -> None:
    assert math.isnan(mean([None, math.nan], ["a", "b"]).value)
    single = mean([1.0, 2.0], ["a", "a"])
    assert single.value == 1.5 and math.isnan(single.low)
    nine, ten = ([f"{number}" for number in range(count)] for count in (9, 10))
    assert math.isnan(mean([2.0] * 9, nine).high) and math.isnan(mean([2.0] * 9, nine, within=["x"] * 9).high)
    same = mean([2.0] * 10, ten)
    assert (same.low, same.high) == (2.0, 2.0)


def test_shares_that_are_all_the_same_have_wilsons_interval() -> None:
    """z² / (n + z²) at the other end, with z = 1.96 and n the items: of rows of one item only the item counts."""
    items, z2 = [f"{number // 2}" for number in range(40)], 1.959963984540054**2
    none, every = mean([0.0] * 40, items, share=True), mean([1.0] * 40, items, share=True)
    assert (none.value, none.low, none.high) == (0, 0, pytest.approx(z2 / (20 + z2)))
    assert (every.value, every.low, every.high) == (1, pytest.approx(20 / (20 + z2)), 1)
    assert mean([0.0] * 40, items).high == 0 and mean([0.5] * 40, items, share=True).high == 0.5
    grouped = mean([1.0] * 40, items, within=["dog", "cat"] * 20, share=True)
    assert (grouped.low, grouped.high) == (every.low, every.high)


def test_paired_differences_against_a_loop() -> None:
    """What two methods share cancels: the interval is that of the differences, however far apart the items are."""
    random = np.random.default_rng(2)
    items = [f"{number // 3}" for number in range(150)]
    hard = np.repeat(random.normal(size=50), 3)
    one, other = hard + 0.1 + 0.1 * random.normal(size=150), hard + 0.1 * random.normal(size=150)
    found = difference(one.tolist(), other.tolist(), items)
    groups = (one - other).reshape(50, 3)
    drawn = [groups[random.integers(0, 50, 50)].mean() for _ in range(4000)]
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(drawn, [2.5, 97.5])), abs=0.005)
    assert found.value == pytest.approx((one - other).mean()) and found.low > 0
    assert mean(one.tolist(), items).low < mean(other.tolist(), items).high, "apart they seem to overlap"
    lacking = difference([1.0, None, 2.0], [0.5, 1.0, math.nan], ["a", "b", "c"])
    assert (lacking.value, lacking.rows, lacking.undefined) == (0.5, 1, 2)


VALUE = Metric("value", "value", percent=True)


def test_pairs_are_rows_of_the_same_thing() -> None:
    def row(method: str, value: float | None, target: str = "cat", kind: str = "all") -> Row:
        return {"method": method, "target": target, "kind": kind, "value": value}

    rows = [
        # Targets go together whatever their order; two rows of one target do in their order.
        ("a", row("cam", 0.9)),
        ("a", row("cam", 0.5, "dog")),
        ("a", row("centre", 0.1, "dog")),
        ("a", row("centre", 0.2)),
        ("b", row("cam", 0.3)),
        ("b", row("cam", 0.8)),
        ("b", row("centre", 0.1)),
        ("b", row("centre", 0.4)),
        # Nothing tells which of the two is meant.
        ("c", row("cam", 1.0)),
        ("c", row("cam", 1.0)),
        ("c", row("centre", 0.0)),
        ("d", row("cam", 1.0, kind="other")),
        ("d", row("centre", 0.0, kind="other")),
        ("d", row("random", None, kind="other")),
    ]
    found = beyond(rows, VALUE, "cam", "centre", {"kind": "all"})
    assert found is not None and found.rows == 4
    assert found.value == pytest.approx((0.7 + 0.4 + 0.2 + 0.4) / 4)
    opposite = beyond(rows, VALUE, "centre", "cam", {"kind": "other"})
    assert opposite is not None and opposite.value == -1
    assert beyond(rows, VALUE, "random", "cam", {"kind": "all"}) is None
    undefined = beyond(rows, VALUE, "random", "cam", {})
    assert undefined is not None and math.isnan(undefined.value) and undefined.undefined == 1


class Kinds(Protocol):
    """A control that comes first, two methods, and words of two kinds."""

    name, title = "kinds", "Kinds"
    labels = ("method", "kind")
    metrics = (Metric("hit", "hit", percent=True), Metric("energy", "energy"))

    def settings(self) -> Mapping[str, Any]:
        return {"methods": ["second", "first"], "layer": None}

    def items(self) -> Sequence[Item]:
        return [Item(f"{number}", number) for number in range(12)]

    def measure(self, items: Sequence[Item]) -> Sequence[Sequence[Row]]:
        return [
            [
                {"method": method, "kind": kind, "hit": float(item.content % 4 < high), "energy": energy}
                for kind in (("all", "dog") if item.content % 2 else ("all", "cat"))
                for method, high, energy in (("centre", 0, None), ("first", 2, 0.5), ("second", 1, item.content))
            ]
            for item in items
        ]


def test_lines_stand_by_group_and_then_as_methods_were_asked_for() -> None:
    result = run(Kinds())
    named = [(line.labels["kind"], line.labels["method"]) for line in result.lines]
    assert named == [(kind, method) for kind in ("all", "cat", "dog") for method in ("second", "first", "centre")]
    heads, second, first, centre, *_, last = result.cells()
    assert heads == ["method", "kind", "hit ↑", "energy ↑", "beyond second", "n"]
    assert second[4] == "" and first[4].startswith("+25.0 [") and centre[4].startswith("-25.0 [")
    assert centre[2] == "0.0 [0.0, 24.2]" and centre[3] == "–" and centre[5] == "12"
    assert last == ["centre", "dog", "0.0", "–", "+0.0", "6"], "6 photos: no interval"
    told = result.told()
    assert (
        "beyond second: the difference of hit from second on the same things, pair by pair, in percentage points."
        in told
    )
    assert any("centre / all: 12 of energy; centre / cat: 6 of energy" in line for line in told)
    assert any(line.startswith("Settings: methods second, first; layer the model's own") for line in told)
    assert result.beyond("first", "energy", "second", kind="cat") == mean(
        [0.5 - n for n in range(0, 12, 2)], list("abcdef")
    )
    with pytest.raises(KeyError):
        result.beyond("first", "hits", "second")


def test_the_number_beside_a_mean_of_fewer() -> None:
    numbers = Numbers({f"{number}": [number, None] for number in range(3)})
    numbers.metrics = (numbers.metrics[1], numbers.metrics[0])  # type: ignore[misc]
    _, once, twice = run(numbers).cells()
    assert once == ["once", "16.7", "1.000 (n 3)", "", "6"] and twice[3:] == ["+0.0", "6"]


def test_a_label_may_be_called_against() -> None:
    """As wins of one method against another have it."""

    class Wins(Numbers):
        labels = ("method", "against")

        def measure(self, items: Sequence[Item]) -> Sequence[Sequence[Row]]:
            return [[{**row, "against": ""} for row in rows] for rows in super().measure(items)]

    result = run(Wins({f"photo {number}": [float(number)] for number in range(12)}))
    one, other = (line.labels["method"] for line in result.lines)
    found = result.beyond(other, "value", one, against="")
    assert found is not None and "beyond" in result.markdown()
