"""Questions made from a file of captions, kept between runs: making those of Flickr8k takes half a minute."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path

from mmexplain.errors import InputError
from mmexplain.render.whole import whole
from mmexplain.tasks.action.cache import cache_folder
from mmexplain.tasks.vqa import questions as making
from mmexplain.tasks.vqa.questions import Question, generate, prune, read_captions, read_questions, write_questions


def kept_questions(captions: Path) -> Path:
    """Where the questions of a file of captions are kept, in the user's cache folder: by the checksum of the file and
    of the code that makes them.

    Raises:
        InputError: the file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        for path in (captions, *sorted(Path(making.__file__).parent.glob("*.py"))):
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    except OSError as error:
        raise InputError(f"cannot read {error.filename!r}: {(error.strerror or str(error)).lower()}") from None
    return cache_folder() / "questions" / f"{digest.hexdigest()}.jsonl"


def made_questions(captions: Path) -> list[Question]:
    """The questions of a file of captions, as ``python -m mmexplain.tasks.vqa.questions`` makes them by default.

    Raises:
        InputError: the file cannot be read, or what makes the questions is not installed.
    """
    kept = kept_questions(captions)
    if kept.is_file():
        with suppress(InputError):  # damaged: they are made again
            return read_questions(kept)
    found = prune(generate(read_captions(captions)))
    # No room, or no right to write: they are made again next time.
    with suppress(InputError, OSError), whole(kept) as partial:
        write_questions(partial, found)
    return found
