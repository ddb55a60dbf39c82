"""What the maps of each word, answer, class or action are like, in numbers."""

from __future__ import annotations

import math
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
from scipy import stats

from mmexplain.evaluate.intervals import LEAST, LEVEL
from mmexplain.gallery.query import ask, condition
from mmexplain.jobs.store import Store

_QUERY = """
WITH one AS (
    SELECT kind, label, layer, method, input,
        CASE WHEN isfinite(probability) THEN probability::DOUBLE END AS p,
        area::DOUBLE AS area, entropy::DOUBLE AS entropy,
        (peak_x + 0.5) / width AS x, (peak_y + 0.5) / height AS y
    FROM rows WHERE {condition}
), per_input AS (
    SELECT kind, label, layer, method, input, count(*) AS n, count(p) AS known, coalesce(sum(p), 0) AS total,
        sum(area) AS area, count(area) AS areas, sum(entropy) AS entropy, count(entropy) AS entropies,
        sum(x) AS x, sum(y) AS y, count(x) AS peaks
    FROM one GROUP BY ALL
), whole AS (
    SELECT kind, label, layer, method, sum(n) AS count, count(*) AS inputs,
        count(*) FILTER (known > 0) AS known_inputs, sum(known) AS known,
        sum(total) / nullif(sum(known), 0) AS probability,
        sum(area) / sum(areas) AS area, sum(entropy) / sum(entropies) AS entropy,
        sum(x) / sum(peaks) AS x, sum(y) / sum(peaks) AS y
    FROM per_input GROUP BY ALL
), spread AS (
    SELECT kind, label, layer, method, any_value(w.probability) AS probability,
        sum((i.total - i.known * w.probability) ** 2) AS squares
    FROM per_input i JOIN whole w USING (kind, label, layer, method) GROUP BY ALL
)
SELECT w.kind, w.label, w.layer, w.method, w.count::BIGINT AS count, w.inputs::BIGINT AS inputs,
    w.probability, s.squares, w.known::DOUBLE AS known, w.known_inputs::BIGINT AS known_inputs,
    w.area AS mean_area, w.entropy AS mean_entropy, w.x AS mean_peak_x, w.y AS mean_peak_y
FROM whole w JOIN spread s USING (kind, label, layer, method)
ORDER BY count DESC, kind, label, layer, method
"""


def label_statistics(store: Store, where: str | None = None) -> pa.Table:
    """A row for each label, layer and method, those with most maps first.

    Columns: ``kind``, ``label``, ``layer``, ``method``; ``count`` of the maps and number of ``inputs`` that they are
    of; ``mean_probability`` with its 95 % interval ``probability_low`` to ``probability_high``; ``mean_area``,
    ``mean_entropy`` (see :data:`mmexplain.jobs.schema.COLUMNS`) and the mean place of the peak, ``mean_peak_x`` and
    ``mean_peak_y``, as shares of the photo's width and height. Null where nothing is known.

    The interval is Student's, with the rows of one input taken together, because they are not independent: the mean
    is the ratio of the inputs' sums to their counts, whose variance comes from the inputs' deviations from it
    (Cochran, Sampling Techniques, 1977, eq. 6.4). It is cut at 0 and 1, and there is none with fewer than 10 inputs.

    Args:
        store: of any task.
        where: an SQL expression over the columns of ``rows`` that chooses some.

    Raises:
        InputError: the expression is wrong.
    """
    found = ask(store, _QUERY.format(condition=condition(where)), where)
    means = found.column("probability").to_pylist()
    halves = [
        _half(*numbers)
        for numbers in zip(
            *(found.column(name).to_pylist() for name in ("squares", "known", "known_inputs")), strict=True
        )
    ]
    pairs = list(zip(means, halves, strict=True))
    low = [None if mean is None or half is None else max(0.0, mean - half) for mean, half in pairs]
    high = [None if mean is None or half is None else min(1.0, mean + half) for mean, half in pairs]
    names = found.column_names
    columns = {name: found.column(name) for name in names[: names.index("probability")]}
    columns |= {
        "mean_probability": pa.array(means, pa.float64()),
        "probability_low": pa.array(low, pa.float64()),
        "probability_high": pa.array(high, pa.float64()),
    }
    return pa.table(columns | {name: found.column(name) for name in names if name.startswith("mean_")})


def _half(squares: float | None, known: float, inputs: int) -> float | None:
    """Half of the interval's length."""
    if squares is None or inputs < LEAST:
        return None
    variance = inputs / (inputs - 1) * squares / known**2
    return float(stats.t.ppf((1 + LEVEL) / 2, inputs - 1)) * math.sqrt(variance)


def write_csv(table: pa.Table, path: Path) -> None:
    """A table for spreadsheets and other programs."""
    pyarrow.csv.write_csv(table, path)
