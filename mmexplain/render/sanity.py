"""What ``--sanity`` found, as it was kept with an explanation, for people."""

from __future__ import annotations

from mmexplain.explanation import Explanation
from mmexplain.render.text import clean


def sanity(explanation: Explanation) -> list[dict[str, str]]:
    """For each map that was compared with those of random weights: ``method``, ``layer``, ``verdict`` (a word) and
    ``says`` (a sentence). Nothing where that was not asked for."""
    kept = explanation.provenance.get("sanity")
    entries = [entry for entry in kept if isinstance(entry, dict)] if isinstance(kept, list) else []
    told = ("method", "layer", "verdict", "says")
    return [{name: clean(entry[name]) for name in told} for entry in entries if all(name in entry for name in told)]
