"""What a model is asked of each photo: the classes marked in it, its likeliest class, the words that it says, or the
answer to a question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from mmexplain.errors import InputError
from mmexplain.evaluate.data import objects
from mmexplain.evaluate.data.classes import match
from mmexplain.evaluate.data.folder import files
from mmexplain.evaluate.data.questions import read_asked
from mmexplain.evaluate.data.scene import Scene
from mmexplain.explainer import explain
from mmexplain.explanation import Explanation
from mmexplain.io import Photo
from mmexplain.targets import Target
from mmexplain.tasks.captioning.task import Captioning
from mmexplain.tasks.classification.task import Classifier
from mmexplain.tasks.outcomes import ScoreName
from mmexplain.tasks.vqa.task import VQA

OF = ("labels", "top")


@dataclass(frozen=True)
class Subject:
    """One photo, and what is asked of it.

    Attributes:
        key: names it among the others.
        photo: its file.
        question: what is asked, of a VQA model.
        scene: the objects marked in it, where its classes are asked about.
        classes: class marked in it → numbers of the labels that mean it.
    """

    key: str
    photo: Path
    question: str | None = None
    scene: Scene | None = None
    classes: Mapping[str, Sequence[int]] = field(default_factory=dict)

    @property
    def item(self) -> str:
        """Names the photo, which several questions share."""
        return self.key if self.question is None else self.photo.name


def subjects(task: Any, data: Path, of: str | None = None) -> tuple[list[Subject], list[str]]:
    """The photos in the data's order, and what must be said of them.

    Args:
        task: classifier, captioner or VQA model.
        data: photos with marked objects (see :func:`mmexplain.evaluate.data.objects.read`), a folder of photos, or of
            questions (see :func:`mmexplain.evaluate.data.questions.read_asked`).
        of: of a classifier: "labels" asks about the classes that are marked, "top" about the likeliest; None about the
            marked ones where there are any.

    Raises:
        InputError: another task, data that cannot be read, no photo that the model can be asked about.
    """
    if not isinstance(task, Classifier | Captioning | VQA):
        raise InputError(
            f"model {task.model_id!r} is none that this study takes: classifiers, and captioners and VQA models with a "
            "vocabulary of their own, such as efficientnet-lite0, show-attend-tell, deeper-lstm-norm-i"
        )
    if of not in (None, *OF):
        raise InputError(f"photos are asked about by their {' or '.join(map(repr, OF))}, not {of!r}")
    if not data.exists():
        raise InputError(f"no such file or folder: {str(data)!r}")
    if isinstance(task, Classifier) and (of == "labels" or (of is None and objects.marks_objects(data))):
        return _labelled(task, data)
    if of == "labels":
        raise InputError("only classifiers are asked about the classes marked in the data; leave --of out")
    if isinstance(task, VQA):
        items = read_asked(data)
        known = [item for item in items if task.reads(item.content.question)]
        if not known:
            raise InputError(f"model {task.model_id!r} knows no word of the {len(items)} questions of {str(data)!r}")
        left = len(items) - len(known)
        notes = [f"Left out: {left:,} questions, of which the model knows no word."] if left else []
        return [Subject(item.key, item.content.photo, item.content.question) for item in known], notes
    return [Subject(item.key, item.content) for item in files(data)], []


def look(
    task: Any, photo: Photo, subject: Subject, methods: Sequence[str], layer: str | None, score: ScoreName
) -> Explanation:
    """Maps of what is asked of one photo.

    Args:
        task: as for :func:`subjects`.
        photo: decoded.
        subject: what is asked.
        methods: names from the registry.
        layer: where maps are read; the model's default if None.
        score: what is differentiated, "logit" or "log-probability".
    """
    options: dict[str, Any] = {"methods": methods, "layers": None if layer is None else [layer]}
    if isinstance(task, Classifier):

        def choose(logits: Tensor) -> list[list[Target]]:
            if not subject.classes:
                return task.top(logits)
            (ranked,) = task.top(logits, max(2, logits.shape[1]))
            likeliest = [next(t for t in ranked if t.ids[0] in numbers) for numbers in subject.classes.values()]
            return [list(dict.fromkeys(likeliest))]

        (found,) = explain(task, task.prepare([photo]), choose, score=task.score_named(score), **options)
    elif isinstance(task, VQA):
        (found,) = task.explain([photo], [subject.question or ""], score=score, **options)
    else:
        (found,) = task.explain([photo], score=score, **options)
    return found


def _recognisable(scene: Scene) -> list[str]:
    """Classes of which not all objects are marked as hardly to be recognised, or empty."""
    return [name for name in scene.names if any(thing.area and not thing.difficult for thing in scene.of(name))]


def _labelled(task: Classifier, data: Path) -> tuple[list[Subject], list[str]]:
    if task.labels is None:
        raise InputError(f"model {task.model_id!r} has no class names to find the data's classes among; use --of top")
    scenes = objects.read(data)
    names = list(dict.fromkeys(name for scene in scenes for name in scene.names))
    labels = match(names, task.labels)
    found = [
        Subject(scene.key, scene.path, None, scene, present)
        for scene in scenes
        if (present := {name: labels[name] for name in _recognisable(scene) if name in labels})
    ]
    if not found:
        raise InputError(
            f"model {task.model_id!r} has none of the {len(names)} classes marked in {str(data)!r}; --of top asks "
            "about its own"
        )
    notes = [
        "A class that several of the model's labels mean is explained by the likeliest of them in each photo (kinds by "
        "WordNet's hypernyms for ImageNet's labels)."
    ]
    if left := len(scenes) - len(found):
        notes.append(f"Left out: {left:,} of {len(scenes):,} photos, which hold no class that the model has.")
    return found, notes
