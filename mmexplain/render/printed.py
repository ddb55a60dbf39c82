"""The figure that all pictures are drawn on: it can be printed, wherever and by whomever it is saved."""

from __future__ import annotations

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


class Printed(Figure):
    """A figure whose ``savefig`` writes text as text, in TrueType fonts, at the size that was drawn; what its caller
    says goes before."""

    def savefig(self, fname: Any, **options: Any) -> None:
        """As :meth:`matplotlib.figure.Figure.savefig`."""
        with rc_context(PRINTED), warnings.catch_warnings():
            # A caption may hold letters that the font lacks; a box in their place is no reason for noise.
            warnings.filterwarnings("ignore", message="Glyph .* missing from")
            super().savefig(fname, **options)
