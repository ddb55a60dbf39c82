"""The pictures of a study with people, under codes that tell nothing, and its attention checks."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from PIL import Image

from mmexplain.errors import MethodError
from mmexplain.explanation import Explanation, MapKey
from mmexplain.geometry import fit
from mmexplain.studies.people.cases import Case
from mmexplain.studies.people.plan import SCALE

QUALITY = 80

CONTROL = {"discrimination": "random noise", "trust": "the same map twice"}
"""The arm that says nothing: what people make of it must be chance."""

_ALPHABET = "bcdfghjkmnpqrstvwxz23456789"


class Maker:
    """Pictures and codes, as they are drawn."""

    def __init__(self, seed: int, side: int) -> None:
        self.random = np.random.default_rng(seed)
        self.images: list[bytes] = []
        self.items: list[dict[str, Any]] = []
        self.photos: dict[str, str] = {}
        self.pictures: dict[str, str] = {}
        self._plain: list[tuple[str, tuple[str, ...], frozenset[str] | None, Image.Image]] = []
        self._seed, self._side = seed, side
        self._codes: set[str] = set()

    def code(self) -> str:
        """Letters and digits that mean nothing, and were not used yet."""
        while True:
            found = "".join(_ALPHABET[number] for number in self.random.integers(0, len(_ALPHABET), 6))
            if found not in self._codes and not found[0].isdigit():
                self._codes.add(found)
                return found

    def arms(self, case: Case, methods: Sequence[str], control: bool) -> list[dict[str, Any]]:
        """An arm for each method, and the control, drawn as the first of them."""
        told = [list(explanation.maps) for explanation in case.explanations]
        pairs: list[tuple[MapKey, ...]]
        if len(told) == 1:
            pairs = [(key,) for key in told[0]]
        else:
            other = {key.method: key for key in reversed(told[1])}
            pairs = [(key, other[key.method]) for key in told[0] if key.method in other]
        there = list(dict.fromkeys(keys[0].method for keys in pairs))
        for method in methods:
            if method not in there:
                of_both = " by both models" if len(told) > 1 else ""
                raise MethodError(f"no maps of {method!r} were made{of_both}; there are: {', '.join(there) or 'none'}")
        pairs = [keys for keys in pairs if not methods or keys[0].method in methods]
        if not pairs:
            raise MethodError("no method was used on both models: explain both by the same")
        several = len({keys[0].method for keys in pairs}) < len(pairs)
        arms = [self._arm(case, keys, keys[0].made if several else keys[0].method, False) for keys in pairs]
        kind = "trust" if len(told) > 1 else "discrimination"
        return [*arms, self._arm(case, pairs[0], CONTROL[kind], True)] if control else arms

    def _arm(self, case: Case, keys: tuple[MapKey, ...], name: str, control: bool) -> dict[str, Any]:
        pixels = keys[0].method in case.explanations[0].pixel_methods
        asks = "Which of the two objects is shown?" if pixels else "Which of the two objects is marked?"
        if len(keys) > 1:
            asks = "Both said “{}”. Which model seems more reliable?"
        made = [key.made for key in keys]
        return {"arm": self.code(), "asks": asks, "method": name, "made": made, "keys": keys, "control": control}

    def add(self, case: Case, arms: Sequence[Mapping[str, Any]]) -> None:
        """A photo, unless it lacks a map that others have."""
        if not all(key in told.maps for arm in arms for key, told in zip(arm["keys"], case.explanations, strict=True)):
            return
        item = self.code()
        trust = len(case.explanations) > 1
        drawn: dict[str, list[tuple[str, int]]] = {}
        for arm in arms:
            meant = ("better", "other") if trust else case.labels
            if arm["control"]:
                images = [self._keep(self._of_control(case, arm["keys"], len(self.items)))] * 2
            else:
                images = [self._keep(picture) for picture in self._pictures(case, arm["keys"])]
            pair = [(self.code(), image) for image in images]
            self.pictures |= {code: label for (code, _), label in zip(pair, meant, strict=True)}
            drawn[arm["arm"]] = pair if self.random.integers(2) else pair[::-1]
        said = {"said": case.labels[0]} if trust else {"options": self._mixed(case.labels)}
        self.items.append({"item": item, **said, "arms": drawn})
        self.photos[item] = case.id
        size = fit(case.explanations[0].geometry.original, self._side)
        pixels = Image.fromarray(case.explanations[0].picture.pixels.numpy())
        plain = pixels.resize(size[::-1], Image.Resampling.LANCZOS)
        self._plain.append((case.id, case.labels, case.shows, plain))

    def _pictures(self, case: Case, keys: tuple[MapKey, ...]) -> list[Image.Image]:
        """Of class discrimination the maps of both classes by one model; of trust those of one class by both."""
        if len(keys) > 1:
            views = zip(case.explanations, case.targets, keys, strict=True)
            return [self._picture(told, numbers[0], key) for told, numbers, key in views]
        return [self._picture(case.explanations[0], number, keys[0]) for number in case.targets[0]]

    def _of_control(self, case: Case, keys: tuple[MapKey, ...], number: int) -> Image.Image:
        """One picture for both answers: then what is right is a coin, whatever people see in it."""
        if len(keys) > 1:
            which = int(self.random.integers(2))
            return self._picture(case.explanations[which], case.targets[which][0], keys[which])
        told, key = case.explanations[0], keys[0]
        generator = torch.Generator().manual_seed(self._seed * 100_003 + number)
        noise = torch.randn(1, *told.maps[key].shape[1:], generator=generator)
        return self._picture(replace(told, maps={key: noise}, targets=told.targets[:1]), 0, key)

    def _picture(self, explanation: Explanation, target: int, key: MapKey) -> Image.Image:
        """The part of the photo that the model saw; hatching around it would have to be explained to people."""
        geometry = explanation.geometry
        left, top, right, bottom = geometry.visible
        scale = max(geometry.original) / max(right - left, bottom - top)
        size = fit(geometry.original, round(self._side * scale))
        rows, columns = geometry.seen_part(size)
        picture = explanation.overlay(target, key.layer, key.method, size=size)
        return picture.crop((columns.start, rows.start, columns.stop, rows.stop))

    def _keep(self, picture: Image.Image) -> int:
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=QUALITY)
        self.images.append(file.getvalue())
        return len(self.images) - 1

    def _mixed(self, labels: Sequence[str]) -> list[str]:
        """In an order that tells nothing."""
        return [labels[number] for number in self.random.permutation(len(labels))]

    def checks(self, kind: str, number: int) -> list[dict[str, Any]]:
        """Questions with a known answer: a photo beside a class that is not in it, where people marked what is; or an
        instruction."""
        photos = iter(self._photo_checks(number) if kind == "discrimination" else ())
        found = []
        for place in range(number):
            check = next(photos, None) if place % 2 == 0 else None
            found.append(check or self._instruction(kind))
        return found

    def _instruction(self, kind: str) -> dict[str, Any]:
        if kind == "trust":
            options = list(SCALE)
            answer = options[self.random.integers(len(options))]
        else:
            options = self._mixed(self._plain[self.random.integers(len(self._plain))][1])
            answer = options[self.random.integers(2)]
        asks = f"This question is here to see that you read it: please choose “{answer}”."
        told = {
            "item": self.code(),
            "asks": asks,
            "image": None,
            "answer": answer,
            "sort": "instruction",
            "photo": None,
        }
        return {**told, "options": options}

    def _photo_checks(self, most: int) -> list[dict[str, Any]]:
        known = sorted({name for *_, shows, _ in self._plain for name in shows or ()})
        found = []
        for number in self.random.permutation(len(self._plain)):
            name, labels, shows, plain = self._plain[number]
            foreign = [label for label in known if label not in (shows or ())]
            if shows is None or not foreign:
                continue
            answer = labels[self.random.integers(len(labels))]
            options = self._mixed([answer, foreign[self.random.integers(len(foreign))]])
            told = {"item": self.code(), "asks": "A photo without a map: which of the two objects is in it?"}
            image = self._keep(plain)
            found.append({**told, "image": image, "options": options, "answer": answer, "sort": "photo", "photo": name})
            if len(found) == most:
                break
        return found
