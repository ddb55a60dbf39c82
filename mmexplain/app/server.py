"""Starting and stopping the app."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from mmexplain.app.asked import Asked
from mmexplain.app.desk import SECONDS, Desk
from mmexplain.app.results import Results
from mmexplain.app.shelf import Shelf
from mmexplain.errors import InputError, MMExplainError

MOST_BYTES = 50 * 2**20
"""Of an upload."""

MOST_WAITING = 32
"""Requests that may wait; more are refused."""

SESSIONS = 64
"""Browsers whose last answer is remembered."""


@contextmanager
def running(
    named: Sequence[str] = (),
    host: str = "127.0.0.1",
    port: int | None = None,
    device: str = "auto",
    share: bool = False,
    seconds: float | None = None,
) -> Iterator[str]:
    """The app, up while the context lasts; yields its address. Uploads and results go when it ends.

    Args:
        named: models besides the bundled ones, see :class:`~mmexplain.app.shelf.Shelf`.
        host: name or address to listen at; by default only this machine can reach it.
        port: its number; a free one from 7860 on if None.
        device: where models run.
        share: open a public address by Gradio's service.
        seconds: after which a request is called off; :data:`~mmexplain.app.desk.SECONDS` if None.

    Raises:
        InputError: Gradio is not installed, or the address cannot be had.
        ModelError, CheckpointError, DeviceError: a model cannot be loaded.
    """
    with (
        TemporaryDirectory(prefix="mmexplain-uploads-") as uploads,
        # Uploads lie in a folder of their own, which goes with the server; nobody is told of its use.
        _environment(GRADIO_TEMP_DIR=uploads, GRADIO_ANALYTICS_ENABLED="False"),
    ):
        try:
            import gradio  # noqa: F401
        except ImportError:
            raise InputError("the app needs Gradio: pip install 'mmexplain[app]'") from None
        yield from _served(named, host, port, device, share, seconds)


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _served(
    named: Sequence[str], host: str, port: int | None, device: str, share: bool, seconds: float | None
) -> Iterator[str]:
    # Gradio and torch take seconds to import, and Gradio looks at its folder when it is.
    from mmexplain.app.page import build, head, style, theme
    from mmexplain.app.panel import Room

    with closing(Results()) as results:
        room = Room(Desk(Shelf(named, device), SECONDS if seconds is None else seconds), results)
        page = build(room)
        page.queue(max_size=MOST_WAITING, default_concurrency_limit=1)
        try:
            _warm(room.desk)
            try:
                _, local, public = page.launch(
                    server_name=host,
                    server_port=port,
                    share=share,
                    max_file_size=MOST_BYTES,
                    state_session_capacity=SESSIONS,
                    prevent_thread_lock=True,
                    quiet=True,
                    show_error=True,
                    allowed_paths=[str(results.root)],
                    footer_links=["api"],
                    theme=theme(),
                    css=style(),
                    head=head(),
                    ssr_mode=False,
                )
            except OSError as error:
                raise InputError(f"cannot listen at {host}:{port or 7860}: {error}") from None
            yield public or local
        finally:
            room.desk.close()
            page.close(verbose=False)


def _warm(desk: Desk) -> None:
    """Explain an empty photo, so that the first person waits no longer than the second."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "empty.png")
        Image.new("RGB", (320, 240), "grey").save(path)
        try:
            desk.explain(Asked("caption", str(path), desk.shelf.names("caption")[0]))
        except MMExplainError as error:  # not every model has something to say of it
            logging.getLogger(__name__).info("the first answer will take longer: %s", error)
