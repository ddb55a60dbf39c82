"""What can be asked of the app: one record for its tabs, for its API, and for the code that asks the same again."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any

from mmexplain.errors import InputError
from mmexplain.methods import Method, select

MOST_TARGETS = 32
MOST_METHODS = 6
MOST_LAYERS = 8
MOST_WORK = 500_000
"""The product of a method's parameters at most: masks times grid times steps."""

FINEST_GRID = 64

LONGEST = 500
"""Letters of a caption, a question or a name."""

TOP = {"vqa": 1, "classify": 3, "action": 2}
"""Outcomes that are explained when none is named, as on the command line."""

_VARIABLE = {"caption": "captioner", "vqa": "answerer", "classify": "classifier", "action": "recogniser"}
_TARGET_OPTION = {"vqa": "--answer", "classify": "--target", "action": "--target"}
PLACES = {"caption": ("caption",), "vqa": ("question", "answers"), "classify": ("targets",), "action": ("targets",)}
"""What ``explain`` calls what it is told by place."""

_TEXT_METHODS: dict[str, str] = {"caption": "gradient-x-embedding", "vqa": "all"}
"""How the words that the model reads are explained, as on the command line."""


class Missing(InputError):
    """Something that was not told yet."""


@dataclass(frozen=True)
class Asked:
    """A photo or a clip, and what is to be explained of it.

    Attributes:
        verb: "caption", "vqa", "classify" or "action".
        source: path of the photo or the clip.
        model: identifier.
        methods: names from the registry, perhaps with parameters.
        layers: dotted names or globs; none for the model's own.
        text: the caption to be scored (empty: the model speaks), or the question.
        targets: answers, classes or actions besides the likeliest (VQA) or in their place; words of the caption.
        versus: contrasts: name and other.
        weight: how much of the other's score contrasts take away; captions take all of it.
        top: how many of the likeliest outcomes; None for :data:`TOP`.
        sanity: compare with maps of random weights.
        reads: tell what the words that the model read added, where it reads any.
    """

    verb: str
    source: str
    model: str
    methods: tuple[str, ...] = ("gradcam",)
    layers: tuple[str, ...] = ()
    text: str = ""
    targets: tuple[str, ...] = ()
    versus: tuple[tuple[str, str], ...] = ()
    weight: float = 1.0
    top: int | None = None
    sanity: bool = False
    reads: bool = True

    def checked(self) -> Asked:
        """The same without blanks, if it is small enough to be answered for anybody.

        Raises:
            InputError: nothing to explain, or too much; the message says the limit.
        """
        tidy = replace(
            self,
            methods=_tidy(self.methods) or ("gradcam",),
            layers=_tidy(self.layers),
            text=" ".join(str(self.text or "").split()),
            targets=_tidy(self.targets),
            versus=tuple((one.strip(), other.strip()) for one, other in self.versus),
        )
        if not tidy.source:
            raise Missing(f"there is no {'clip' if self.verb == 'action' else 'photo'} yet: upload one")
        if self.verb == "vqa" and not tidy.text:
            raise Missing("there is no question; ask something, such as 'what is the dog doing'")
        if self.verb == "caption":
            tidy._require_caption()
        chosen = select(tidy.methods)
        for many, most, noun in (
            (chosen, MOST_METHODS, "methods"),
            (tidy.layers, MOST_LAYERS, "layers"),
            ((*tidy.targets, *tidy.versus), MOST_TARGETS, "targets"),
            (range(tidy.top or 0), MOST_TARGETS, "targets"),
        ):
            if len(many) > most:
                raise InputError(f"{len(many)} {noun} at once; the app takes up to {most}, the command line any number")
        for told in (
            tidy.text,
            *tidy.targets,
            *tidy.methods,
            *tidy.layers,
            *(name for pair in tidy.versus for name in pair),
        ):
            if len(told) > LONGEST:
                raise InputError(f"a text of {len(told):,} letters; the app takes up to {LONGEST}")
        for method in chosen:
            _require_small(method)
        return tidy

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        """What the task's ``explain`` is told after the photo: by place and by name."""
        told: dict[str, Any] = {}
        places: list[Any] = []
        if self.verb == "caption":
            places = [self.text] if self.text else []
            told |= {"words": list(self.targets)} if self.targets else {}
            told |= {"versus": dict(self.versus)} if self.versus else {}
        elif self.verb == "vqa":
            places = [self.text, list(self.targets)] if self.targets else [self.text]
            told |= {"versus": self._pairs()} if self.versus else {}
            told |= {"top": self._top()} if self._top() != 1 else {}
        elif self.targets or self.versus:
            places = [list(self.targets)] if self.targets else []
            told |= {"versus": self._pairs()} if self.versus else {}
        else:
            told |= {"top": self._top()}
        told |= {"methods": list(self.methods)}
        told |= {"layers": list(self.layers)} if self.layers else {}
        told |= {"text": _TEXT_METHODS[self.verb]} if self.verb in _TEXT_METHODS and self.reads else {}
        return places, told

    def python(self) -> str:
        """A script that asks the same."""
        places, told = self.arguments()
        name, listed = _VARIABLE[self.verb], [*map(repr, places), *(f"{key}={value!r}" for key, value in told.items())]
        photo = repr(self.name)
        lines = [
            "import mmexplain",
            "",
            f"{name} = mmexplain.load({self.model!r}, task={self.verb!r})",
            f"explanation = {name}.explain(",
            *(f"    {one}," for one in (photo, *listed)),
            ")",
        ]
        if self.sanity:
            lines[0] = "import mmexplain\nfrom mmexplain.evaluate.randomisation import quick"
            lines += [
                f"verdicts = quick({name}, {photo}, explanation, {', '.join(_by_name(self.verb, places, told))})",
                "explanation.provenance['sanity'] = [verdict.to_json() for verdict in verdicts]",
            ]
        lines.append("explanation.save('explanation.html')  # or .png, .safetensors")
        return "\n".join(lines) + "\n"

    def command(self) -> str:
        """A line for the shell that asks the same."""
        line = ["mmexplain", self.verb]
        if self.verb == "caption" and self.text:
            line += ["--caption", self.text]
        if self.verb == "caption":
            line += ["--words", ",".join(self.targets)] if self.targets else []
        else:
            line += [word for name in self.targets for word in (_TARGET_OPTION[self.verb], name)]
            if self.verb == "vqa" or not (self.targets or self.versus):
                line += ["--top", str(self._top())] if self._top() != TOP[self.verb] else []
        for pair in self.versus:
            line += ["--versus", *pair]
        line += ["--weight", f"{self.weight:g}"] if self.versus and self.weight != 1 else []
        line += ["--model", self.model]
        line += [word for name in self.methods for word in ("--method", name)]
        line += [word for name in self.layers for word in ("--layer", name)]
        line += ["--text", "none"] if self.verb in _TEXT_METHODS and not self.reads else []
        line += ["--sanity"] if self.sanity else []
        return shlex.join([*line, *operands(self.name, *([self.text] if self.verb == "vqa" else []))])

    @property
    def name(self) -> str:
        """The file's name alone: people have it in a folder of theirs."""
        return PurePath(self.source).name

    def _require_caption(self) -> None:
        if self.weight != 1 and self.versus:
            raise InputError(
                "a contrast of a caption's words takes all of the other's score away: leave the weight at 1"
            )
        words = [word.casefold() for word, _ in self.versus]
        twice = next((word for word in words if words.count(word) > 1), None)
        if twice is not None:
            raise InputError(f"{twice!r} is held against two words; ask once for each of them")
        phrase = next((phrase for phrase in self.targets if "," in phrase), None)
        if phrase is not None:
            raise InputError(f"{phrase!r} is not one word or phrase: give several one by one")

    def _pairs(self) -> list[tuple[Any, ...]]:
        return [pair if self.weight == 1 else (*pair, self.weight) for pair in self.versus]

    def _top(self) -> int:
        return TOP[self.verb] if self.top is None else self.top


def operands(*names: str) -> list[str]:
    """What stands on a command line without an option, told from options even where it begins like one."""
    return [*(["--"] if any(name.startswith("-") for name in names) else []), *names]


def _require_small(method: Method) -> None:
    """Methods hold their masks and samples in memory, as many as they are told."""
    told = {**method.parameters, **method.options}
    numbers = {name: value for name, value in told.items() if isinstance(value, int | float)}
    if (
        math.prod(max(1.0, value) for value in numbers.values()) > MOST_WORK
        or numbers.get("grid", 0) > FINEST_GRID
        or not all(abs(value) <= MOST_WORK for value in numbers.values())
    ):
        raise InputError(f"{method.name} is more than the app does for one request; use the command line")


def _tidy(names: str | Sequence[str] | None) -> tuple[str, ...]:
    listed = [names] if isinstance(names, str) else names or ()
    return tuple(dict.fromkeys(name for name in (str(one).strip() for one in listed) if name))


def _by_name(verb: str, places: Sequence[Any], told: dict[str, Any]) -> list[str]:
    """What ``explain`` is told by place, by name."""
    return [f"{key}={value!r}" for key, value in (*zip(PLACES[verb], places, strict=False), *told.items())]
