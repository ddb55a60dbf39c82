"""The figure that all pictures are drawn on: it can be printed, wherever and by whomever it is saved."""

from __future__ import annotations

import io
import warnings
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

# Matplotlib reads these when it writes. Type 3 fonts are refused by many publishers' checks; a tight box would change
# the width that was asked for.
PRINTED: dict[Any, object] = {
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
    "pdf.use14corefonts": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "mmexplain",
    "savefig.bbox": None,
    "savefig.dpi": "figure",
    "savefig.facecolor": "auto",
    "savefig.transparent": False,
}

SHOWN_DPI, QUALITY = 88, 75
"""Of the JPEG that a notebook shows: photos take a tenth of what they take as PNG."""


class Printed(Figure):
    """A figure whose ``savefig`` writes text as text, in TrueType fonts, at the size that was drawn; what its caller
    says goes before. Notebooks show it; matplotlib's own figures only once pyplot was imported."""

    def savefig(self, fname: Any, **options: Any) -> None:
        """As :meth:`matplotlib.figure.Figure.savefig`."""
        with rc_context(PRINTED), warnings.catch_warnings():
            # A caption may hold letters that the font lacks; a box in their place is no reason for noise.
            warnings.filterwarnings("ignore", message="Glyph .* missing from")
            super().savefig(fname, **options)

    def _repr_jpeg_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="jpeg", dpi=SHOWN_DPI, pil_kwargs={"quality": QUALITY, "optimize": True})
        return buffer.getvalue()
