"""The demo: sample photos captioned and classified by the bundled models, in one report.

The photos lie in the files of packages that the extra ``demo`` installs: it needs no network, and mmexplain ships no
photo of anybody's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmexplain.commands.progress import steps
from mmexplain.errors import InputError, MethodError

if TYPE_CHECKING:
    from mmexplain.explanation import Explanation

TITLE = "mmexplain: where the models looked"
CAPTION_METHODS = ("gradcam", "gradcam++")
ATTENTION = "attention"
CLASS_METHODS = ("gradcam", "gradcam++", "guided-gradcam")


Write = Callable[[Callable[[Path], object]], None]


@dataclass(frozen=True)
class Scene:
    """One photo and what is asked about it.

    Attributes:
        title: what the photo shows, for the progress line.
        package: the installed package that holds it.
        path: where in the package.
        caption: the sentence to explain; the model speaks where there is none.
        classes: the classes to explain, forced ones included; a scene with classes is classified, not captioned.
        versus: word or class → another that could stand in its place.
    """

    title: str
    package: str
    path: str
    caption: str | None = None
    classes: Sequence[str] = ()
    versus: Mapping[str, str] = field(default_factory=dict)

    @property
    def task(self) -> str:
        """The verb."""
        return "classify" if self.classes else "caption"


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
        "the first dog, classified",
        "foolbox",
        "data/imagenet_00_243.jpg",
        classes=("bull mastiff", "boxer"),
        versus={"bull mastiff": "boxer"},
    ),
    Scene("a cat, classified", "skimage", "data/chelsea.png", classes=("tiger cat", "tabby")),
)


def find_photo(scene: Scene) -> Path | None:
    """The scene's photo on this machine, found without importing the package; None if it is not there."""
    spec = find_spec(scene.package)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder, scene.path)
        if path.is_file():
            return path
    return None


def run(write: Write, scenes: Sequence[Scene]) -> list[Explanation]:
    """Explain the scenes whose photos are installed and write one report on all of them.

    Args:
        write: is given a function that writes the report to a path.
        scenes: what to explain.

    Returns:
        The explanations, in the order of the scenes.

    Raises:
        InputError: none of the photos is installed, or the report cannot be written.
    """
    found = [(scene, photo) for scene in scenes if (photo := find_photo(scene)) is not None]
    if not found:
        raise InputError("the demo's sample photos are not installed; install them with: pip install 'mmexplain[demo]'")
    tasks = list(dict.fromkeys(scene.task for scene, _ in found))
    explanations = []
    with steps(len(tasks) + len(found) + 1) as say:
        models: dict[str, Any] = {}
        for task in tasks:
            say(f"loading the model of '{task}'")
            from mmexplain.tasks.registry import DEFAULTS, load

            models[task] = load(DEFAULTS[task], task=task)
        for scene, photo in found:
            say(scene.title)
            explanations.append(_explain(models[scene.task], scene, photo))
        say("writing the report")
        from mmexplain.render import save_report

        write(lambda path: save_report(explanations, path, title=TITLE))
    return explanations


def _explain(task: Any, scene: Scene, photo: Path) -> Explanation:
    explanation: Explanation
    if scene.classes:
        classes = [task.target(name) for name in scene.classes]
        contrasts = [task.contrast(name, other) for name, other in scene.versus.items()]
        explanation = task.explain(str(photo), [*classes, *contrasts], methods=CLASS_METHODS)
        return explanation
    asked = {"caption": scene.caption, "versus": scene.versus or None}
    try:
        explanation = task.explain(str(photo), **asked, methods=(*CAPTION_METHODS, ATTENTION))
    except MethodError:  # not every captioner has attention of its own
        explanation = task.explain(str(photo), **asked, methods=CAPTION_METHODS)
    return explanation
