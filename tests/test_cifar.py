"""CIFAR files in the published formats, whole and damaged."""

import contextlib
import pickle
import pickletools
import shutil
import struct

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import diffincl as di
from diffincl import cli
from diffincl.data import Augmentation, cifar10, cifar100
from diffincl.data.arrays import _latin1, unpickled
from diffincl.training import fit, load_network

TRAIN = [f"data_batch_{k}" for k in range(1, 6)]
SETS = {"bin10": cifar10, "py10": cifar10, "bin100": cifar100, "py100": cifar100}
FOLDERS = {"bin10": "cifar-10-batches-bin", "py10": "cifar-10-batches-py", "bin100": "cifar-100-binary",
           "py100": "cifar-100-python"}


def batch(seed, n=4):
    random = np.random.default_rng(seed)
    return (random.integers(0, 256, (n, 3072), dtype=np.uint8), random.integers(0, 10, n).tolist(),
            random.integers(0, 100, n).tolist(), random.integers(0, 20, n).tolist())


def as_python_2(entries):
    """The pickle that Python 2 wrote in protocol 2: strings without encoding, arrays through numpy.core.multiarray."""
    def text(value):
        return b"T" + struct.pack("<i", len(value)) + value

    def number(value):
        return b"J" + struct.pack("<i", value)

    out = b"\x80\x02}("
    for key, value in entries.items():
        out += text(key)
        if isinstance(value, np.ndarray):
            out += b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text(b"b") + b"\x87R"
            out += b"(K\x01" + number(value.shape[0]) + number(value.shape[1]) + b"\x86"
            out += b"cnumpy\ndtype\n" + text(b"u1") + b"K\x00K\x01\x87R"
            out += b"(K\x03" + text(b"|") + b"NNN" + number(-1) + number(-1) + b"K\x00tb"
            out += b"\x89" + text(value.tobytes()) + b"tb"
        else:
            out += b"](" + b"".join(number(v) for v in value) + b"e"
    return out + b"u."


def write(place, kind, dump=as_python_2, n=4):
    """Small sets in one of the formats; returns what is in them: pixels and fine or only labels, in the order read."""
    place.mkdir(parents=True, exist_ok=True)
    names = [*TRAIN, "test_batch"] if kind.endswith("10") else ["train", "test"]
    parts = []
    for seed, name in enumerate(names):
        pixels, ten, fine, coarse = batch(seed, n)
        parts.append((pixels, ten if kind.endswith("10") else fine, coarse))
        if kind == "bin10":
            (place / f"{name}.bin").write_bytes(b"".join(bytes([k]) + p.tobytes() for k, p in
                                                         zip(ten, pixels, strict=True)))
        elif kind == "bin100":
            (place / f"{name}.bin").write_bytes(b"".join(bytes([c, f]) + p.tobytes() for c, f, p in
                                                         zip(coarse, fine, pixels, strict=True)))
        elif kind == "py10":
            (place / name).write_bytes(dump({b"data": pixels, b"labels": ten}))
        else:
            (place / name).write_bytes(dump({b"data": pixels, b"fine_labels": fine, b"coarse_labels": coarse}))
    return parts


def dumped(protocol, as_text=False):
    """How Python 3 writes a batch."""
    return lambda entries: pickle.dumps({key.decode() if as_text else key: value for key, value in entries.items()},
                                        protocol=protocol)


@pytest.mark.parametrize("kind", SETS)
@pytest.mark.parametrize("inside", [False, True])
def test_every_format_gives_the_written_images(kind, inside, tmp_path):
    parts = write(tmp_path / FOLDERS[kind] if inside else tmp_path, kind)
    data = SETS[kind](tmp_path)
    assert (data.shape, data.classes, data.limits) == ((3, 32, 32), 10 if kind.endswith("10") else 100, (0.0, 1.0))
    pixels = np.concatenate([p for p, _, _ in parts[:-1]])
    assert data.train_x.dtype == torch.float32
    assert torch.equal((255 * data.train_x).round(), torch.from_numpy(pixels).float())
    assert float(data.train_x.max()) <= 1
    assert data.train_y.tolist() == [label for _, labels, _ in parts[:-1] for label in labels]
    assert torch.equal((255 * data.test_x).round(), torch.from_numpy(parts[-1][0]).float())
    assert data.test_y.tolist() == parts[-1][1]
    assert data.augmentation == Augmentation(shift=4, flip=True)
    # row-major, red first
    assert int((255 * data.images().train_x[1, 2, 3, 4]).round()) == pixels[1, 2 * 1024 + 3 * 32 + 4]


@pytest.mark.parametrize("kind", ["bin100", "py100"])
def test_coarse_labels(kind, tmp_path):
    parts = write(tmp_path, kind)
    data = cifar100(str(tmp_path), labels="coarse")
    assert (data.classes, data.train_y.tolist(), data.test_y.tolist()) == (20, parts[0][2], parts[1][2])
    with pytest.raises(ValueError, match="labels must be one of 'coarse', 'fine'; got 'both'"):
        cifar100(tmp_path, labels="both")


@pytest.mark.parametrize("as_text", [False, True])
@pytest.mark.parametrize("protocol", range(6))
def test_python_files_written_again_by_python_3(protocol, as_text, tmp_path):
    parts = write(tmp_path, "py10", dumped(protocol, as_text))
    data = cifar10(tmp_path)
    assert torch.equal((255 * data.test_x).round(), torch.from_numpy(parts[-1][0]).float())
    assert data.test_y.tolist() == parts[-1][1]


def test_the_hand_written_pickle_is_one_of_python_2():
    names = {arg for code, arg, _ in pickletools.genops(as_python_2({b"data": batch(0)[0]})) if code.name == "GLOBAL"}
    assert names == {"numpy.core.multiarray _reconstruct", "numpy ndarray", "numpy dtype"}


def test_binary_is_read_before_python_and_a_whole_set_before_a_part(tmp_path):
    parts = write(tmp_path / FOLDERS["py10"], "py10", n=3)
    write(tmp_path / FOLDERS["bin10"], "bin10")
    assert len(cifar10(tmp_path).train_x) == 20
    (tmp_path / FOLDERS["bin10"] / "data_batch_4.bin").unlink()
    assert len(cifar10(tmp_path).train_x) == 5 * len(parts[0][1]) == 15


@pytest.mark.parametrize("kind", SETS)
def test_what_is_missing_is_named(kind, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*nowhere\. Unpack an archive of CIFAR-"):
        SETS[kind](tmp_path / "nowhere")
    expected = r"data_batch_1\.bin, .*test_batch\.bin or data_batch_1, .*test_batch" if kind.endswith("10") else \
        r"train\.bin, test\.bin or train, test"
    with pytest.raises(FileNotFoundError, match=f"holds no files of CIFAR-.*expected are {expected}"):
        SETS[kind](tmp_path)
    write(tmp_path, kind)
    gone = sorted(tmp_path.iterdir())[:2]
    kept = gone[1].read_bytes()
    for path in gone:
        path.unlink()
    if gone[0].name.startswith("data"):
        with pytest.raises(FileNotFoundError, match=f"lacks {gone[0].name}, {gone[1].name} of CIFAR-10; expected"):
            SETS[kind](tmp_path)
    gone[1].write_bytes(kept)
    gone[0].mkdir()  # a folder is no file
    with pytest.raises(FileNotFoundError, match=f"lacks {gone[0].name} of CIFAR-"):
        SETS[kind](tmp_path)


@pytest.mark.parametrize("kind", SETS)
@pytest.mark.parametrize("keep", [0, 1, 0.4, -1])
def test_a_file_that_is_cut_off_is_refused(kind, keep, tmp_path):
    write(tmp_path, kind)
    path = sorted(tmp_path.iterdir())[-1]
    data = path.read_bytes()
    path.write_bytes(data[:int(len(data) * keep) if isinstance(keep, float) else keep])
    with pytest.raises(ValueError, match=f"{path.name} is (cut off or damaged|not a whole batch).* Unpack it again"):
        SETS[kind](tmp_path)


@pytest.mark.parametrize(("kind", "label"), [("bin10", 10), ("bin100", 100), ("py10", 10), ("py100", -1)])
def test_labels_out_of_range_are_refused(kind, label, tmp_path):
    write(tmp_path, kind)
    path = sorted(tmp_path.iterdir())[-1]
    if kind.startswith("bin"):
        record = 3073 if kind == "bin10" else 3074
        data = bytearray(path.read_bytes())
        data[2 * record + (kind == "bin100")] = label
        path.write_bytes(data)
    else:
        labels = [1, 2, label, 3]
        path.write_bytes(as_python_2({b"data": batch(0)[0], b"labels": labels, b"fine_labels": labels}))
    with pytest.raises(ValueError, match=f"{path.name} gives image 2 the label {label}; labels are 0 … 9"):
        SETS[kind](tmp_path)


PIXELS = batch(0)[0]


@pytest.mark.parametrize(("content", "message"), [
    ([1, 2], "it holds a list instead of a dictionary"),
    ({b"labels": [1] * 4}, 'it has no entry "data"'),
    ({b"data": PIXELS}, 'it has no entry "labels"'),
    ({b"data": PIXELS, b"labels": [1] * 3}, r"must hold a uint8 array .* got an array of shape \(4, 3072\)"),
    ({b"data": PIXELS[:, :-1], b"labels": [1] * 4}, r"shape \(4, 3071\)"),
    ({b"data": PIXELS.astype(np.float32), b"labels": [1] * 4}, "dtype float32"),
    ({b"data": PIXELS.tolist(), b"labels": [1] * 4}, "got a list"),
    ({b"data": PIXELS, b"labels": [1.0] * 4}, "dtype float64"),
    ({b"data": PIXELS, b"labels": [[1]] * 4}, r"and an array of shape \(4, 1\)"),
    ({b"data": PIXELS[:0], b"labels": []}, "shape"),
    ({b"data": PIXELS, b"labels": [[1], [2, 3], 1, 1]}, "not a whole batch"),
    ({b"data": PIXELS, b"labels": None}, "must hold"),
])
def test_other_contents_are_refused(content, message, tmp_path):
    write(tmp_path, "py10")
    (tmp_path / "data_batch_3").write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match=message):
        cifar10(tmp_path)


class Calls:
    """An object whose pickle calls a function when it is read."""

    def __init__(self, function, *arguments):
        self.what = function, arguments

    def __reduce__(self):
        return self.what


def test_a_pickle_that_would_run_code_is_refused_and_does_not(tmp_path):
    import os
    import subprocess

    write(tmp_path, "py10")
    mark = tmp_path / "mark"
    evil = [Calls(os.system, f"touch {mark}"), Calls(eval, f"open({str(mark)!r}, 'w')"), Calls(open, str(mark), "w"),
            Calls(subprocess.call, ["touch", str(mark)]), Calls(np.load, str(mark)), Calls(np.fromfile, str(mark)),
            Calls(__import__, "os"), Calls(pickle.loads, b"N.")]
    for protocol in range(6):
        for value in evil:
            batch = pickle.dumps({b"data": PIXELS, b"labels": value}, protocol=protocol)
            (tmp_path / "data_batch_1").write_bytes(batch)
            with pytest.raises(ValueError, match=r"data_batch_1 is not a whole .*it names .*only arrays and plain"):
                cifar10(tmp_path)
    raw = [b"cos\nsystem\n(S'touch %s'\ntR." % str(mark).encode(),  # as protocol 0
           b"(S'touch %s'\nios\nsystem\n." % str(mark).encode(),  # INST
           b"cnumpy\nsave\n.", b"cnumpy.core.multiarray\nfromfile\n.", b"c_codecs\ndecode\n.", b"\x82\x01.", b"Pid\n.",
           b"c_codecs\nencode\n(Va\nVzlib_codec\ntR.", b"\x80\x04\x8c\x05numpy\x8c\x0ccore.os.name\x93."]
    for data in raw:
        with pytest.raises(ValueError, match=r"it names|it holds bytes in|unregistered extension|persistent"):
            unpickled(data)
    assert not mark.exists()


@given(st.data())
def test_a_damaged_pickle_is_read_or_refused(data):
    whole = as_python_2({b"data": batch(0, 1)[0][:, :40], b"labels": [1, 2, 3]})
    if data.draw(st.booleans()):
        whole = whole[:data.draw(st.integers(0, len(whole)))]
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(0, 3)) if damaged else 0):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ValueError):
        assert isinstance(unpickled(bytes(damaged)), dict)


def test_a_pickle_cannot_change_what_the_next_one_meets():
    before = _latin1.__doc__
    assert unpickled(b"c_codecs\nencode\n(N(V__doc__\nVchanged\ndtb0}.") == {}  # setattr(…, "__doc__", "changed")
    assert _latin1.__doc__ == before


@pytest.mark.parametrize("array", [np.arange(6, dtype=">i4").reshape(2, 3), np.asfortranarray(np.eye(3)[:2]),
                                   np.array([True, False]), np.float16([[1.5]]), np.zeros((0, 2), np.uint64)])
@pytest.mark.parametrize("protocol", range(6))
def test_arrays_of_numbers_come_back(array, protocol):
    read = unpickled(pickle.dumps({"a": array, "b": [np.int64(5), np.float32(0.5)]}, protocol))
    assert np.array_equal(read["a"], array)
    assert (read["a"].dtype, read["b"]) == (array.dtype, [5, 0.5])


@pytest.mark.parametrize("array", [np.array([{}]), np.array(["a"]), np.zeros(2, "i4,f4"), np.zeros(2, "M8[s]"),
                                   np.zeros(2, complex)])
def test_other_arrays_are_refused(array):
    for protocol in range(6):
        with pytest.raises(ValueError, match=r"not of numbers|plain containers"):
            unpickled(pickle.dumps({"a": array}, protocol))


@pytest.mark.parametrize("kind", ["bin10", "py10"])
def test_the_path_runs_end_to_end(kind, tmp_path):
    write(tmp_path / FOLDERS[kind], kind, n=8)
    data = cifar10(tmp_path)
    augmented = data.augment(data.images().train_x, torch.Generator().manual_seed(0))
    assert augmented.shape == (40, 3, 32, 32)
    assert not torch.equal(augmented, data.images().train_x)
    net = di.nn.DenseResNet(3072, data.classes, width=8, depth=2, generator=torch.Generator().manual_seed(0))
    losses = []
    fit(net, data, epochs=10, lr=1e-3, each_epoch=lambda epoch, loss: losses.append(loss))
    assert losses[-1] < losses[0]
    shutil.rmtree(tmp_path / FOLDERS[kind])
    assert float(data.train_x[0].sum()) > 0  # nothing is read later


@pytest.mark.parametrize("kind", SETS)
def test_the_commands_run_on_the_files(tmp_path, capsys, kind):
    """Train, and go on with a trained network in a study: end to end from a folder of files."""
    write(tmp_path / "files", kind, n=12)
    data = ["--data", "cifar10" if kind.endswith("10") else "cifar100", "--folder", str(tmp_path / "files"),
            "--model", "image", "--depth", "1"]
    train = ["train", *data, "--variant", "s", "--widths", "2,3,4", "--epochs", "1", "--batch", "8"]
    assert cli.main([*train, "--out", str(tmp_path / "run")]) == 0
    assert "1 epochs, test accuracy" in capsys.readouterr().out
    net = load_network(tmp_path / "run")
    assert net(torch.rand(2, 3, 32, 32)).shape == (2, 10 if kind.endswith("10") else 100)
    if kind == "bin10":
        study = ["experiment", "corruption", *data, "--families", "d", "--epochs", "1", "--seeds", "1"]
        assert cli.main([*study, "--out", str(tmp_path / "study"), "--workers", "1"]) == 0
        assert "occlusion 0.5" in capsys.readouterr().out
