"""Published weights that have to be fetched: one clear line at once where there is no way to the network."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit
from urllib.request import getproxies

from mmexplain.errors import CheckpointError, ModelError

TIMEOUT_SECONDS = 5.0


def require_network(url: str, model_id: str, otherwise: str = "") -> None:
    """Try the server's door before a library starts its minutes of retries. Behind a proxy nothing is tried.

    Raises:
        ModelError: the server of ``url`` cannot be reached.
    """
    parts = urlsplit(url)
    if getproxies() or parts.hostname is None:
        return
    port = parts.port or (443 if parts.scheme == "https" else 80)
    with downloading(model_id, parts.hostname, otherwise):
        socket.create_connection((parts.hostname, port), timeout=TIMEOUT_SECONDS).close()


@contextmanager
def downloading(model_id: str, server: str, otherwise: str = "") -> Iterator[None]:
    """Turn whatever goes wrong while weights are fetched into one line.

    Args:
        model_id: what is fetched.
        server: from where.
        otherwise: what to write where the weights are at hand; ``MODEL@FILE`` if nothing is told.

    Raises:
        ModelError: the download failed.
    """
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:  # urllib, httpx, huggingface_hub and timm have no base in common
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        files = f"files at hand: {otherwise}" if otherwise else f"file at hand: '{model_id.partition('@')[0]}@FILE'"
        raise ModelError(
            f"the weights of {model_id!r} are not on this machine and could not be downloaded from {server} "
            f"({reason}); with the {files}"
        ) from error
