"""Digits and Fashion-MNIST, and the idx files that the latter comes in."""

import gzip

import numpy as np
import pytest
import torch

from visionseq.data.digits import Digits
from visionseq.data.fashion_mnist import SYSTEM_FOLDER, FashionMNIST
from visionseq.data.idx import read_idx
from visionseq.data.images import MemoryImages
from visionseq.errors import DataError


def idx(array: np.ndarray, shape: tuple[int, ...] | None = None) -> bytes:
    shape = array.shape if shape is None else shape
    return bytes([0, 0, 8, len(shape)]) + b"".join(n.to_bytes(4, "big") for n in shape) + array.tobytes()


def test_digits_are_the_scans_over_eight_minus_one():
    from sklearn.datasets import load_digits

    raw, digits = load_digits(), Digits()
    batch = digits.batch(np.arange(len(digits)))
    assert batch.image.shape == (1797, 1, 8, 8)
    assert batch.image.dtype == torch.float32
    assert (batch.image.double().numpy()[:, 0] == raw.images / 8 - 1).all()
    assert (batch.label.numpy() == raw.target).all()
    assert digits.preprocessing == {"kind": "image", "size": 8, "channels": 1, "class_names": [*"0123456789"]}


def test_the_division_of_the_digits_is_one_and_never_changes():
    train, test, everything = Digits("train"), Digits("test"), Digits()
    assert (len(train), len(test)) == (1438, 359)
    rows = {tuple(image.flatten().tolist()) for image in everything.images}
    parts = [tuple(image.flatten().tolist()) for image in [*train.images, *test.images]]
    assert set(parts) == rows
    assert len(parts) == 1797
    assert test.labels[:10].tolist() == Digits("test").labels[:10].tolist() == [4, 9, 6, 9, 8, 1, 3, 5, 1, 2]
    assert test.labels.bincount().min() > 20


def write_fashion(folder, count=3, suffix="") -> None:
    rng = np.random.default_rng(1)
    contents = {"images-idx3-ubyte": idx(rng.integers(0, 256, (count, 28, 28), dtype=np.uint8))}
    contents["labels-idx1-ubyte"] = idx(np.arange(count, dtype=np.uint8))
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in contents.items():
        (folder / f"t10k-{name}{suffix}").write_bytes(gzip.compress(data) if suffix else data)


@pytest.mark.parametrize(("below", "suffix"), [("", ""), ("", ".gz"), ("FashionMNIST/raw", "")])
def test_fashion_is_found_where_users_and_torchvision_put_it(tmp_path, below, suffix):
    write_fashion(tmp_path / below, suffix=suffix)
    found = FashionMNIST("test", root=tmp_path)
    assert len(found) == 3
    assert found.labels.tolist() == [0, 1, 2]
    expected = np.random.default_rng(1).integers(0, 256, (3, 28, 28), dtype=np.uint8)
    assert (found.images[:, 0].numpy() == expected).all()
    assert found.preprocessing["class_names"][9] == "Ankle boot"


@pytest.mark.skipif(not SYSTEM_FOLDER.is_dir(), reason="the Debian package dataset-fashion-mnist is not installed")
def test_fashion_of_the_debian_package():
    test = FashionMNIST("test")
    assert len(test) == 10_000
    assert test.labels.bincount().tolist() == [1000] * 10
    assert test[0].min() == -1
    assert test[0].max() <= 1


def test_missing_fashion_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("VISIONSEQ_OFFLINE", "1")
    with pytest.raises(DataError, match="VISIONSEQ_OFFLINE"):
        FashionMNIST("train", root=tmp_path / "nowhere", download=True)
    with pytest.raises(DataError, match=r"dataset-fashion-mnist.*root=FOLDER.*download=True"):
        FashionMNIST("train", root=tmp_path / "nowhere")


def test_fashion_with_labels_that_do_not_fit(tmp_path):
    write_fashion(tmp_path)
    labels = tmp_path / "t10k-labels-idx1-ubyte"
    labels.write_bytes(idx(np.array([1, 2], dtype=np.uint8)))
    with pytest.raises(DataError, match=r"labels.*\(2,\), expected \(3,\)"):
        FashionMNIST("test", root=tmp_path)
    labels.write_bytes(idx(np.array([1, 2, 77], dtype=np.uint8)))
    with pytest.raises(DataError, match=r"index 2: class 77"):
        FashionMNIST("test", root=tmp_path)
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(idx(np.zeros((3, 4, 4), np.uint8)))
    with pytest.raises(DataError, match=r"expected \(n, 28, 28\)"):
        FashionMNIST("test", root=tmp_path)


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "offset 0"),
        (b"\0\0\x08", "offset 0"),
        (b"\0\0\x0d\x01\0\0\0\x01\0\0\0\0", "offset 2: type 0x0d"),
        (b"\0\0\x08\x02\0\0\0", "offset 4: the header ends"),
        (idx(np.zeros(5, np.uint8), (6,)), "offset 8: only 5 values, expected 6"),
        (idx(np.zeros(5, np.uint8), (4,)), "offset 8: more than 4 values"),
        (idx(np.zeros(0, np.uint8), (2**31, 2**31, 2**31)), "declares shape"),
        (idx(np.zeros(0, np.uint8), (2**28,)), "only 0|declares shape"),
    ],
)
def test_idx_files_that_lie(tmp_path, data, message, suffix):
    path = tmp_path / f"x-idx{suffix}"
    path.write_bytes(gzip.compress(data) if suffix else data)
    with pytest.raises(DataError, match=message):
        read_idx(path)


def test_damaged_gzip_and_absent_files(tmp_path):
    whole = gzip.compress(idx(np.arange(100, dtype=np.uint8)))
    for name, data in {"cut.gz": whole[:-20], "no.gz": b"no gzip at all", "crc.gz": whole[:-8] + bytes(8)}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match=name):
            read_idx(tmp_path / name)
    with pytest.raises(DataError, match="absent"):
        read_idx(tmp_path / "absent")


def test_images_of_a_wrong_shape_or_type_are_refused():
    with pytest.raises(DataError, match=r"expected uint8 or float32 \[n, C, S, S\]"):
        MemoryImages(torch.zeros(2, 1, 3, 4))
    with pytest.raises(DataError, match="int64"):
        MemoryImages(torch.zeros(2, 1, 3, 3), torch.zeros(2))
