"""Maps of whole-image captioners for captions of regions, and how much of each lies in the region's boxes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from mmexplain.errors import InputError
from mmexplain.evaluate.captions import CaptionedPhotos, Given, require_captioner
from mmexplain.evaluate.masks import box_mask, union
from mmexplain.evaluate.metrics.grounding import Sums
from mmexplain.evaluate.protocol import Progress
from mmexplain.explanation import Explanation
from mmexplain.geometry import Box, Size
from mmexplain.methods.registry import select
from mmexplain.studies.regions.data import Region, RegionPhoto
from mmexplain.targets import Target
from mmexplain.tasks.captioning.task import Captioning
from mmexplain.tasks.captioning.vocabulary import tokenize
from mmexplain.tasks.captioning.words import is_content_word

Score = Literal["log-probability", "logit"]

OWN, STRANGER, MOVED = "its own phrase", "a phrase of another photo", "its own phrase, box moved"
"""What is measured of each method's maps: the finding, and the two controls."""

UNIFORM, CENTRE = "uniform", "centre"
"""Maps that no model made: 1 everywhere, and a round blur over the middle."""

SPREAD = 0.25
"""Standard deviation of the blur, as a share of the photo's sides."""

PHOTOS_AT_ONCE = 8


@dataclass(frozen=True)
class Lying:
    """How one map lies on the boxes of one region.

    Attributes:
        photo: key of the photo.
        phrase: caption of the region.
        kind: what sort of thing it is.
        method: that made the map; :data:`UNIFORM` or :data:`CENTRE`.
        of: :data:`OWN`, :data:`STRANGER` or :data:`MOVED`.
        ratio: mean activation inside over that outside; see
            :meth:`mmexplain.evaluate.metrics.grounding.Sums.inside_outside`. NaN where it is not defined.
        energy: share of the map's positive part that lies inside; NaN for a map that is positive nowhere.
        area: share of what the model saw of the photo that the boxes cover.
    """

    photo: str
    phrase: str
    kind: str
    method: str
    of: str
    ratio: float
    energy: float
    area: float


def known_regions(task: Captioning, photos: Sequence[RegionPhoto]) -> list[RegionPhoto]:
    """The photos with those of their regions whose phrase the model knows every word of; without any, none."""
    known = {token for token in task.captioner.vocabulary.tokens if not token.startswith("<")}
    found = []
    for photo in photos:
        regions = tuple(one for one in photo.regions if (words := tokenize(one.phrase)) and known.issuperset(words))
        if regions:
            found.append(RegionPhoto(photo.key, photo.image, regions, photo.shape))
    return found


def measure(
    task: Any,
    photos: Sequence[RegionPhoto],
    methods: Sequence[str] = ("gradcam",),
    *,
    layer: str | None = None,
    score: Score = "log-probability",
    seed: int = 0,
    progress: Progress | None = None,
) -> list[Lying]:
    """Ask the captioner where each region's phrase is, as if it were the whole caption, and hold the map against the
    region's boxes; beside it the map of a phrase of another photo, and the boxes moved to a random place.

    Args:
        task: a captioner whose tokens are words.
        photos: two or more, with regions whose words it knows (:func:`known_regions`).
        methods: names from the registry.
        layer: the task's own if None.
        score: of a phrase: "log-probability", the sum over its words, each given those before; its end is not
            scored, as in the code of Selvaraju et al. (https://github.com/ramprs/grad-cam); or "logit", the
            sum of its words' logits.
        seed: of the other photos' phrases, the places of moved boxes, and the methods' draws.
        progress: told how many photos of how many are done.

    Returns:
        Photo by photo and region by region, in one order for every method and control.

    Raises:
        InputError: no such captioner, or no other photo has a phrase of other words.
        MethodError, LayerError: one that cannot be used.
    """
    captioner = require_captioner(task, "study regions")
    names = [method.name for method in select(methods)]
    strangers = strange_phrases(photos, seed)
    random = np.random.default_rng([seed, 1])
    found: list[Lying] = []
    for start, stop in pairwise([*range(0, len(photos), PHOTOS_AT_ONCE), len(photos)]):
        part = photos[start:stop]
        asked = [(n, region.phrase) for n, photo in enumerate(part) for region in photo.regions]
        asked += [(n, phrase) for n in range(len(part)) for phrase in strangers[start + n]]
        maps = explained(captioner, part, asked, names, layer=layer, score=score, seed=seed)
        for number, photo in enumerate(part):
            for region, stranger in zip(photo.regions, strangers[start + number], strict=True):
                own, other = maps[number, region.phrase], maps[number, stranger]
                mask = region_mask(region.boxes, own.geometry.original)
                found += _lying(photo, region, own, other, mask, moved(mask, random), names)
        if progress is not None:
            progress(stop, len(photos))
    return found


def explained(
    task: Captioning,
    photos: Sequence[RegionPhoto],
    asked: Sequence[tuple[int, str]],
    methods: Sequence[str],
    *,
    layer: str | None,
    score: Score,
    seed: int,
) -> dict[tuple[int, str], Explanation]:
    """Explanations of phrases as whole captions, one target each, with one run of the encoder for each photo if the
    methods allow it.

    Args:
        task: a captioner.
        photos: what it sees.
        asked: for each phrase the number of its photo among ``photos``; the same may be asked several times.
        methods: names from the registry.
        layer: the task's own if None.
        score: what of a phrase is explained.
        seed: of the methods' draws.

    Raises:
        TargetError: a word that the model does not know.
    """
    given = {}
    for photo, phrase in dict.fromkeys(asked):
        tokens = tuple(task.phrasing.read(phrase))
        given[photo, phrase] = Given(photo, tokens, (Target(phrase, "span", tokens, 0),))
    scored = task.score if score == "logit" else task.log_probability
    encoded = CaptionedPhotos(task, [photo.image for photo in photos], methods, layer)
    return dict(zip(given, encoded.explain(list(given.values()), seed=seed, score=scored), strict=True))


def strange_phrases(photos: Sequence[RegionPhoto], seed: int) -> list[list[str]]:
    """For each region of each photo the phrase of a region of another photo, drawn at random among those that share no
    content word with any phrase of this one: so that none of them can be right by chance of wording.

    Raises:
        InputError: for a photo there is none.
    """
    random = np.random.default_rng([seed, 0])
    pool = [(region.phrase, _content(region.phrase)) for photo in photos for region in photo.regions]
    found = []
    for photo in photos:
        own = frozenset().union(*(_content(region.phrase) for region in photo.regions))
        strange = [phrase for phrase, words in pool if words and own.isdisjoint(words)]
        if not strange:
            raise InputError(
                f"no other photo has a phrase that shares no word with those of {photo.key!r}, which the control "
                "needs: take more photos"
            )
        found.append([strange[place] for place in random.integers(0, len(strange), len(photo.regions))])
    return found


def region_mask(boxes: Sequence[Box], size: Size) -> Tensor:
    """Bool ``[h, w]``: the union of boxes that are given in fractions of a photo's width and height."""
    height, width = size
    pixels = [(left * width, top * height, right * width, bottom * height) for left, top, right, bottom in boxes]
    return torch.from_numpy(union((box_mask(box, size) for box in pixels), size))


def moved(mask: Tensor, random: np.random.Generator) -> Tensor:
    """The same pixels shifted together: all shifts that keep them in the photo are as likely."""
    if not mask.any():
        return mask
    shifts = []
    for axis, length in enumerate(mask.shape):
        held = mask.any(1 - axis).nonzero()
        shifts.append(int(random.integers(-int(held[0]), length - int(held[-1]))))
    return mask.roll(shifts, (0, 1))


def blur(size: Size) -> Tensor:
    """The map :data:`CENTRE`: float32 ``[h, w]``."""
    y, x = (((torch.arange(n) + 0.5) / n - 0.5) / SPREAD for n in size)
    return torch.exp(-(y[:, None] ** 2 + x**2) / 2)


def _content(phrase: str) -> frozenset[str]:
    return frozenset(filter(is_content_word, tokenize(phrase)))


def _lying(
    photo: RegionPhoto,
    region: Region,
    own: Explanation,
    other: Explanation,
    mask: Tensor,
    elsewhere: Tensor,
    methods: Sequence[str],
) -> Iterator[Lying]:
    """A region's rows: three for each method, one for each map that no model made."""
    for method in methods:
        ours, theirs = own.heatmap(method=method).cpu(), other.heatmap(method=method).cpu()
        triple = torch.stack([ours, theirs, ours]), torch.stack([mask, mask, elsewhere])
        yield from _rows(photo, region, [(method, OWN), (method, STRANGER), (method, MOVED)], *triple)
    seen = own.geometry.to_original(torch.ones(1, 1))
    plain = torch.stack([seen, seen * blur(own.geometry.original)])
    yield from _rows(photo, region, [(UNIFORM, OWN), (CENTRE, OWN)], plain, mask.expand_as(plain))


def _rows(
    photo: RegionPhoto, region: Region, names: Sequence[tuple[str, str]], maps: Tensor, masks: Tensor
) -> Iterator[Lying]:
    sums = Sums.of(maps, masks)
    areas = sums.within / (sums.within + sums.without)
    numbers = zip(sums.inside_outside().tolist(), sums.energy().tolist(), areas.tolist(), strict=True)
    for (method, of), (ratio, energy, area) in zip(names, numbers, strict=True):
        yield Lying(photo.key, region.phrase, region.kind, method, of, ratio, energy, area)
