"""Which of a classifier's labels mean a class of the data.

ImageNet's labels are synsets of WordNet, and "dog" of COCO is what 118 of them are kinds of: a label means the class
whose synset is its nearest hypernym ("cheeseburger" is a sandwich, "hot dog" one of its own). Labels of other models
must be called as the class is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from mmexplain.errors import InputError
from mmexplain.tasks.classification.labels import imagenet
from mmexplain.tasks.labels import Labels

SYNSETS: dict[str, tuple[str, ...]] = {
    "airplane": ("heavier-than-air_craft.n.01",),
    "apple": ("apple.n.01",),
    "backpack": ("backpack.n.01",),
    "banana": ("banana.n.02",),
    "bear": ("bear.n.01",),
    "bed": ("bed.n.01",),
    "bench": ("bench.n.01",),
    "bicycle": ("bicycle.n.01",),
    "bird": ("bird.n.01",),
    "boat": ("vessel.n.02",),
    "bottle": ("bottle.n.01",),
    "bowl": ("bowl.n.03",),
    "broccoli": ("broccoli.n.02",),
    "bus": ("bus.n.01",),
    "car": ("car.n.01",),
    "cat": ("domestic_cat.n.01",),
    "cell phone": ("cellular_telephone.n.01",),
    "chair": ("chair.n.01",),
    "clock": ("clock.n.01",),
    "couch": ("sofa.n.01",),
    "cow": ("cattle.n.01",),
    "cup": ("mug.n.04",),
    "dining table": ("dining_table.n.01",),
    "dog": ("dog.n.01",),
    "elephant": ("elephant.n.01",),
    "hair drier": ("hand_blower.n.01",),
    "handbag": ("purse.n.03",),
    "horse": ("horse.n.01",),
    "hot dog": ("hotdog.n.02",),
    "keyboard": ("computer_keyboard.n.01",),
    "knife": ("knife.n.01",),
    "laptop": ("laptop.n.01", "notebook.n.02"),
    "microwave": ("microwave.n.02",),
    "motorcycle": ("motorcycle.n.01", "motor_scooter.n.01"),
    "mouse": ("mouse.n.04",),
    "orange": ("orange.n.01",),
    "oven": ("rotisserie.n.01", "stove.n.02"),
    "parking meter": ("parking_meter.n.01",),
    "person": ("person.n.01",),
    "pizza": ("pizza.n.01",),
    "potted plant": ("flowerpot.n.01",),
    "refrigerator": ("refrigerator.n.01",),
    "remote": ("remote_control.n.01",),
    "sandwich": ("sandwich.n.01",),
    "sheep": ("sheep.n.01", "wild_sheep.n.01"),
    "sink": ("washbasin.n.02",),
    "skis": ("ski.n.01",),
    "spoon": ("spoon.n.01",),
    "sports ball": ("ball.n.01",),
    "teddy bear": ("teddy.n.01",),
    "tennis racket": ("racket.n.04",),
    "tie": ("necktie.n.01",),
    "toaster": ("toaster.n.02",),
    "toilet": ("toilet_seat.n.01",),
    "traffic light": ("traffic_light.n.01",),
    "train": ("train.n.01", "locomotive.n.01"),
    "truck": ("truck.n.01",),
    "tv": ("television.n.02", "monitor.n.05"),
    "umbrella": ("umbrella.n.01",),
    "vase": ("vase.n.01",),
    "wine glass": ("goblet.n.01",),
    "zebra": ("zebra.n.01",),
}
"""COCO's classes that ImageNet's 1,000 labels have, and their synsets. Where WordNet's sense is too wide it is a
narrower one (a cougar is no cat); two are what stands for the object in ImageNet (toilet seat, flowerpot). What is not
here ImageNet's models do not have: giraffe, kite, scissors …"""

VOC_NAMES = {
    "aeroplane": "airplane",
    "diningtable": "dining table",
    "motorbike": "motorcycle",
    "pottedplant": "potted plant",
    "sofa": "couch",
    "tvmonitor": "tv",
}
"""VOC's classes that COCO calls by another name."""


def match(names: Iterable[str], labels: Labels) -> dict[str, tuple[int, ...]]:
    """For each class of the data that the model has, the numbers of the labels that mean it, increasing.

    A label means one class only, the nearest; VOC's and COCO's names are understood, and synset numbers as ImageNet's
    data uses them ("n02123159"). Classes that the model does not have are left out.

    Raises:
        InputError: WordNet is needed and is not installed.
    """
    wanted = list(dict.fromkeys(names))
    folded = {name: _fold(name) for name in wanted}
    own: dict[str, list[int]] = {}
    for number, label in enumerate(labels):
        own.setdefault(_fold(label), []).append(number)
    if tuple(labels) != tuple(imagenet()):
        return {name: tuple(own[folded[name]]) for name in wanted if folded[name] in own}
    numbers = {synset: number for number, synset in enumerate(_imagenet_synsets())}
    found = {name: {numbers[name]} for name in wanted if name in numbers}
    kinds = {name: SYNSETS[folded[name]] for name in wanted if name not in found and folded[name] in SYNSETS}
    for name, members in _kinds(kinds).items() if kinds else ():
        found[name] = members
    for name in wanted:
        if name not in found and folded[name] in own:
            found[name] = set(own[folded[name]])
    return {name: tuple(sorted(found[name])) for name in wanted if found.get(name)}


def _fold(name: str) -> str:
    plain = " ".join(name.replace("_", " ").casefold().split())
    return VOC_NAMES.get(plain, plain)


def _kinds(roots: Mapping[str, tuple[str, ...]]) -> dict[str, set[int]]:
    """Class → the ImageNet labels whose nearest hypernym among all roots is one of its own."""
    wordnet = _wordnet()
    owners: dict[Any, list[str]] = {}
    for name, synsets in roots.items():
        for synset in synsets:
            owners.setdefault(wordnet.synset(synset), []).append(name)
    found: dict[str, set[int]] = {name: set() for name in roots}
    for number, distances in enumerate(_ancestors()):
        reached = [(distance, synset) for synset, distance in distances.items() if synset in owners]
        if reached:
            nearest = min(distance for distance, _ in reached)
            for distance, synset in reached:
                for name in owners[synset] if distance == nearest else ():
                    found[name].add(number)
    return found


@lru_cache(maxsize=1)
def _ancestors() -> list[dict[Any, int]]:
    """For each ImageNet label, its synset and all hypernyms with the steps to them."""
    wordnet = _wordnet()
    synsets = [wordnet.synset_from_pos_and_offset("n", int(number[1:])) for number in _imagenet_synsets()]
    found = []
    for synset in synsets:
        steps: dict[Any, int] = {}
        for other, distance in synset.hypernym_distances():
            steps[other] = min(distance, steps.get(other, distance))
        found.append(steps)
    return found


def _imagenet_synsets() -> list[str]:
    from timm.data import ImageNetInfo

    numbers: list[str] = ImageNetInfo("imagenet-1k").label_names()
    return numbers


def _wordnet() -> Any:
    from nltk.corpus import wordnet

    try:
        wordnet.ensure_loaded()
    except LookupError:
        raise InputError(
            "matching classes to ImageNet's labels needs WordNet: python -m nltk.downloader wordnet"
        ) from None
    return wordnet
