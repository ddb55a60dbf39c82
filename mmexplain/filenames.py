"""Names of files made of what people or models wrote."""

from __future__ import annotations

import re


def safe(text: str) -> str:
    """``text`` with nothing that a file system could mind; perhaps nothing is left."""
    return re.sub(r"[^\w.+-]+", "-", text).strip("-.")
