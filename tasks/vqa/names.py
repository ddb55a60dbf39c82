"""The names of the bundled VQA models. Imports nothing, so that they can be listed at once."""

from __future__ import annotations

DEFAULT = "deeper-lstm-norm-i"
FORMS = ("deeper-lstm-norm-i", "hierarchical-coattention")
