"""Two groups of labelled photos: by the classes of marked objects, by folders of classes, by words of captions."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mmexplain.errors import InputError, did_you_mean
from mmexplain.evaluate.data.classes import match
from mmexplain.evaluate.data.flickr8k import ANNOTATIONS, read_flickr8k
from mmexplain.evaluate.data.folder import PHOTOS
from mmexplain.evaluate.data.objects import marks_objects, read
from mmexplain.evaluate.data.scene import Scene, Thing
from mmexplain.geometry import Box, Size
from mmexplain.io import load_image
from mmexplain.studies.bias.regions import PERSON
from mmexplain.tasks.captioning.flickr8k import Photo, Phrase, Sentence
from mmexplain.tasks.labels import Labels

WORDS = "words"
"""Kind of groups that captions make."""


@dataclass(frozen=True)
class Member:
    """A photo of a group.

    Attributes:
        key: names it among the others of its data.
        group: name of its group.
        path: of the file.
        scene: what is marked in it, the group's own objects by the name of the group; None where nothing is.
        captions: that hold the group's word, where the groups are words.
    """

    key: str
    group: str
    path: Path
    scene: Scene | None = None
    captions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Groups:
    """Two groups of photos.

    Attributes:
        names: of the two.
        members: their photos, in the order of the data.
        kind: "objects", "folders" or "words": what makes a group.
        both: photos that belong to both groups, and were left out.
    """

    names: tuple[str, str]
    members: tuple[Member, ...]
    kind: str
    both: int = 0

    def of(self, name: str) -> list[Member]:
        """The photos of one group."""
        return [member for member in self.members if member.group == name]

    def first(self, limit: int | None, seed: int) -> Groups:
        """The first ``limit`` photos of each group, in an order drawn at random."""
        random = np.random.default_rng(seed)
        chosen = [member for name in self.names for member in self.of(name)[:limit]]
        return replace(self, members=tuple(chosen[place] for place in random.permutation(len(chosen))))


def read_groups(data: Path, names: Sequence[str] = (), labels: Labels | None = None) -> Groups:
    """The two groups of photos that a path holds.

    Args:
        data: photos with marked objects (see :func:`mmexplain.evaluate.data.objects.read`), whose classes are the
            groups; a folder with a folder of photos for each group; a folder in the layout of ``flickr8k``, where the
            groups are words of the test split's captions.
        names: of the two groups; without, the two classes of most photos, people apart, or the two folders.
        labels: of the model, which has the classes that are taken where none is named; None for all.

    Raises:
        InputError: no such data, or no two such groups in it.
    """
    if not data.exists():
        raise InputError(f"no such file or folder: {str(data)!r}")
    if names and (len(names) != 2 or len(set(names)) != 2):
        raise InputError(f"--groups {','.join(names)!r}: name two different groups, as --groups dog,cat")
    if (data / ANNOTATIONS).is_file():
        return _of_words(data, names)
    if marks_objects(data):
        return _of_objects(data, names, labels)
    return _of_folders(data, names)


def _of_objects(data: Path, names: Sequence[str], labels: Labels | None) -> Groups:
    scenes = read(data)
    counts = Counter(name for scene in scenes for name in scene.names)
    if not names:
        known: Collection[str] = counts if labels is None else match(counts, labels)
        usable = [name for name, _ in counts.most_common() if name in known and name not in PERSON]
        if len(usable) < 2:
            raise InputError(
                f"the model has fewer than two of the {len(counts)} classes of {str(data)!r}; name two with --groups"
            )
        names = usable[:2]
    for name in names:
        if name not in counts:
            raise InputError(f"no photo of {str(data)!r} holds {name!r}{did_you_mean(name, counts)}")
    members: list[Member] = []
    both = 0
    for scene in scenes:
        held = [name for name in names if name in scene.names]
        both += len(held) == 2
        if len(held) == 1:
            members.append(Member(scene.key, held[0], scene.path, scene))
    return _checked(Groups((names[0], names[1]), tuple(members), "objects", both), data)


def _of_folders(data: Path, names: Sequence[str]) -> Groups:
    photos: dict[str, list[Path]] = {}
    for folder in sorted(path for path in data.iterdir() if path.is_dir()):
        found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PHOTOS and path.is_file())
        if found:
            photos[folder.name] = found
    if not names and len(photos) != 2:
        raise InputError(
            f"{str(data)!r} holds {len(photos)} folders of photos and no marked objects; a group is a folder of "
            + ("photos, name two with --groups" if len(photos) > 2 else "photos, and there must be two")
        )
    for name in names:
        if name not in photos:
            raise InputError(f"{str(data)!r} has no folder {name!r} with photos in it{did_you_mean(name, photos)}")
    first, second = names or photos
    members = [
        Member(path.relative_to(data).as_posix(), name, path) for name in (first, second) for path in photos[name]
    ]
    return Groups((first, second), tuple(members), "folders")


def _of_words(data: Path, names: Sequence[str]) -> Groups:
    if not names:
        raise InputError(f"{str(data)!r} holds captions: name two of their words with --groups, as --groups man,woman")
    for name in names:
        if not re.fullmatch(r"[a-z]+", name):
            raise InputError(f"--groups: {name!r} is not one word in small letters")
    members: list[Member] = []
    both = 0
    for photo in read_flickr8k(data, "test"):
        held = [name for name in names if any(name in sentence.words for sentence in photo.sentences)]
        both += len(held) == 2
        found = _captioned(data, photo, held[0]) if len(held) == 1 else None
        if found is not None:
            members.append(found)
    return _checked(Groups((names[0], names[1]), tuple(members), WORDS, both), data)


def _captioned(data: Path, photo: Photo, word: str) -> Member | None:
    """The photo with the captions that hold the word once, in a phrase with boxes; None without such a caption.

    Objects are the phrases' boxes: those of the phrases with the word in any caption by its name, others by the type
    of their phrase, "people" among them. The photo is as the data stores it: boxes are told in fractions.
    """
    captions = [" ".join(one.words) for one in photo.sentences if one.words.count(word) == 1 and _boxes(one, word)]
    if not captions:
        return None
    path = data / "images" / photo.file
    size = load_image(path).original
    things = [
        Thing(word if _says(sentence, phrase, word) else phrase.kind, _scaled(box, size))
        for sentence in photo.sentences
        for phrase in sentence.phrases
        if phrase.kind != "scene" or _says(sentence, phrase, word)
        for box in phrase.boxes
    ]
    scene = Scene(photo.file, path, size, tuple(dict.fromkeys(things)))
    return Member(photo.file, word, path, scene, tuple(captions))


def _boxes(sentence: Sentence, word: str) -> bool:
    return any(_says(sentence, phrase, word) for phrase in sentence.phrases)


def _says(sentence: Sentence, phrase: Phrase, word: str) -> bool:
    return word in sentence.words[phrase.first : phrase.last + 1]


def _scaled(box: Box, size: Size) -> Box:
    (left, top, right, bottom), (height, width) = box, size
    return left * width, top * height, right * width, bottom * height


def _checked(groups: Groups, data: Path) -> Groups:
    for name in groups.names:
        if not groups.of(name):
            other = next(other for other in groups.names if other != name)
            raise InputError(
                f"no photo of {str(data)!r} is of {name!r} and not of {other!r}"
                + (", with boxes of it" if groups.kind == WORDS else "")
            )
    return groups
