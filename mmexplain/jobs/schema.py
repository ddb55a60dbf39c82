"""The columns of a store: one row for each input, target, layer and method."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

FORMAT = "mmexplain.store/1"
"""What this version writes and reads."""

_NAME = pa.dictionary(pa.int32(), pa.string())
"""Text of which a store holds few different ones."""

GEOMETRY = pa.struct(
    [
        ("input", pa.list_(pa.int32())),
        ("box", pa.list_(pa.float64())),
        ("shown", pa.list_(pa.float64())),
        ("frames", pa.list_(pa.int32())),
        ("n_frames", pa.int32()),
    ]
)
"""A :class:`~mmexplain.geometry.Geometry` without the size of the original, which has columns of its own."""

ATTRIBUTIONS = pa.list_(
    pa.struct([("method", pa.string()), ("values", pa.list_(pa.float32())), ("error", pa.float32())])
)
"""For each text method what every word that was read added to the score, and by how much the parts fail to add up."""

COLUMNS: dict[str, tuple[pa.DataType, str]] = {
    "input": (pa.int64(), "number of the input in the manifest, counted from 0"),
    "id": (pa.string(), "the input's name"),
    "source": (pa.string(), "path or URL of the photo or the video"),
    "task": (_NAME, "caption, vqa, classify or action"),
    "model": (_NAME, "identifier of the model"),
    "text": (pa.string(), "the caption or the question; null where there is none"),
    "words": (pa.list_(pa.string()), "the words of the text"),
    "target": (pa.int32(), "number of the target among those of its input; null in the row of an error"),
    "label": (pa.string(), "what is explained: a word, an answer, a class, an action, a contrast"),
    "kind": (_NAME, "word, span, caption, answer, class, action or contrast"),
    "position": (pa.int32(), "number of the target's first word in the text; null without a text"),
    "content": (pa.bool_(), "false for a function word"),
    "ids": (pa.list_(pa.int64()), "the model's own numbers for it"),
    "n_words": (pa.int32(), "how many words it covers, where ids are tokens of which several make a word"),
    "versus": (pa.string(), "of a contrast the other target, as JSON"),
    "weight": (pa.float64(), "of a contrast, how much of the other's score is taken away"),
    "score": (pa.float32(), "what was differentiated"),
    "probability": (pa.float32(), "of the target, where the model has one"),
    "layer": (_NAME, "where the map was read"),
    "method": (_NAME, "how it was made"),
    "peak_x": (pa.int32(), "the map's maximum, in pixels of the original; null for a flat map"),
    "peak_y": (pa.int32(), "the same, from the top"),
    "peak_frame": (pa.int32(), "the same, number of the frame; null for a photo"),
    "centroid_x": (pa.float32(), "mean of the places, weighted by the map's positive part, in pixels of the original"),
    "centroid_y": (pa.float32(), "the same, from the top"),
    "entropy": (pa.float32(), "of the positive part: 0 where it lies in one cell, 1 where all are alike"),
    "area": (pa.float32(), "share of the cells that are at least half as large as the largest"),
    "minimum": (pa.float32(), "smallest value of the raw map"),
    "maximum": (pa.float32(), "largest value of the raw map"),
    "map": (pa.list_(pa.float16()), "the raw signed map divided by map_scale, row by row"),
    "map_scale": (pa.float32(), "largest magnitude of the raw map"),
    "map_shape": (pa.list_(pa.int32()), "[h, w], of a clip [t, h, w], of a pixel method [c, h, w]"),
    "height": (pa.int32(), "of the upright original, pixels"),
    "width": (pa.int32(), "of the upright original, pixels"),
    "geometry": (GEOMETRY, "how the model's input lies over the original"),
    "attributions": (ATTRIBUTIONS, "what the words that the model read added"),
    "provenance": (pa.string(), "what it takes to make it again, as JSON"),
    "error": (pa.string(), "why the input could not be explained; all but the input's columns are null then"),
    "error_type": (_NAME, "name of the exception"),
}
"""Column → its type and what it holds."""


def schema(map_shape: Sequence[int] | None) -> pa.Schema:
    """The columns, in order.

    Args:
        map_shape: of every map of the store: they are fixed-shape tensors then. None where they differ: the column is
            a list, and ``map_shape`` tells. On disk both are lists of 16-bit floats.
    """
    fields = [pa.field(name, kind, metadata={"description": text}) for name, (kind, text) in COLUMNS.items()]
    if map_shape is not None:
        place = list(COLUMNS).index("map")
        fields[place] = fields[place].with_type(pa.fixed_shape_tensor(pa.float16(), tuple(map_shape)))
    return pa.schema(fields, metadata={"mmexplain": FORMAT})
