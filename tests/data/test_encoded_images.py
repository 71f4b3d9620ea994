"""Image files from folders, WebDataset shards and Hugging Face data sets; the crop; what is refused."""

import io
import json
import struct
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from visionseq.data.decode import center_crop, decode_image, encode_png
from visionseq.data.image_folder import ImageFolder
from visionseq.data.webdataset import WebDatasetImages
from visionseq.errors import ConfigError, DataError


def picture(seed: int, width: int = 12, height: int = 9) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def encoded(image: Image.Image, kind: str = "PNG", **keywords) -> bytes:
    file = io.BytesIO()
    image.save(file, format=kind, **keywords)
    return file.getvalue()


def png_that_declares(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b"")]
    body = b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("size", [(100, 37), (37, 100), (8, 8), (17, 16), (5, 4), (64, 64)])
def test_the_crop_is_the_one_of_adm(size):
    original = picture(0, *size)
    step = original
    while min(step.size) >= 16:
        step = step.resize(tuple(side // 2 for side in step.size), resample=Image.BOX)
    scale = 8 / min(step.size)
    step = step.resize(tuple(round(side * scale) for side in step.size), resample=Image.BICUBIC)
    array = np.array(step)
    top, left = (array.shape[0] - 8) // 2, (array.shape[1] - 8) // 2
    assert (np.array(center_crop(original, 8)) == array[top : top + 8, left : left + 8]).all()


def test_lossless_formats_and_modes_decode_to_their_pixels():
    image = picture(1, 8, 8)
    pixels = np.array(image).transpose(2, 0, 1)
    assert (decode_image(encoded(image), "a", 8).numpy() == pixels).all()
    assert (decode_image(encoded(image, "WEBP", lossless=True), "a", 8).numpy() == pixels).all()
    assert decode_image(encoded(image, "JPEG"), "a", 8).shape == (3, 8, 8)
    assert (decode_image(encoded(image.convert("L")), "a", 8, 1).numpy()[0] == np.array(image.convert("L"))).all()
    assert (decode_image(encoded(image.convert("RGBA")), "a", 8).numpy() == pixels).all()
    deep = Image.fromarray((np.arange(64, dtype=np.uint16) * 1000).reshape(8, 8))
    assert decode_image(encoded(deep), "a", 8, 1).flatten().tolist() == [i * 1000 >> 8 for i in range(64)]
    assert (np.array(Image.open(io.BytesIO(encode_png(pixels)))) == np.array(image)).all()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"GIF89a" + bytes(50), "not a readable"),
        (b"<html>not found</html>", "not a readable"),
        (encoded(picture(0))[:-30], "not a readable"),
        (encoded(picture(0, 40, 40), "JPEG")[:400], "not a readable"),
        (png_that_declares(10_000, 10_000), "declares 10000 x 10000"),
        (png_that_declares(60_000, 60_000), "3600000000 pixels"),
        (png_that_declares(1, 60_000), "within a factor of 100"),
        (encoded(picture(0), "TIFF"), "not a readable"),
    ],
    ids=range(9),
)
def test_what_is_not_an_image_is_named(data, message):
    with pytest.raises(DataError, match=rf"there\.png.*{message}"):
        decode_image(data, "there.png", 8)


@pytest.fixture
def folder(tmp_path):
    for number, (name, kind) in enumerate([("dog/1.png", "PNG"), ("dog/sub/0.JPEG", "JPEG"), ("cat/2.webp", "WEBP")]):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(encoded(picture(number), kind))
    (tmp_path / "dog" / "notes.txt").write_text("not an image")
    (tmp_path / "dog" / ".hidden.png").write_text("not looked at")
    return tmp_path


def test_class_folders(folder):
    found = ImageFolder(folder, 8)
    assert found.class_names == ["cat", "dog"]
    assert found.labels.tolist() == [0, 1, 1]
    assert found[1].equal(decode_image(encoded(picture(0)), "", 8).float().div(255).sub(0.5).div(0.5))
    assert found.batch(np.array([2, 0])).image.shape == (2, 3, 8, 8)
    assert found.preprocessing == {"kind": "image", "size": 8, "channels": 3, "class_names": ["cat", "dog"]}


def test_flat_folders_and_the_choice(folder):
    assert ImageFolder(folder, 8, classes=False).labels is None
    assert len(ImageFolder(folder, 8, classes=False)) == 3
    (folder / "top.png").write_bytes(encoded(picture(9)))
    assert len(ImageFolder(folder, 8, classes=True)) == 3
    for number in range(3):
        write_picture(folder / f"{number}.png")
    assert ImageFolder(folder, 8).labels is None
    assert len(ImageFolder(folder, 8)) == 7


def test_folders_that_cannot_be_used(folder, tmp_path):
    with pytest.raises(DataError, match="not a folder"):
        ImageFolder(tmp_path / "none", 8)
    (tmp_path / "void").mkdir()
    with pytest.raises(DataError, match="no image"):
        ImageFolder(tmp_path / "void", 8)
    with pytest.raises(ConfigError, match="1 or 3 channels"):
        ImageFolder(folder, 8, channels=2)
    for name in ("cat/2.webp", "dog/1.png", "dog/sub/0.JPEG"):
        (folder / name).write_bytes(b"")
    with pytest.raises(DataError, match=r"1\.png: empty"):
        ImageFolder(folder, 8)[1]
    with pytest.raises(DataError, match="all 3 files are corrupt"):
        ImageFolder(folder, 8, skip_corrupt=True)


def add(tar: tarfile.TarFile, name: str, data: bytes, **keywords) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    for key, value in keywords.items():
        setattr(member, key, value)
    tar.addfile(member, io.BytesIO(data))


def write_tar(path, count=5, first=0, label="cls", style=tarfile.PAX_FORMAT, prefix="train/") -> None:
    with tarfile.open(path, "w", format=style) as tar:
        for number in range(first, first + count):
            add(tar, f"{prefix}{number:04d}.seg.png", b"another kind of member")
            add(tar, f"{prefix}{number:04d}.png", encoded(picture(number)))
            data = str(number % 3) if label == "cls" else json.dumps({"label": number % 3, "caption": "x"})
            add(tar, f"{prefix}{number:04d}.{label}", data.encode())


@pytest.mark.parametrize("label", ["cls", "json"])
@pytest.mark.parametrize(
    ("style", "prefix"),
    [(tarfile.PAX_FORMAT, "a/"), (tarfile.GNU_FORMAT, "long" * 40 + "/"), (tarfile.PAX_FORMAT, "ü" * 90 + "/")],
)
def test_shards_are_read_by_index(tmp_path, label, style, prefix):
    write_tar(tmp_path / "s-0.tar", 5, 0, label, style, prefix)
    write_tar(tmp_path / "s-1.tar", 3, 5, label, style, prefix)
    for shards in (tmp_path, str(tmp_path / "s-*.tar"), [tmp_path / "s-0.tar", tmp_path / "s-1.tar"]):
        found = WebDatasetImages(shards, 8, label_key=label, index_dir=tmp_path / "index")
        assert found.labels.tolist() == [0, 1, 2, 0, 1, 2, 0, 1]
        for number in (7, 0, 4):
            assert found.pixels(number).equal(decode_image(encoded(picture(number)), "", 8))
    assert len(list((tmp_path / "index").iterdir())) == 2


def test_an_index_follows_its_shard_and_may_be_damaged(tmp_path):
    shard, index = tmp_path / "s.tar", tmp_path / "index"
    write_tar(shard, 3)
    assert len(WebDatasetImages(shard, 8, index_dir=index)) == 3
    for file in index.iterdir():
        file.write_bytes(b"damaged")
    assert len(WebDatasetImages(shard, 8, index_dir=index)) == 3
    write_tar(shard, 4)
    assert len(WebDatasetImages(shard, 8, index_dir=index)) == 4
    (tmp_path / "file").write_text("in the way")
    assert len(WebDatasetImages(shard, 8, index_dir=tmp_path / "file")) == 4


def tar_of(path, *members) -> None:
    with tarfile.open(path, "w") as tar:
        for name, data, keywords in members:
            add(tar, name, data, **keywords)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("../a.png", b"x", {})], "outside"),
        ([("/etc/a.png", b"x", {})], "outside"),
        ([("a.png", b"", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"})], "a link or a device"),
        ([("a.png", b"", {"type": tarfile.LNKTYPE, "linkname": "b"})], "a link or a device"),
        ([("a.png", b"", {"type": tarfile.FIFOTYPE})], "a link or a device"),
        ([("a.png", b"x", {}), ("a.jpg", b"x", {})], "second image"),
        ([("a.png", b"x", {}), ("a.cls", b"cat", {})], "expected a class"),
        ([("a.png", b"x", {}), ("a.cls", b"-1", {})], "expected a class"),
        ([("a.png", b"x", {}), ("b.png", b"x", {}), ("b.cls", b"1", {})], r"without \.cls"),
        ([("a.txt", b"x", {})], "no images"),
    ],
)
def test_archives_that_are_refused(tmp_path, members, message):
    tar_of(tmp_path / "s.tar", *members)
    with pytest.raises(DataError, match=message):
        WebDatasetImages(tmp_path / "s.tar", 8, index_dir=tmp_path / "index")


def test_damaged_archives_name_the_offset(tmp_path):
    path = tmp_path / "s.tar"
    write_tar(path, 3)
    data = path.read_bytes()
    cases = {
        "offset 1024.*checksum": data[:1030] + b"\xff" + data[1031:],
        "ends": data[:1700],
        "closing block": data[:1024],
        "compressed with gzip": b"\x1f\x8b" + data[2:],
        "no such file|No such file": None,
    }
    for message, content in cases.items():
        path.unlink() if content is None else path.write_bytes(content)
        with pytest.raises(DataError, match=message):
            WebDatasetImages(path, 8, index_dir=tmp_path / "index")


def test_a_shard_that_shrinks_after_indexing(tmp_path):
    path = tmp_path / "s.tar"
    write_tar(path, 3)
    found = WebDatasetImages(path, 8, index_dir=tmp_path / "index")
    path.write_bytes(path.read_bytes()[:1100])
    with pytest.raises(DataError, match=r"s\.tar, offset \d+: the file ends"):
        found.pixels(2)


def test_hugging_face_data_sets(tmp_path):
    datasets = pytest.importorskip("datasets")
    if not hasattr(datasets, "Dataset"):
        pytest.skip("another package is named datasets")
    from visionseq.data.huggingface import HuggingFaceImages

    cells = [{"bytes": encoded(picture(number)), "path": None} for number in range(3)]
    cells.append({"bytes": b"damaged", "path": None})
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    table = datasets.table.InMemoryTable.from_pydict({"image": cells, "label": [0, 1, 0, 1]}, features.arrow_schema)
    # A given fingerprint, because some versions of the library fail to compute one for pyarrow's tables.
    rows = datasets.Dataset(table, datasets.DatasetInfo(features=features), fingerprint="given")
    rows.save_to_disk(str(tmp_path / "saved"))
    for source in (rows, str(tmp_path / "saved")):
        found = HuggingFaceImages(source, 8)
        assert found.labels.tolist() == [0, 1, 0, 1]
        assert found.class_names == ["a", "b"]
        assert found.pixels(2).equal(decode_image(encoded(picture(2)), "", 8))
        with pytest.raises(DataError, match="row 3"):
            found.pixels(3)
        assert len(HuggingFaceImages(source, 8, skip_corrupt=True)) == 3
    with pytest.raises(ConfigError, match="no column 'picture'"):
        HuggingFaceImages(rows, 8, image_column="picture")
    with pytest.raises(DataError, match="nowhere"):
        HuggingFaceImages(str(tmp_path / "nowhere"), 8)


def write_picture(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(picture(seed)))


def test_links_to_classes_are_followed_and_loops_end(tmp_path, caplog):
    for name in ("cats", "dogs"):
        write_picture(tmp_path / "elsewhere" / name / "a.png")
    root = tmp_path / "root"
    write_picture(root / "birds" / "a.png")
    (root / "cats").symlink_to(tmp_path / "elsewhere" / "cats", target_is_directory=True)
    (root / "dogs").symlink_to("../elsewhere/dogs", target_is_directory=True)
    (root / "birds" / "up").symlink_to(root, target_is_directory=True)
    (root / "birds" / "gone.png").symlink_to(tmp_path / "nothing.png")
    dataset = ImageFolder(root, 8)
    assert (len(dataset), dataset.class_names) == (3, ["birds", "cats", "dogs"])
    assert "left out 2 files" in caplog.text


def test_files_of_other_kinds_are_counted_and_named(tmp_path, caplog):
    write_picture(tmp_path / "a" / "1.png")
    for name in ("a/2.gif", "a/3.GIF", "b/4.bmp", "a/5.tiff", "a/6.avif", "a/.hidden.gif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert len(ImageFolder(tmp_path, 8)) == 1
    assert "left out 5 files: 2 .gif, 1 .tiff" in caplog.text
    with pytest.raises(DataError, match=r"no image .* it holds 1 file: 1 \.bmp; the first is 4\.bmp"):
        ImageFolder(tmp_path / "b", 8)


def test_a_stray_image_does_not_turn_classes_off(tmp_path, caplog):
    for name in ("a/1.png", "b/2.png", "preview.png"):
        write_picture(tmp_path / name)
    dataset = ImageFolder(tmp_path, 8)
    assert dataset.class_names == ["a", "b"]
    assert len(dataset) == 2
    assert "preview.png" in caplog.text
    assert ImageFolder(tmp_path, 8, classes=False).labels is None


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_stand_upright(tmp_path, orientation):
    image = picture(2, 8, 8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    (tmp_path / "a.png").write_bytes(encoded(image, exif=exif))
    upright = np.array(ImageOps.exif_transpose(Image.open(tmp_path / "a.png")))
    stored = np.array(image)
    for apply, expected in ((True, upright), (False, stored)):
        pixels = ImageFolder(tmp_path, 8, exif_orientation=apply).pixels(0).numpy()
        assert (pixels == expected.transpose(2, 0, 1)).all()
