"""Starting and stopping the app."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from mmexplain.errors import InputError

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
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    with TemporaryDirectory(prefix="mmexplain-uploads-") as uploads:
        # Uploads lie in a folder of their own, which goes with the server.
        before = os.environ.get("GRADIO_TEMP_DIR")
        os.environ["GRADIO_TEMP_DIR"] = uploads
        try:
            import gradio  # noqa: F401
        except ImportError:
            raise InputError("the app needs Gradio: pip install 'mmexplain[app]'") from None
        try:
            yield from _served(named, host, port, device, share, seconds)
        finally:
            os.environ.pop("GRADIO_TEMP_DIR")
            if before is not None:
                os.environ["GRADIO_TEMP_DIR"] = before


def _served(
    named: Sequence[str], host: str, port: int | None, device: str, share: bool, seconds: float | None
) -> Iterator[str]:
    from mmexplain.app.desk import SECONDS, Desk
    from mmexplain.app.page import build, head, style, theme
    from mmexplain.app.panel import Room
    from mmexplain.app.results import Results
    from mmexplain.app.shelf import Shelf

    shelf = Shelf(named, device)
    room = Room(Desk(shelf, SECONDS if seconds is None else seconds), Results())
    _warm(room.desk)
    page = build(room)
    page.queue(max_size=MOST_WAITING, default_concurrency_limit=1)
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
            allowed_paths=[str(room.results.root)],
            footer_links=["api"],
            theme=theme(),
            css=style(),
            head=head(),
            ssr_mode=False,
        )
    except OSError as error:
        raise InputError(f"cannot listen at {host}:{port or 7860}: {error}") from None
    try:
        yield public or local
    finally:
        page.close()


def _warm(desk: object) -> None:
    """Explain an empty photo, so that the first person waits no longer than the second."""
    from PIL import Image

    from mmexplain.app.asked import Asked
    from mmexplain.app.desk import Desk

    assert isinstance(desk, Desk)
    folder = tempfile.mkdtemp()
    path = Path(folder, "empty.png")
    Image.new("RGB", (320, 240), "grey").save(path)
    desk.explain(Asked("caption", str(path), desk.shelf.names("caption")[0]))
    path.unlink()
    os.rmdir(folder)
