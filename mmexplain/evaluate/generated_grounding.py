"""Protocol: do the maps of words that the model says lie on the objects that the words name?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from mmexplain.errors import InputError
from mmexplain.evaluate.captions import CaptionedPhotos, Given
from mmexplain.evaluate.data.objects import read
from mmexplain.evaluate.data.scene import Scene
from mmexplain.evaluate.data.visual_words import classes_of
from mmexplain.evaluate.grounding_rows import NOTES, Named, Thing, caption_rows, control_notes
from mmexplain.evaluate.on_captions import OnCaptions
from mmexplain.evaluate.protocol import Item, Row
from mmexplain.targets import Target


class GeneratedGrounding(OnCaptions):
    """Maps of the words of the model's own captions against the boxes of the COCO classes that the words name.

    The pointing game for captioners of the Grad-CAM paper (Selvaraju et al. 2020), which maps 830 words to the 80
    classes; here WordNet does (:mod:`mmexplain.evaluate.data.visual_words`). A word whose class is not in the photo has
    no row.

    Args:
        task: a captioner.
        data: photos with boxes in COCO's layout, or ``coco_mini``.
        methods: names from the registry.
        layer: the task's own if None.
        seed: of the methods' draws.
        beam: width of the search for captions.

    Raises:
        InputError: no captioner, or no such data.
        MethodError: no such method.
    """

    name: ClassVar[str] = "generated-grounding"
    title: ClassVar[str] = "Word grounding (COCO's objects, the model's own captions)"
    labels: ClassVar[tuple[str, ...]] = ("method", "class")

    def __init__(
        self,
        task: Any,
        data: Path,
        methods: Sequence[str],
        *,
        layer: str | None = None,
        seed: int = 0,
        beam: int = 3,
    ) -> None:
        super().__init__(task, data, methods, layer=layer, seed=seed)
        if beam < 1:
            raise InputError(f"a search needs a beam of at least 1, not {beam}")
        self.beam = beam

    def settings(self) -> Mapping[str, Any]:
        """Model, methods, layer, seed, and what was asked for."""
        return {**super().settings(), "beam": self.beam}

    def items(self) -> Sequence[Item]:
        """The photos, in the order of the data."""
        return [Item(scene.key, scene) for scene in read(self.data)]

    def measure(self, items: Sequence[Item]) -> Sequence[Sequence[Row]]:
        """Rows of each photo: those of its words, for every method and control."""
        scenes: list[Scene] = [item.content for item in items]
        rows: list[list[Row]] = [[] for _ in items]
        # Photos may become inputs of different sizes only where the preprocessing neither crops nor squashes.
        encoded = CaptionedPhotos(self.task, [scene.path for scene in scenes], self.methods, self.layer)
        given = []
        for number, (scene, tokens) in enumerate(zip(scenes, encoded.captions(self.beam), strict=True)):
            found = self._given(number, scene, tokens)
            if found is not None:
                given.append(found)
        explained = encoded.explain([caption for caption, _ in given], seed=self.seed)
        for (caption, names), explanation in zip(given, explained, strict=True):
            scene = scenes[caption.photo]
            if explanation.geometry.original != scene.size:
                continue
            words = [
                Named(target, _thing(scene, name), "person" if name == "person" else "not a person", name)
                for target, name in enumerate(names)
            ]
            rows[caption.photo] = caption_rows(explanation, words, self.methods, self.base, "class")
        return rows

    def notes(self) -> Sequence[str]:
        """What the words, the numbers and the controls are."""
        return (
            "A word names a class if it is its name, or if WordNet's first noun sense of it (with some exceptions) is "
            "a kind of the class; words whose class has no object in the photo are left out, and photos without any.",
            *NOTES,
            "Photos whose size is not the one that they were marked at are left out.",
            "Of these photos the original's size is not known: pixels are the file's.",
            *control_notes(self.base),
        )

    def _given(self, photo: int, scene: Scene, tokens: Sequence[int]) -> tuple[Given, list[str]] | None:
        """The caption with its words that name an object as targets, and what they name; None without any."""
        vocabulary = self.task.captioner.vocabulary
        words = [vocabulary.tokens[token] for token in tokens]
        named = [(place, name) for place, name in enumerate(classes_of(words)) if name in scene.names] if words else []
        if not named:
            return None
        targets = [Target(words[place], "word", (tokens[place],), place) for place, _ in named]
        if self.base is not None:
            targets.append(Target(" ".join(words), "caption", (*tokens, vocabulary.end), 0))
        return Given(photo, tuple(tokens), tuple(targets)), [str(name) for _, name in named]


def _thing(scene: Scene, name: str) -> Thing:
    return Thing.of([thing.box for thing in scene.of(name)], scene.size, scene.size)
