"""How long people wait for the app: its start, the first map of a photo, ten requests at once.

    python benchmarks/app.py

It starts the app as a user does and drives it with Chromium and with Gradio's client.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from common import RESULTS, describe, machine, positive, save, table

from mmexplain.app.samples import PHOTOS, installed

CAPTION = {"api_name": "/caption"}
QUESTION = {"question": "what is the colour of the dog", "answers": ["black", "white"], "api_name": "/vqa"}
CLASSES = {"top": 5, "methods": ["gradcam", "guided-gradcam"], "api_name": "/classify"}


def started(port: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "mmexplain.cli", "app", "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None and "mmexplain is at" in process.stdout.readline()
    return process


def seconds(work: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def in_browser(address: str, visits: int) -> list[float]:
    """For each visitor: from the click on a sample photo to its caption's words and map on the page."""
    from playwright.sync_api import sync_playwright

    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    waited = []
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
        for _ in range(visits):
            page = running.new_page(viewport={"width": 1280, "height": 900})
            page.goto(address)
            sample = page.get_by_role("button", name="Sample astronaut.png")
            sample.wait_for()
            page.wait_for_timeout(1000)  # people do not click at once
            word = page.frame_locator("iframe.mm-view").locator(".word").first
            waited.append(seconds(lambda: (sample.click(), word.wait_for())))  # noqa: B023
            page.close()
        running.close()
    return waited


def measure(visits: int) -> list[tuple[str, str]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    begun = time.perf_counter()
    process = started(port)
    up = time.perf_counter() - begun
    try:
        address = f"http://127.0.0.1:{port}"
        first, *later = in_browser(address, visits)
        from gradio_client import Client, handle_file

        client = Client(address, verbose=False)
        photos = [str(path) for path in installed(PHOTOS)]
        asked = [(photo, told) for photo in photos[:5] for told in (CAPTION, QUESTION)]

        def ask(one: tuple[str, dict[str, Any]]) -> Any:
            return client.predict(handle_file(one[0]), **one[1])

        ask((photos[0], QUESTION))
        alone = seconds(lambda: [ask(one) for one in asked])
        with ThreadPoolExecutor(10) as pool:
            together = seconds(lambda: list(pool.map(ask, asked)))
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()
    return [
        ("from the command to the address", f"{up:.1f}"),
        ("first map of the first visitor, from the click on a sample to the map on the page", f"{first:.2f}"),
        (
            f"the same for the next {len(later)} visitors, median (most)",
            f"{statistics.median(later):.2f} ({max(later):.2f})",
        ),
        ("ten requests of the API one after the other (5 captions, 5 questions)", f"{alone:.1f}"),
        ("the same ten at once", f"{together:.1f}"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder that app.md and app.json are written to")
    parser.add_argument("--visits", type=positive, default=8)
    told = parser.parse_args()
    rows = measure(1 + told.visits)
    about = machine()
    text = f"# Waiting for the app\n\n{describe(about)}; `python benchmarks/app.py`.\n\n" + table(
        ("what", "seconds"), rows
    )
    print(text)
    save("app", {"machine": about, "rows": rows}, text, told.out)


if __name__ == "__main__":
    main()
