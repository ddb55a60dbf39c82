"""Conditions and orders: one expression each, and one line for what is wrong with it."""

from __future__ import annotations

import pytest

from mmexplain.errors import InputError
from mmexplain.gallery.query import condition, count, order, select
from tests.gallery.stores import Told, spot, write


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    inputs = [
        Told("one", "a dog runs", spot((0, 0), (1, 1), (2, 2)), [0.9, 0.2, 0.5]),
        Told("two", "the dog", spot((0, 0), (5, 5)), [0.8, float("nan")]),
        Told("bad", "", spot(), error=InputError("cut short")),
    ]
    return write(tmp_path_factory.mktemp("query") / "store", inputs)


@pytest.mark.parametrize(
    "where, found",
    [
        (None, 5),
        ("word = 'dog'", 2),
        ("word = 'dog' and probability < .3", 1),
        ("content", 3),
        ("answer = 'dog'", 0),
        ("label like '%;%' or label = '--'", 0),
        ("input in (select input from rows where word = 'runs')", 3),
        ("word = 'dog' -- all of them", 2),
        ("word = 'dog' /* all", None),
    ],
)
def test_a_condition_chooses_rows_that_have_a_map(store, where, found) -> None:
    if found is None:
        with pytest.raises(InputError):
            count(store, where)
    else:
        assert count(store, where) == found


@pytest.mark.parametrize(
    "where",
    [
        "",
        "1; drop table x",
        "true; select 1",
        "a) or (b",
        "true) or (true",
        "1 from rows",
        "1 where true",
        "1 group by 1",
        "1 having true",
        "1 limit 3",
        "1 order by 1",
        "1 union select 2",
        "true as x",
        "word, label",
        "*",
        "'",
        "copy rows to 'x'",
        "--",
    ],
)
def test_anything_but_one_expression_is_refused(where) -> None:
    with pytest.raises(InputError, match="is not one SQL expression") as told:
        condition(where)
    assert "\n" not in str(told.value)
    assert repr(where) in str(told.value)


@pytest.mark.parametrize(
    "where, reason",
    [
        ("wrod = 'dog'", '"word"'),
        ("count(*) > 1", "aggregates"),
        ("label::int = 3", "convert"),
        ("label", "BOOL"),
        ("nonsense(label)", "nonsense"),
    ],
)
def test_what_duckdb_minds_is_one_line(store, where, reason) -> None:
    with pytest.raises(InputError, match="cannot be asked") as told:
        select(store, where)
    assert reason in str(told.value) and "LINE" not in str(told.value) and "\n" not in str(told.value)


@pytest.mark.parametrize(
    "sort, labels",
    [
        (None, ["a", "dog", "runs", "the", "dog"]),
        ("probability", ["dog", "runs", "the", "a", "dog"]),
        ("position desc, probability desc", ["runs", "dog", "dog", "a", "the"]),
        ("length(label), label -- short ones first", ["a", "dog", "dog", "the", "runs"]),
    ],
)
def test_order(store, sort, labels) -> None:
    assert select(store, None, sort).column("label").to_pylist() == labels


@pytest.mark.parametrize("sort", ["", "probability limit 1", "; drop", "probability; select 1", "1 from rows", "asc"])
def test_an_order_is_nothing_but_expressions(sort) -> None:
    with pytest.raises(InputError, match="cannot sort by") as told:
        order(sort)
    assert "\n" not in str(told.value)


def test_so_many_at_most(store) -> None:
    assert select(store, "content", "probability desc", 1).column("label").to_pylist() == ["dog"]
