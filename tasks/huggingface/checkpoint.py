"""From a model of transformers, its identifier on the hub or its folder to the model with what prepares its inputs."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mmexplain.errors import CheckpointError, InputError, MMExplainError, ModelError
from mmexplain.tasks.classification.download import require_network

CONFIG = "config.json"
_MAPPINGS = (
    "IMAGE_CLASSIFICATION",
    "ZERO_SHOT_IMAGE_CLASSIFICATION",
    "VISUAL_QUESTION_ANSWERING",
    "IMAGE_TEXT_TO_TEXT",
    "VIDEO_CLASSIFICATION",
)
"""transformers' tables of model classes, in which one is looked for where the configuration names none."""

_quiet = threading.RLock()


@dataclass
class Checkpoint:
    """A model with its belongings, as far as there are any.

    Attributes:
        model: in eval mode where it was loaded here; as the caller had it otherwise.
        config: of the model.
        id: as the user gave it; what explanations are filed under.
        architecture: name of the model's class.
        processor: what prepares all inputs together, if the model has such a thing.
        image_processor: what prepares photos.
        video_processor: what prepares clips.
        tokenizer: what prepares text.
        uninstalled: of those that need a package which is not installed, the line that says so.
    """

    model: nn.Module
    config: Any
    id: str
    architecture: str
    processor: Any = None
    image_processor: Any = None
    video_processor: Any = None
    tokenizer: Any = None
    uninstalled: dict[str, str] = field(default_factory=dict)

    def require(self, *names: str) -> None:
        """Raise a CheckpointError unless each of the attributes ``names`` is there."""
        for name in names:
            if getattr(self, name) is None:
                if name in self.uninstalled:
                    raise CheckpointError(self.uninstalled[name])
                what = name.replace("_", " ")
                raise CheckpointError(
                    f"model {self.id!r} comes without {'an' if what[0] in 'aeiou' else 'a'} {what}; "
                    "save one beside it (processor.save_pretrained), or give processor=..."
                )


def is_checkpoint(text: str) -> bool:
    """Whether a path is a folder as ``save_pretrained`` writes it. Imports nothing."""
    return Path(text, CONFIG).is_file()


def open_checkpoint(
    source: nn.Module | str | Path,
    device: torch.device | str = "cpu",
    *,
    trust_remote_code: bool = False,
    processor: Any = None,
) -> Checkpoint:
    """A model of transformers, ready to run.

    Weights come from safetensors files only, and no code of a checkpoint runs unless it is trusted. A module is taken
    as it is: where it lies, its precision, quantised weights and its implementation of attention are left alone.

    Args:
        source: the model itself, its identifier on the hub, or its folder.
        device: where a model that is loaded goes.
        trust_remote_code: run the code that a checkpoint brings along.
        processor: what prepares the inputs (an ``AutoProcessor``, image processor or tokenizer, or a list of them);
            otherwise it is loaded from where the model came from.

    Raises:
        CheckpointError: no such folder, no safetensors, weights missing, no processor, or damaged files.
        ModelError: no such model on the hub, or no way to it; a class that transformers does not have.
    """
    if isinstance(source, nn.Module):
        config = getattr(source, "config", None)
        if config is None or not hasattr(config, "model_type"):
            raise ModelError(f"{type(source).__name__} is no model of transformers: it has no configuration")
        origin = str(getattr(config, "name_or_path", "") or "")
        found = Checkpoint(source, config, origin or type(source).__name__, type(source).__name__)
    else:
        origin = str(source)
        _require_checkpoint(origin)
        found = _loaded(origin, trust_remote_code)
        _place(found, device)
    _find_processors(found, processor, origin, trust_remote_code)
    return found


def _loaded(origin: str, trust: bool) -> Checkpoint:
    from transformers import AutoConfig

    config = _read(origin, "configuration", AutoConfig.from_pretrained, trust)
    architecture = next(iter(getattr(config, "architectures", None) or []), "")
    kind = _class(config, architecture, origin, trust)
    # Sizes that differ would be an exception that refers to a report in the log: they are looked for below.
    options = {"use_safetensors": True, "output_loading_info": True, "ignore_mismatched_sizes": True}
    model, report = _read(origin, "weights", kind.from_pretrained, trust, **options)
    wrong = [f"missing {name!r}" for name in sorted(report["missing_keys"])]
    wrong += [f"{name!r} is {list(had)}, not {list(want)}" for name, had, want in sorted(report["mismatched_keys"])]
    if wrong:
        more = f" and {len(wrong) - 1:,} more" if len(wrong) > 1 else ""
        raise CheckpointError(
            f"{origin!r} does not fit {kind.__name__!r}: {wrong[0]}{more}; its weights were made for another class, or "
            "are damaged"
        )
    return Checkpoint(model.eval(), model.config, origin, type(model).__name__)


def _class(config: Any, architecture: str, origin: str, trust: bool) -> Any:
    """The class of the model; an Auto class where a checkpoint's own code is trusted."""
    import transformers
    from transformers.models.auto import modeling_auto

    for auto, reference in (getattr(config, "auto_map", None) or {}).items():
        if trust and architecture and str(reference).endswith(f".{architecture}") and hasattr(transformers, auto):
            return getattr(transformers, auto)
    if architecture:
        if not hasattr(transformers, architecture):
            raise ModelError(
                f"{origin!r} is a {architecture!r}, which transformers {transformers.__version__} does not have"
            )
        return getattr(transformers, architecture)
    for name in _MAPPINGS:
        mapping = getattr(modeling_auto, f"MODEL_FOR_{name}_MAPPING")
        if type(config) in mapping:
            return mapping[type(config)]
    raise CheckpointError(
        f"the configuration of {origin!r} names no class in 'architectures', and {config.model_type!r} stands for none "
        "that answers, classifies or captions"
    )


def _place(found: Checkpoint, device: torch.device | str) -> None:
    quantised = getattr(found.model, "is_quantized", False) or getattr(found.model, "quantization_method", None)
    if not quantised and not getattr(found.model, "hf_device_map", None):
        found.model.to(device)


def _find_processors(found: Checkpoint, given: Any, origin: str, trust: bool) -> None:
    """Fill in what prepares inputs: from what was given, else from where the model came from."""
    import transformers

    for part in given if isinstance(given, (list, tuple)) else [given]:
        _take(found, part)
    if given is None and origin and (is_checkpoint(origin) or not Path(origin).exists()):
        kinds = {
            "processor": "AutoProcessor",
            "image_processor": "AutoImageProcessor",
            "tokenizer": "AutoTokenizer",
            "video_processor": "AutoVideoProcessor",
        }
        for name, auto in kinds.items():
            if getattr(found, name) is None:
                try:
                    _take(found, _read(origin, "processor", getattr(transformers, auto).from_pretrained, trust))
                except ModelError as error:
                    # Most checkpoints have some parts only, which transformers tells by as many exceptions.
                    if isinstance(error.__cause__, ImportError):
                        found.uninstalled[name] = str(error)
    if not any((found.processor, found.image_processor, found.video_processor, found.tokenizer)):
        where = "give processor=..." if given is None else f"{type(given).__name__} is none"
        raise CheckpointError(f"model {found.id!r} comes with no processor to prepare its inputs; {where}")


def _take(found: Checkpoint, part: Any) -> None:
    """Sort in a processor and what it is made of."""
    from transformers import PreTrainedTokenizerBase, ProcessorMixin
    from transformers.video_processing_utils import BaseVideoProcessor

    if part is None:
        return
    if isinstance(part, ProcessorMixin):
        found.processor = part
        for name in ("image_processor", "video_processor", "tokenizer"):
            if getattr(found, name) is None:
                setattr(found, name, getattr(part, name, None))
    elif isinstance(part, PreTrainedTokenizerBase):
        found.tokenizer = part
    elif isinstance(part, BaseVideoProcessor):
        found.video_processor = part
    elif hasattr(part, "model_input_names") and callable(part):
        found.image_processor = part
    else:
        raise InputError(f"{part!r:.80} is no processor, image processor or tokenizer of transformers")


def _require_checkpoint(origin: str) -> None:
    """Say what is wrong with a place before a library goes through its minutes of retries.

    Raises:
        CheckpointError, ModelError
    """
    if not origin.strip():
        raise ModelError("there is no model: name one of the hub, or a folder (as in 'hf:owner/name', 'hf:FOLDER')")
    folder = Path(origin)
    if folder.exists() or origin.startswith((".", "/", "~")) or origin.count("/") > 1:
        if not folder.is_dir():
            what = "is a file, not a folder" if folder.exists() else "does not exist"
            raise CheckpointError(f"{origin!r} {what}; give a folder as save_pretrained writes it, or a hub identifier")
        if not (folder / CONFIG).is_file():
            raise CheckpointError(f"{origin!r} holds no {CONFIG}: it is no folder as save_pretrained writes it")
        if not any(folder.glob("*.safetensors")):
            pickled = any(folder.glob("*.bin")) or any(folder.glob("*.pt"))
            mend = " but pickled ones; load it with transformers and use save_pretrained" if pickled else ""
            raise CheckpointError(f"{origin!r} holds no weights in safetensors files{mend}")
        return
    from huggingface_hub import constants, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = isinstance(try_to_load_from_cache(origin, CONFIG), str)
    except HFValidationError:
        raise ModelError(f"{origin!r} is neither a folder nor an identifier on the hub (as in 'owner/name')") from None
    if not cached and constants.HF_HUB_OFFLINE:
        raise ModelError(
            f"{origin!r} is not on this machine (no such folder, and not in the hub's cache), and HF_HUB_OFFLINE "
            "forbids to fetch it"
        )
    if not cached:
        require_network(constants.ENDPOINT, origin, "give its folder, as in 'hf:FOLDER'")


def _read(origin: str, what: str, load: Callable[..., Any], trust: bool, **options: Any) -> Any:
    """What ``load`` makes of a checkpoint; whatever it raises becomes one line.

    Raises:
        CheckpointError, ModelError
    """
    try:
        with quiet():
            return load(origin, trust_remote_code=trust, **options)
    except (MMExplainError, torch.cuda.OutOfMemoryError):
        raise
    except Exception as error:  # transformers, huggingface_hub, safetensors and httpx have no base in common
        reason = " ".join(str(error).split()) or type(error).__name__
        if "trust_remote_code" in reason:
            raise ModelError(
                f"{origin!r} brings code of its own, which is run only with trust_remote_code=True; read it before"
            ) from None
        kind = CheckpointError if Path(origin).exists() else ModelError
        raise kind(f"the {what} of {origin!r} cannot be read: {reason:.240}") from error


@contextmanager
def quiet() -> Iterator[None]:
    """transformers without progress bars and advice for a while; as it was after, for the caller."""
    from transformers.utils import logging

    with _quiet:
        # Not by the verbosity: a change of it empties the caches of every logger there is, for milliseconds each time.
        handlers, bars = list(logging.get_logger().handlers), logging.is_progress_bar_enabled()
        for handler in handlers:
            handler.addFilter(_unheard)
        logging.disable_progress_bar()
        try:
            yield
        finally:
            for handler in handlers:
                handler.removeFilter(_unheard)
            if bars:
                logging.enable_progress_bar()


def _unheard(_: Any) -> bool:
    """A filter that no message passes."""
    return False


def architecture_of(source: nn.Module | str | Path) -> str | None:
    """Name of the model's class where it is known without loading anything; None for what is on the hub only."""
    if isinstance(source, nn.Module):
        return type(source).__name__
    if not is_checkpoint(str(source)):
        return None
    try:
        record = json.loads(Path(source, CONFIG).read_text(encoding="utf-8"))
        return next(iter(record.get("architectures") or []), None)
    except (OSError, ValueError, AttributeError):
        raise CheckpointError(f"{str(Path(source, CONFIG))!r} is not a configuration in JSON") from None
