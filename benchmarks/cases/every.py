"""All cases."""

from __future__ import annotations

from cases import answers, captions, classes, clips, files, guided, layers, perturbed
from cases.case import Case

MODULES = (classes, captions, answers, clips, layers, guided, perturbed, files)


def every(tiny: bool = False) -> list[Case]:
    """In the order of the page."""
    return [case for module in MODULES for case in module.cases(tiny)]


def find(name: str, tiny: bool = False) -> Case:
    """The case of a name."""
    return next(case for case in every(tiny) if case.name == name)
