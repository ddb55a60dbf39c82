"""The record of an explanation that programs read: what ``--json`` prints, and what the app's API answers with."""

from __future__ import annotations

import math
from typing import Any

from mmexplain.explanation import Explanation


def record(explanation: Explanation, files: list[str] | None = None) -> dict[str, Any]:
    """What :meth:`Explanation.to_json <mmexplain.Explanation.to_json>` tells, without numbers that JSON does not have
    and with what the comparison with random weights found, if it was asked for."""
    verdicts = explanation.provenance.get("sanity")
    told: dict[str, Any] = finite({**explanation.to_json(files), **({"sanity": verdicts} if verdicts else {})})
    return told


def finite(value: Any) -> Any:
    """JSON has no infinity (the log-probability of a word that cannot be said) and no NaN: null stands for them."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    return [finite(item) for item in value] if isinstance(value, list) else value
