"""``--set NAME=VALUE``: the options that a protocol's constructor takes, read from its signature."""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from mmexplain.errors import InputError, did_you_mean

OWN_FLAGS = ("layer", "seed", "against")
"""Options of protocols that the command line has flags for."""

_LISTS = ("Sequence[", "tuple[", "list[")
_TYPES = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a text"}


def chosen(protocol: type, texts: Sequence[str]) -> dict[str, Any]:
    """What users set, as the protocol's constructor takes it.

    Args:
        protocol: its keyword-only parameters with defaults are the options, their annotations the types: int, float,
            bool and str, lists of them (written with commas), and None (written "none").
        texts: each ``NAME=VALUE``.

    Raises:
        InputError: no such option, or a value of another type.
    """
    options = {
        name: parameter
        for name, parameter in inspect.signature(protocol).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and name not in OWN_FLAGS
    }
    found = {}
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not name:
            raise InputError(f"--set {text!r}: write NAME=VALUE")
        if name not in options:
            there = ", ".join(f"{key}={_written(option.default)}" for key, option in options.items())
            hint = did_you_mean(name, options)
            raise InputError(f"--set {name!r}: no such option{hint} (there are: {there or 'none'})")
        annotation = options[name].annotation
        found[name] = _read(name, value, annotation if isinstance(annotation, str) else annotation.__name__)
    return found


def _read(name: str, text: str, annotation: str) -> Any:
    kinds = [kind.strip() for kind in annotation.split("|")]
    if "None" in kinds and text.lower() == "none":
        return None
    kind = next(kind for kind in kinds if kind != "None")
    if not kind.startswith(_LISTS):
        return _single(name, text, kind)
    inner = kind.partition("[")[2].rstrip("]").partition(",")[0]
    return [_single(name, part.strip(), inner) for part in text.split(",") if part.strip()]


def _single(name: str, text: str, kind: str) -> Any:
    with suppress(ValueError, KeyError):  # told below
        match kind:
            case "int":
                return int(text)
            case "float" if math.isfinite(value := float(text)):
                return value
            case "bool":
                return {"true": True, "false": False}[text.lower()]
            case "str" if text:
                return text
    raise InputError(f"--set {name}={text}: {_TYPES.get(kind, kind)} is wanted")


def _written(value: Any) -> str:
    """A default as users would write it."""
    if isinstance(value, list | tuple):
        return ",".join(map(_written, value))
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)
