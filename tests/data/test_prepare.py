"""From downloads to data sets: the scripts in datasets/, on small archives of the official layout."""

import gzip
import importlib.util
import io
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from visionseq.data.decode import decode_image
from visionseq.data.image_folder import ImageFolder
from visionseq.data.prepare import images_of, items_of, write_folder, write_shards
from visionseq.data.webdataset import WebDatasetImages
from visionseq.errors import ConfigError, DataError

ROOT = Path(__file__).resolve().parents[2]


def script(name: str):
    spec = importlib.util.spec_from_file_location(f"prepare_{name}", ROOT / "datasets" / name / "prepare.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.prepare


def encoded(seed: int, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, format=kind)
    return file.getvalue()


def tar_bytes(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return file.getvalue()


def test_every_source_gives_the_same_files(tmp_path):
    members = {"a/1.png": encoded(1), "a/notes.txt": b"x", "b/2.jpg": encoded(2, "JPEG"), ".trash/3.png": b"x"}
    for name, data in members.items():
        (tmp_path / "dir" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "dir" / name).write_bytes(data)
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    (tmp_path / "x.tar").write_bytes(tar_bytes(members))
    (tmp_path / "x.tar.gz").write_bytes(gzip.compress(tar_bytes(members)))
    inner = {"a.tar": tar_bytes({"1.png": encoded(1)}), "b.tar": tar_bytes({"2.jpg": encoded(2, "JPEG")})}
    (tmp_path / "nested.tar").write_bytes(tar_bytes(inner))
    for source in ("dir", "x.zip", "x.tar", "x.tar.gz", "nested.tar"):
        items = sorted(images_of(items_of(tmp_path / source)), key=lambda item: item.name)
        assert {item.name: item.read() for item in items} == {k: members[k] for k in ("a/1.png", "b/2.jpg")}
        assert [item.folders for item in items] == [["a"], ["b"]]


def test_unsafe_and_damaged_sources(tmp_path):
    (tmp_path / "evil.tar").write_bytes(tar_bytes({"../../evil.png": encoded(1)}))
    (tmp_path / "inner.tar").write_bytes(tar_bytes({"n1.tar": tar_bytes({"/etc/x.png": b"x"})}))
    (tmp_path / "cut.tar.gz").write_bytes(gzip.compress(tar_bytes({"a.png": encoded(1)}))[:-30])
    (tmp_path / "inner_cut.tar").write_bytes(tar_bytes({"n1.tar": tar_bytes({"x.png": encoded(1)})[:1024]}))
    messages = {"evil.tar": "outside", "inner.tar": "outside", "cut.tar.gz": "gzip", "inner_cut.tar": "ends"}
    for name, message in messages.items():
        with pytest.raises(DataError, match=message):
            write_folder([("x", item) for item in items_of(tmp_path / name)], tmp_path / "out", 8)
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    (tmp_path / "src").mkdir()
    for number in range(3):
        (tmp_path / "src" / f"{number}.png").write_bytes(encoded(number) if number != 1 else b"damaged")
    named = [(f"k/{item.name[:-4]}", item) for item in items_of(tmp_path / "src")]
    with pytest.raises(DataError, match=r"1\.png"):
        write_folder(named, tmp_path / "out", 8)
    assert not (tmp_path / "out").exists()
    assert write_folder(named, tmp_path / "out", 8, skip_corrupt=True) == 2
    found = ImageFolder(tmp_path / "out", 8)
    assert found.class_names == ["k"]
    assert found.pixels(1).equal(decode_image(encoded(2), "", 8))
    with pytest.raises(DataError, match="exists already"):
        write_folder(named, tmp_path / "out", 8)
    with pytest.raises(DataError, match="no images"):
        write_folder([], tmp_path / "empty", 8)


def test_shards_go_on_where_they_stopped(tmp_path):
    (tmp_path / "src").mkdir()
    for number in range(7):
        (tmp_path / "src" / f"{number}.png").write_bytes(encoded(number))
    items = [(number % 2, item) for number, item in enumerate(items_of(tmp_path / "src"))]
    (tmp_path / "src" / "5.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"5\.png"):
        write_shards(items, tmp_path / "out", 8, ["x", "y"], per_shard=3)
    assert [path.name for path in (tmp_path / "out").glob("*.tar")] == ["000000.tar"]
    (tmp_path / "src" / "5.png").write_bytes(encoded(5))
    (tmp_path / "src" / "0.png").write_bytes(b"")  # not read again
    assert write_shards(items, tmp_path / "out", 8, ["x", "y"], per_shard=3) == 3
    found = WebDatasetImages(tmp_path / "out", 8, index_dir=tmp_path / "index")
    assert found.class_names == ["x", "y"]
    assert found.labels.tolist() == [0, 1, 0, 1, 0, 1, 0]
    assert found.pixels(6).equal(decode_image(encoded(6), "", 8))


def test_shards_of_other_settings_are_refused_or_replaced(tmp_path):
    (tmp_path / "src").mkdir()
    for number in range(5):
        (tmp_path / "src" / f"{number}.png").write_bytes(encoded(number))
    items = [(number % 2, item) for number, item in enumerate(items_of(tmp_path / "src"))]
    out = tmp_path / "out"

    def write(items=items, size=8, class_names=("x", "y"), per_shard=2, **options) -> int:
        return write_shards(items, out, size, list(class_names), per_shard=per_shard, **options)

    assert write() == 3
    assert write() == 3  # the same call keeps them
    others = {
        "size: 16, .* with 8": {"size": 16},
        "class_names": {"class_names": ["y", "x"]},
        "per_shard: 3, .* with 2": {"per_shard": 3},
        "skip_corrupt": {"skip_corrupt": True},
        r"000000\.tar: .* other images": {"items": items[::-1]},
        r"000001\.tar: .* other images": {"items": [*items[:2], (1, items[2][1]), *items[3:]]},
        r"000002\.tar: not one of the 2 shards": {"items": items[:4]},
    }
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    for message, options in others.items():
        with pytest.raises(ConfigError, match=message):
            write(**options)
        assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert write(size=16, items=items[:2], overwrite=True) == 1
    assert sorted(path.name for path in out.glob("*.tar")) == ["000000.tar"]
    assert WebDatasetImages(out, 16, index_dir=tmp_path / "index").labels.tolist() == [0, 1]


def test_shards_of_unknown_origin_are_refused(tmp_path):
    (tmp_path / "src.png").write_bytes(encoded(0))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "000000.tar").write_bytes(tar_bytes({"a.png": encoded(1)}))
    items = [(None, item) for item in images_of(items_of(tmp_path)) if item.name == "src.png"]
    with pytest.raises(ConfigError, match=r"000000\.tar .* overwrite"):
        write_shards(items, tmp_path / "out", 8)
    assert write_shards(items, tmp_path / "out", 8, overwrite=True) == 1


def test_cifar10(tmp_path):
    rng = np.random.default_rng(0)
    records = {}
    for name in [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]:
        rows = rng.integers(0, 256, (4, 3073), dtype=np.uint8)
        rows[:, 0] = [3, 0, 3, 9]
        records[f"cifar-10-batches-bin/{name}"] = rows.tobytes()
    source = tmp_path / "cifar-10-binary.tar.gz"
    source.write_bytes(gzip.compress(tar_bytes(records)))
    script("cifar10")(source, tmp_path / "out")
    train = ImageFolder(tmp_path / "out" / "train", 32)
    assert (len(train), len(ImageFolder(tmp_path / "out" / "test", 32))) == (20, 4)
    assert train.class_names == ["airplane", "cat", "truck"]
    first = np.frombuffer(records["cifar-10-batches-bin/data_batch_1.bin"], np.uint8)[1:3073].reshape(3, 32, 32)
    assert (train.pixels(train.labels.tolist().index(1)).numpy() == first).all()
    for bad in (records["cifar-10-batches-bin/test_batch.bin"][:-1], b"\x0a" + bytes(3072)):
        records["cifar-10-batches-bin/test_batch.bin"] = bad
        source.write_bytes(gzip.compress(tar_bytes(records)))
        with pytest.raises(DataError, match=r"test_batch\.bin.*expected"):
            script("cifar10")(source, tmp_path / f"out{len(bad)}")
    source.write_bytes(gzip.compress(tar_bytes({"cifar-10-batches-py/data_batch_1": b"x"})))
    with pytest.raises(DataError, match=r"no data_batch_1\.bin"):
        script("cifar10")(source, tmp_path / "none")


def test_afhq_ffhq_and_imagenet(tmp_path):
    with zipfile.ZipFile(tmp_path / "afhq_v2.zip", "w") as archive:
        for split in ("train", "test"):
            for kind in ("cat", "dog"):
                archive.writestr(f"afhq/{split}/{kind}/flickr_{kind}_1.png", encoded(len(kind + split)))
    script("afhqv2")(tmp_path / "afhq_v2.zip", tmp_path / "afhq", size=8)
    assert ImageFolder(tmp_path / "afhq" / "test8", 8).class_names == ["cat", "dog"]

    for number in (1000, 2, 30):
        path = tmp_path / "images1024x1024" / f"{number // 1000 * 1000:05d}" / f"{number:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(number))
    script("ffhq")(tmp_path / "images1024x1024", tmp_path / "ffhq", size=8)
    faces = WebDatasetImages(tmp_path / "ffhq", 8, index_dir=tmp_path / "index")
    assert faces.labels is None
    assert faces.pixels(2).equal(decode_image(encoded(1000), "", 8))

    classes = {f"n{i}.tar": tar_bytes({f"n{i}_{j}.JPEG": encoded(i + j, "JPEG") for j in range(2)}) for i in (7, 3)}
    (tmp_path / "ILSVRC2012_img_train.tar").write_bytes(tar_bytes(classes))
    script("imagenet64")(tmp_path / "ILSVRC2012_img_train.tar", tmp_path / "imagenet", size=8)
    images = WebDatasetImages(tmp_path / "imagenet", 8, index_dir=tmp_path / "index")
    assert images.class_names == ["n3", "n7"]
    assert images.labels.tolist() == [1, 1, 0, 0]


def test_a_script_says_what_is_wrong_in_one_line(tmp_path):
    command = [sys.executable, ROOT / "datasets" / "fashion_mnist" / "prepare.py", tmp_path / "void"]
    (tmp_path / "void").mkdir()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("DataError: Fashion-MNIST: no train-images")
    assert done.stderr.count("\n") == 1
