"""Where a vision-language model looked, for every thing it said.

Everything below loads when it is first used: ``import mmexplain`` takes milliseconds and leaves torch alone.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmexplain import evaluate, methods
    from mmexplain.errors import (
        CheckpointError,
        DeviceError,
        InputError,
        LayerError,
        MethodError,
        MMExplainError,
        ModelError,
        TargetError,
    )
    from mmexplain.explainer import explain
    from mmexplain.explanation import Explanation
    from mmexplain.geometry import Geometry
    from mmexplain.jobs.store import Store, open_store
    from mmexplain.layer_analysis import layers_report
    from mmexplain.layer_report import LayersReport
    from mmexplain.targets import Target
    from mmexplain.tasks.registry import load

    __version__: str

__all__ = [
    "CheckpointError",
    "DeviceError",
    "Explanation",
    "Geometry",
    "InputError",
    "LayerError",
    "LayersReport",
    "MMExplainError",
    "MethodError",
    "ModelError",
    "Store",
    "Target",
    "TargetError",
    "__version__",
    "evaluate",
    "explain",
    "layers_report",
    "load",
    "methods",
    "open_store",
]

_MODULE_OF = {
    "Explanation": "mmexplain.explanation",
    "Geometry": "mmexplain.geometry",
    "LayersReport": "mmexplain.layer_report",
    "Store": "mmexplain.jobs.store",
    "Target": "mmexplain.targets",
    "explain": "mmexplain.explainer",
    "layers_report": "mmexplain.layer_analysis",
    "load": "mmexplain.tasks.registry",
    "open_store": "mmexplain.jobs.store",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in ("evaluate", "methods"):
        return importlib.import_module(f"mmexplain.{name}")
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version(__name__)
    else:
        value = getattr(importlib.import_module(_MODULE_OF.get(name, "mmexplain.errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
