"""The package's exceptions: bad input, said in one line that quotes the input and tells how to mend it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MMExplainError(Exception):
    """Base of every error that a user can mend. The command line prints its message and exits with 2."""


class InputError(MMExplainError):
    """A photo, a text or an option that cannot be used."""


class TargetError(MMExplainError):
    """A word, class, span or answer that the model does not know or the text does not hold."""


class LayerError(MMExplainError):
    """A layer that does not exist, never ran, or whose output cannot be read as a feature map."""


class MethodError(MMExplainError):
    """A method that does not exist or that the model cannot support."""


class ModelError(MMExplainError):
    """A model that cannot be found or run, or whose output is unusable (NaN, no gradient, wrong shape)."""


class CheckpointError(ModelError):
    """Weights that do not fit the architecture, or a file that is not a checkpoint."""


class DeviceError(MMExplainError):
    """A device that does not exist here or ran out of memory."""


def closest(name: str, options: Iterable[str], limit: int = 3) -> list[str]:
    """The ``limit`` options most like ``name``, best first; names that contain it count as alike."""
    known = list(dict.fromkeys(options))
    folded = name.casefold()
    alike = difflib.get_close_matches(name, known, n=limit, cutoff=0.5)
    containing = [option for option in known if folded and folded in option.casefold()]
    return list(dict.fromkeys([*alike, *sorted(containing, key=len)]))[:limit]


def did_you_mean(name: str, options: Iterable[str], limit: int = 3) -> str:
    """``"; closest: 'a', 'b'"``, or an empty string when nothing is near."""
    near = closest(name, options, limit)
    return "; closest: " + ", ".join(repr(option) for option in near) if near else ""
