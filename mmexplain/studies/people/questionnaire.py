"""A study with people: which object does a map show, and which of two models do maps make them trust.

After Selvaraju et al. (ICCV 2017), §5.1 and §5.2. What is made is one page that works from a file, and a key that stays
with whoever made it.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

from mmexplain.errors import InputError
from mmexplain.render.assets import asset, environment, policy
from mmexplain.render.text import clean
from mmexplain.render.whole import whole
from mmexplain.studies.people.cases import Case
from mmexplain.studies.people.pictures import Maker
from mmexplain.studies.people.plan import COLUMNS, FORMAT, KINDS, SCALE

PAGE, KEY, READ_ME = "index.html", "key.json", "README.txt"

CHECKS = 4
SIDE = 360

INSTRUCTIONS = {
    "discrimination": (
        "Computer programs tell objects apart in photos. Each picture here shows what spoke for one object: bright "
        "colours over the photo, or, on grey, the lines that counted.",
        "Below it are the names of two objects that are both in the photo. Say which of the two the picture is about. "
        "If you cannot tell, guess.",
    ),
    "trust": (
        "Two computer programs, A and B, looked at the same photo and said the same of it. Each "
        "picture shows what one program's answer rests on: bright colours over the photo, or, on grey, the lines that "
        "counted.",
        "Say which of the two seems more reliable to you. Which program is A is drawn anew for each question.",
    ),
}
CONSENT = (
    "Taking part is voluntary. You may stop at any time by closing this page, and need not say why.",
    "This page sends nothing anywhere. Your answers stay in this browser until you save them as a file at the end. The "
    "file holds your code, your answers, and when each was given.",
)


@dataclass(frozen=True)
class Questionnaire:
    """A study that can be written.

    Attributes:
        design: what page and analysis both know: photos, arms and pictures by codes.
        images: JPEG files that the design names by number, in an order that tells nothing.
        key: what the codes mean, and the design.
        title: of the page.
        consent: paragraphs.
    """

    design: Mapping[str, Any]
    images: Sequence[bytes]
    key: Mapping[str, Any]
    title: str
    consent: Sequence[str]

    @property
    def number(self) -> int:
        """Questions that a participant gets, attention checks among them."""
        return int(self.design["questions"]) + len(self.design["checks"])

    def page(self) -> str:
        """The page: no network, no server, one file."""
        script = _file("questionnaire.js")
        style = "\n".join([asset("report.css"), _file("questionnaire.css")])
        kind = self.design["kind"]
        return (
            environment()
            .from_string(_file("questionnaire.html.j2"))
            .render(
                title=self.title,
                policy=policy(script),
                style=style,
                script=script,
                instructions=INSTRUCTIONS[kind],
                consent=self.consent,
                number=self.number,
                options=len(SCALE) if kind == "trust" else 2,
                design=_embedded({**self.design, "columns": list(COLUMNS), "scale": list(SCALE)}),
                images=_embedded(
                    ["data:image/jpeg;base64," + base64.b64encode(file).decode("ascii") for file in self.images]
                ),
            )
        )

    def save(self, folder: Path) -> list[Path]:
        """Write ``index.html``, ``key.json`` and ``README.txt``.

        Raises:
            InputError: the folder holds a study already, whose key would be lost; or the system refused.
        """
        require_new(folder)
        folder.mkdir(parents=True, exist_ok=True)
        files = {
            KEY: json.dumps(self.key, indent=1) + "\n",
            READ_ME: _read_me(self.design),
            PAGE: self.page(),
        }
        for name, text in files.items():
            with whole(folder / name) as partial:
                partial.write_text(text, encoding="utf-8")
        return [folder / name for name in (PAGE, KEY, READ_ME)]


def require_new(folder: Path) -> None:
    """Refuse a folder that holds a study: it may have been answered already.

    Raises:
        InputError: it does.
    """
    for name in (PAGE, KEY):
        if (folder / name).exists():
            raise InputError(
                f"{str(folder)!r} holds {name} of another study, whose answers need their key: name a new folder"
            )


def questionnaire(
    cases: Iterable[Case],
    *,
    methods: Sequence[str] = (),
    models: Sequence[str] = (),
    questions: int | None = None,
    checks: int = CHECKS,
    control: bool = True,
    side: int = SIDE,
    title: str | None = None,
    consent: Sequence[str] = CONSENT,
    seed: int = 0,
) -> Questionnaire:
    """Make a study.

    Cases of one explanation make one of class discrimination: an arm for each method, and one of random noise, drawn as
    the first method's maps are. Which of the two classes a participant sees the map of is a coin. Cases of two make one
    of trust: an arm for each method that both models were explained by, and one that shows the same map twice; the
    first model is the one that is held to be better.

    A check is a question whose answer is known: "please choose …", and, where people marked what the photos show, in
    turn with a photo without a map beside a class that is not in it.

    Args:
        cases: photos, see :class:`mmexplain.studies.people.cases.Case`.
        methods: which of the methods that there are maps of; all where empty.
        models: what the models are called in the key.
        questions: of one participant, less checks; at most, and where left out, one for each photo.
        checks: attention checks of one participant.
        control: with the arm that must come out at chance.
        side: longer side of the pictures, pixels.
        title: of the page.
        consent: what participants agree to, in paragraphs.
        seed: of codes, noise, and the choice of checks.

    Raises:
        InputError: no cases.
        MethodError: no maps of a method.
    """
    made = Maker(seed, side)
    arms: list[dict[str, Any]] = []
    kind = ""
    for case in cases:
        if not arms:
            kind = "trust" if len(case.explanations) > 1 else "discrimination"
            arms = made.arms(case, methods, control)
        made.add(case, arms)
    if not made.items:
        raise InputError("a questionnaire needs at least one photo that has the maps of the first")
    most = len(made.items)
    asked = made.checks(kind, checks)
    order = made.random.permutation(len(made.images))
    place = {int(old): new for new, old in enumerate(order)}
    images = [made.images[old] for old in order]
    design: dict[str, Any] = {
        "kind": kind,
        "questions": min(questions or most, most),
        "arms": [{"arm": arm["arm"], "asks": arm["asks"]} for arm in arms],
        "items": [
            {
                **item,
                "arms": {arm: [[code, place[image]] for code, image in pair] for arm, pair in item["arms"].items()},
            }
            for item in made.items
        ],
        "checks": [
            {name: check[name] for name in ("item", "asks", "options")}
            | {"image": None if check["image"] is None else place[check["image"]]}
            for check in asked
        ],
    }
    content = hashlib.sha256(json.dumps(design, sort_keys=True).encode())
    for file in images:
        content.update(file)
    design = {"study": content.hexdigest()[:10], **design}
    key = {
        "format": FORMAT,
        "study": design["study"],
        "kind": kind,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": seed,
        "models": [clean(model) for model in models],
        "arms": {arm["arm"]: {name: arm[name] for name in ("method", "made", "control")} for arm in arms},
        "photos": made.photos,
        "pictures": made.pictures,
        "checks": {check["item"]: {name: check[name] for name in ("answer", "sort", "photo")} for check in asked},
        "design": design,
    }
    return Questionnaire(design, images, key, clean(title or f"A study: {KINDS[kind]}"), consent)


def _file(name: str) -> str:
    return resources.files("mmexplain.studies.people").joinpath(name).read_text(encoding="utf-8")


def _embedded(value: Any) -> str:
    """JSON that can stand in a page."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _read_me(design: Mapping[str, Any]) -> str:
    columns = "\n".join(f"  {name:<16} {what}" for name, what in COLUMNS.items())
    return (
        f"Study {design['study']}: {KINDS[design['kind']]}\n\n"
        f"{PAGE}  goes to the participants, alone: by mail, on a stick, or on any web server. It needs no\n"
        "            network, sends nothing, and does not hold what is right.\n"
        f"{KEY}    stays with you: it says what the codes mean. Do not put it on the server.\n\n"
        "At the end a participant saves a file, answers-STUDY-PARTICIPANT.csv, and sends it to you. Then:\n\n"
        f"  mmexplain study answers answers/*.csv --key {KEY} --out results/\n\n"
        "Columns of the file (UTF-8, commas; a text that a spreadsheet could take for a formula begins with '):\n\n"
        f"{columns}\n\n"
        "What was right is in no such file: the analysis adds it, in results/scored.csv.\n"
    )
