"""Imports what the peers import late, where they are installed."""

from __future__ import annotations

import contextlib
import importlib

for name in ("captum.attr", "pytorch_grad_cam", "torchcam.methods", "transformers"):
    with contextlib.suppress(ImportError):
        importlib.import_module(name)
