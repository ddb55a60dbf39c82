"""The demo: sample photos captioned and classified by the bundled models, in one report.

The photos lie in the files of packages that the extra ``demo`` installs: it needs no network, and mmexplain ships no
photo of anybody's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmexplain.commands.progress import steps
from mmexplain.errors import InputError

if TYPE_CHECKING:
    from mmexplain.explanation import Explanation

TITLE = "mmexplain: where the models looked"
CAPTION_METHODS = ("gradcam", "gradcam++", "attention")
CLASS_METHODS = ("gradcam", "gradcam++", "guided-gradcam")


Write = Callable[[Callable[[Path], object]], None]


@dataclass(frozen=True)
class Scene:
    """One photo and what is asked about it.

    Attributes:
        title: what the photo shows, for the progress line.
        package: the installed package that holds it.
        path: where in the package.
        task: the verb.
        methods: names from the registry.
        classes: classes to explain, the forced ones included; the likeliest if there are none.
        versus: pairs of classes to contrast.
    """

    title: str
    package: str
    path: str
    task: str = "caption"
    methods: Sequence[str] = CAPTION_METHODS
    classes: Sequence[str] = ()
    versus: Sequence[tuple[str, str]] = field(default=())


SCENES = (
    Scene("a dog on the grass", "foolbox", "data/imagenet_00_243.jpg"),
    Scene("geese on the grass", "foolbox", "data/imagenet_15_99.jpg"),
    Scene("a car in the woods", "foolbox", "data/imagenet_07_609.jpg"),
    Scene("a motorcycle", "skimage", "data/motorcycle_left.png"),
    Scene("an astronaut", "skimage", "data/astronaut.png"),
    Scene(
        "a dog on the grass, classified",
        "foolbox",
        "data/imagenet_00_243.jpg",
        "classify",
        CLASS_METHODS,
        ("bull mastiff", "boxer"),
        (("bull mastiff", "boxer"),),
    ),
    Scene("a cat, classified", "skimage", "data/chelsea.png", "classify", CLASS_METHODS, ("tabby", "tiger cat")),
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
    options: dict[str, Any] = {}
    if scene.classes:
        options["targets"] = [
            *(task.target(name) for name in scene.classes),
            *(task.contrast(label, other) for label, other in scene.versus),
        ]
    explanation: Explanation = task.explain(str(photo), methods=list(scene.methods), **options)
    return explanation
