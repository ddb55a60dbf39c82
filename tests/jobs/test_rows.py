"""Explanation → rows → Explanation loses nothing but what 16 bits cannot hold."""

import dataclasses
import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmexplain.errors import InputError
from mmexplain.explanation import Explanation, MapKey
from mmexplain.geometry import Geometry
from mmexplain.jobs.item import Item
from mmexplain.jobs.rows import Rows, explanation_of
from mmexplain.jobs.schema import COLUMNS
from mmexplain.jobs.shards import encoded
from mmexplain.jobs.store import flattened
from mmexplain.picture import Picture
from mmexplain.targets import Target, contrast

PICTURE = Picture(torch.zeros(2, 2, 3, dtype=torch.uint8), "photo.jpg")
ITEM = Item(0, "one", "photo.jpg")
PHOTO = Geometry.identity(40, 60).resize(20, 30).crop(0, 5, 20, 20)
CLIP = Geometry.identity(40, 60).resize(8, 8).sample((0, 2, 4, 6), 9)
DOG = Target("dog", "word", (4,), 1)


def explanation(maps, targets=None, **fields):
    targets = targets or [Target(f"class {k}", "class", (k,)) for k in range(len(next(iter(maps.values()))))]
    given = {
        "task": "classify",
        "model": "tiny",
        "text": None,
        "targets": targets,
        "scores": torch.arange(len(targets), dtype=torch.float32) - 0.5,
        "probabilities": torch.linspace(0.1, 0.9, len(targets)),
        "maps": maps,
        "geometry": PHOTO,
        "picture": PICTURE,
        "provenance": {"seed": 0, "input_shape": [3, 20, 20]},
    }
    return Explanation(**{**given, **fields})


def written(*explanations, map_shape=None):
    """Their table, through a Parquet file."""
    import io

    import pyarrow.parquet as pq

    rows = Rows(map_shape)
    for number, one in enumerate(explanations):
        rows.add(Item(number, f"item {number}", "photo.jpg"), one)
    return pq.read_table(io.BytesIO(encoded(rows.table())), schema=rows.table().schema)


def again(one, map_shape=None):
    rows = flattened(written(one, map_shape=map_shape)).to_pylist()
    return explanation_of(rows, one.picture, one.pixel_methods)


def same(value, other):
    return torch.equal(value.nan_to_num(7.25), other.nan_to_num(7.25)) and torch.equal(value.isnan(), other.isnan())


def assert_equal(one, found):
    for field in dataclasses.fields(Explanation):
        mine, other = getattr(one, field.name), getattr(found, field.name)
        if field.name in ("maps", "seconds"):
            continue
        if isinstance(mine, torch.Tensor):
            assert same(mine, other), field.name
        elif field.name in ("text_maps", "text_errors"):
            assert mine.keys() == other.keys()
            assert all(same(mine[name], other[name]) for name in mine), field.name
        else:
            assert mine == other, field.name
    assert list(one.maps) == list(found.maps)
    for key, values in one.maps.items():
        for mine, other in zip(values, found.maps[key], strict=True):
            assert mine.shape == other.shape
            # The distance of two neighbouring 16-bit numbers just below 1.
            assert (mine - other).abs().max() <= mine.abs().max() * 2**-11


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


CASES = {
    "one map": explanation({MapKey("l4", "gradcam"): noise(1, 5, 5)}),
    "several layers and methods of different shapes": explanation(
        {
            MapKey("l3", "gradcam"): noise(2, 10, 10),
            MapKey("l4", "gradcam"): noise(2, 5, 5),
            MapKey("l3", "gradcam++"): noise(2, 10, 10, seed=1),
            MapKey("l4", "gradcam++"): noise(2, 5, 5, seed=1),
        }
    ),
    "a pixel method": explanation(
        {MapKey("l4", "gradcam"): noise(2, 5, 5), MapKey("input", "guided-backprop"): noise(2, 3, 20, 20)},
        pixel_methods=frozenset({"guided-backprop"}),
    ),
    "a clip": explanation(
        {MapKey("l4", "gradcam"): noise(2, 4, 3, 3)}, [Target("falling", "action", (7,)), DOG], geometry=CLIP
    ),
    "a contrast with a weight": explanation(
        {MapKey("l4", "gradcam"): noise(2, 5, 5)},
        [DOG, contrast(DOG, Target("cat", "word", (5,), 1), 0.5)],
        text="a dog",
        words=["a", "dog"],
    ),
    "what words added": explanation(
        {MapKey("l4", "gradcam"): noise(2, 5, 5)},
        [DOG, Target("a dog", "span", (3, 4, 9), 0, words=2)],
        text="a dog",
        words=["a", "dog"],
        text_maps={"gradient": torch.tensor([[0.5, torch.nan], [-1.0, 2.0]]), "integrated": torch.ones(2, 2)},
        text_errors={"integrated": torch.tensor([0.01, -0.02])},
    ),
    "scores that are no numbers": explanation(
        {MapKey("l4", "gradcam"): torch.zeros(3, 5, 5)},
        scores=torch.tensor([-torch.inf, torch.nan, torch.inf]),
        probabilities=torch.tensor([0.0, torch.nan, 1.0]),
    ),
    "no probabilities": explanation({MapKey("l4", "gradcam"): noise(1, 5, 5)}, probabilities=None),
    "texts of all kinds": explanation(
        {MapKey("l4", "gradcam"): noise(3, 5, 5)},
        [
            Target("", "word", (1,), 0, content=False),
            Target("Straße 🐕\n\0x", "word", (2,), 1),
            Target("it's \"'", "answer"),
        ],
        text=" Straße",
        words=["", "Straße", "🐕"],
    ),
    "values of all sizes": explanation(
        {MapKey("l4", "gradcam"): noise(4, 5, 5) * torch.tensor([1e-30, 1e-8, 1e8, 1e30])[:, None, None]}
    ),
}


@pytest.mark.parametrize("one", CASES.values(), ids=CASES)
def test_comes_back_as_it_was(one):
    assert_equal(one, again(one))


def test_of_one_shape_as_tensors():
    one = CASES["one map"]
    table = written(one, one, map_shape=(5, 5))
    assert table.schema.field("map").type.shape == [5, 5]
    assert_equal(one, again(one, (5, 5)))


def test_an_error_has_a_row_of_its_own_among_tensors_and_lists():
    one = CASES["one map"]
    for shape in ((5, 5), None):
        rows = Rows(shape)
        rows.add(Item(2, "c", "c.jpg"), one)
        rows.fail(Item(1, "b", "b.jpg", caption="a  dog"), InputError("no such\nfile:   'b.jpg'"))
        rows.fail(Item(0, "a", "a.jpg"), ValueError())
        first, second, third = flattened(rows.table()).to_pylist()
        filled = {name for name, value in second.items() if value is not None}
        assert filled == {"input", "id", "source", "text", "error", "error_type"}
        assert (second["text"], second["error"]) == ("a  dog", "no such file: 'b.jpg'")
        assert (first["input"], first["error"], first["error_type"]) == (0, "ValueError", "ValueError")
        assert third["error"] is None and len(third["map"]) == 25


def test_nothing_is_left_of_an_explanation_that_does_not_fit():
    rows = Rows((5, 5))
    with pytest.raises(ValueError, match="10×10 values in a store of 5×5"):
        rows.add(ITEM, explanation({MapKey("a", "gradcam"): noise(1, 5, 5), MapKey("b", "gradcam"): noise(1, 10, 10)}))
    assert len(rows) == 0


def test_a_map_that_is_no_number_stays_that():
    found = again(explanation({MapKey("l4", "gradcam"): torch.full((1, 5, 5), torch.nan)}))
    assert found.maps[MapKey("l4", "gradcam")].isnan().all()


def test_columns_are_those_that_are_described():
    assert written(CASES["one map"]).column_names == list(COLUMNS)
    assert all(text for _, text in COLUMNS.values())


def test_statistics_are_those_of_what_people_see():
    one = CASES["a pixel method"]
    for row in written(one).to_pylist():
        assert (row["peak_x"], row["peak_y"]) == one.geometry.peak(one.map(row["target"], row["layer"], row["method"]))
        values = one.map(row["target"], row["layer"], row["method"])
        assert (row["minimum"], row["maximum"]) == (float(values.min()), float(values.max()))


def test_provenance_is_json_even_with_numbers_that_json_does_not_have():
    one = explanation({MapKey("l4", "gradcam"): noise(1, 5, 5)}, provenance={"gradcam": {"error": [math.inf, 1.0]}})
    (row,) = written(one).to_pylist()
    assert json.loads(row["provenance"]) == {"gradcam": {"error": [None, 1.0]}}


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
numbers = st.floats(width=32)


@st.composite
def explanations(draw):
    count, words = draw(st.integers(1, 3)), draw(st.lists(texts, max_size=3))
    targets = []
    for _ in range(count):
        target = Target(
            draw(texts),
            draw(st.sampled_from(["word", "answer", "class"])),
            tuple(draw(st.lists(st.integers(-(2**62), 2**62), max_size=3))),
            draw(st.none() | st.integers(0, 9)),
            draw(st.booleans()),
            words=draw(st.none() | st.integers(1, 3)),
        )
        targets.append(contrast(target, DOG, draw(st.floats(0, 2))) if draw(st.booleans()) else target)
    maps = {
        MapKey(draw(texts), name): torch.tensor(
            draw(st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=count * 6, max_size=count * 6))
        ).view(count, 2, 3)
        for name in draw(st.sampled_from([["gradcam"], ["gradcam", "attention"]]))
    }
    several = st.lists(numbers, min_size=count, max_size=count).map(torch.tensor)
    return explanation(
        maps,
        targets,
        scores=draw(several),
        probabilities=draw(st.none() | several),
        text=draw(st.none() | texts),
        words=words,
    )


@given(explanations())
def test_whatever_it_holds_comes_back(one):
    assert_equal(one, again(one))
