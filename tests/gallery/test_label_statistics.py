"""Statistics of labels against pandas, and the interval against a slow form of its definition."""

from __future__ import annotations

import math

import numpy as np
import pandas
import pytest
import torch
from scipy import stats

from mmexplain.gallery import label_statistics
from mmexplain.gallery.label_statistics import write_csv
from tests.gallery.stores import Told, spot, write


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Thirty inputs that say "dog" once or twice; "cat" is rare; one probability is not a number."""
    random = np.random.default_rng(0)
    torch.manual_seed(0)
    inputs = []
    for number in range(30):
        words = ["dog", "the", "dog"][: 1 + number % 3] + ["cat"] * (number < 4)
        shares = random.uniform(0.2, 0.8, len(words))
        if number == 7:
            shares[0] = math.nan
        maps = torch.randn(len(words), 6, 6)
        if number == 9:
            maps[0] = 0.0  # flat: no peak, no entropy
        inputs.append(Told(f"i{number}", " ".join(words), maps, shares.tolist()))
    return write(tmp_path_factory.mktemp("statistics") / "store", inputs, shard=7)


def test_against_pandas(store) -> None:
    rows = store.table(
        ["input", "label", "probability", "area", "entropy", "peak_x", "peak_y", "width", "height"]
    ).to_pandas()
    rows = rows.astype({"probability": "float64", "area": "float64", "entropy": "float64"})
    rows["x"] = (rows.peak_x + 0.5) / rows.width
    rows["y"] = (rows.peak_y + 0.5) / rows.height
    expected = rows.groupby("label").agg(
        count=("label", "size"),
        inputs=("input", "nunique"),
        mean_probability=("probability", "mean"),
        mean_area=("area", "mean"),
        mean_entropy=("entropy", "mean"),
        mean_peak_x=("x", "mean"),
        mean_peak_y=("y", "mean"),
    )
    found = label_statistics(store).to_pandas().set_index("label")
    assert list(found.index) == ["dog", "the", "cat"]  # by count
    pandas.testing.assert_frame_equal(
        found[list(expected.columns)].sort_index(), expected.sort_index(), check_dtype=False, check_index_type=False,
        check_names=False,
    )  # fmt: skip


def test_the_interval(store) -> None:
    rows = store.table(["input", "label", "probability"]).to_pandas()
    found = {row["label"]: row for row in label_statistics(store).to_pylist()}
    for label in ("dog", "the"):
        known = rows[(rows.label == label) & rows.probability.notna()]
        groups = [group.probability.to_numpy(np.float64) for _, group in known.groupby("input")]
        mean = np.concatenate(groups).mean()
        k, mean_size = len(groups), np.mean([len(group) for group in groups])
        deviations = [(group.sum() - mean * len(group)) / mean_size for group in groups]
        half = stats.t.ppf(0.975, k - 1) * math.sqrt(sum(value**2 for value in deviations) / (k - 1) / k)
        assert found[label]["mean_probability"] == pytest.approx(mean)
        assert found[label]["probability_low"] == pytest.approx(mean - half)
        assert found[label]["probability_high"] == pytest.approx(mean + half)
    assert found["cat"]["probability_low"] is None  # four inputs are too few


def test_with_one_row_each_it_is_students(tmp_path) -> None:
    shares = np.linspace(0.3, 0.7, 12)
    inputs = [Told(str(n), "dog", spot((1, 1)), [share]) for n, share in enumerate(shares)]
    (row,) = label_statistics(write(tmp_path / "store", inputs)).to_pylist()
    low, high = stats.t.interval(0.95, 11, shares.mean(), stats.sem(shares))
    assert (row["probability_low"], row["probability_high"]) == pytest.approx((low, high))


def test_without_probabilities_and_with_a_condition(tmp_path) -> None:
    inputs = [Told("one", "a dog", spot((1, 1), (2, 2)))]
    store = write(tmp_path / "store", inputs)
    (row,) = label_statistics(store, "content").to_pylist()
    assert row["label"] == "dog" and row["mean_probability"] is None and row["probability_low"] is None


def test_as_csv(store, tmp_path) -> None:
    found = label_statistics(store)
    write_csv(found, tmp_path / "x.csv")
    again = pandas.read_csv(tmp_path / "x.csv")
    assert list(again.columns) == found.column_names
    assert again.mean_area.tolist() == pytest.approx(found.column("mean_area").to_pylist())
