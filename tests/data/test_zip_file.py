"""Zip archives: ours read by the standard library, its read by ours; what an archive may not say."""

import io
import itertools
import zipfile
from copy import deepcopy

import numpy as np
import pytest

from visionseq.data import zip_file
from visionseq.data.zip_file import ZipArchive, ZipWriter
from visionseq.errors import DataError

MEMBERS = {"a.txt": b"hello" * 100, "b/ü.bin": bytes(range(256)), "empty": b""}


def ours(members) -> bytes:
    file = io.BytesIO()
    writer = ZipWriter(file)
    for name, data in members.items():
        writer.write(name, data)
    writer.close()
    return file.getvalue()


def theirs(members, method=zipfile.ZIP_DEFLATED, comment=b"") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.comment = comment
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def contents(path) -> dict[str, bytes]:
    archive = ZipArchive(path)
    return {name.decode(): archive.read(number) for number, name in enumerate(archive.names.tolist())}


def test_the_standard_library_reads_what_we_write():
    with zipfile.ZipFile(io.BytesIO(ours(MEMBERS))) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == MEMBERS
    assert ours(MEMBERS) == ours(MEMBERS)


@pytest.mark.parametrize(
    "data", [theirs(MEMBERS), theirs(MEMBERS, zipfile.ZIP_STORED, b"PK\5\6 in a comment"), ours(MEMBERS)]
)
def test_we_read_what_both_write(tmp_path, data):
    (tmp_path / "x.zip").write_bytes(data)
    assert contents(tmp_path / "x.zip") == MEMBERS


def test_more_members_than_sixteen_bits_count(tmp_path):
    path = tmp_path / "many.zip"
    path.write_bytes(ours({f"{number:06d}": b"" for number in range(70_000)}))
    with zipfile.ZipFile(path) as archive:
        assert len(archive.namelist()) == 70_000
    assert ZipArchive(path).names[[0, 69_999]].tolist() == [b"000000", b"069999"]


def test_offsets_beyond_four_gigabytes(tmp_path):
    path = tmp_path / "sparse.zip"
    with open(path, "wb") as file:
        writer = ZipWriter(file)
        writer.write("first", b"1")
        hole = 5 << 30
        file.seek(hole, 1)  # a hole in a sparse file stands for gigabytes of members
        writer._offset += hole
        writer.write("beyond", b"22")
        writer.close()
    assert contents(path) == {"first": b"1", "beyond": b"22"}
    with zipfile.ZipFile(path) as archive:
        assert archive.read("beyond") == b"22"


def bad_name(name: str) -> bytes:
    return theirs({"0123456789": b"x"}).replace(b"0123456789", name.encode().ljust(10, b"x"))


def bomb() -> bytes:
    return theirs({"bomb": bytes(1 << 20)}).replace((1 << 20).to_bytes(4, "little"), (1 << 31).to_bytes(4, "little"))


def link() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        member = zipfile.ZipInfo("link")
        member.create_system, member.external_attr = 3, 0o120777 << 16
        archive.writestr(member, "/etc/passwd")
    return file.getvalue()


def twice() -> bytes:
    return theirs({"aaaa": b"x", "bbbb": b"y"}).replace(b"bbbb", b"aaaa")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (bad_name("../../evil"), "outside"),
        (bad_name("/etc/passw"), "outside"),
        (bad_name("C:\\windows"), "outside"),
        (bad_name("..\\..\\evil"), "outside"),
        (bad_name("new\nline"), "outside"),
        (bomb(), "cannot be"),
        (link(), "a link"),
        (twice(), "two members"),
        (theirs(MEMBERS, zipfile.ZIP_BZIP2), "method 12"),
        (ours(MEMBERS)[:-10], "directory is missing"),
        (b"", "directory is missing"),
        (b"PK\x03\x04 only a beginning", "directory is missing"),
    ],
    ids=itertools.count(),
)
def test_archives_that_are_refused(tmp_path, data, message):
    (tmp_path / "bad.zip").write_bytes(data)
    with pytest.raises(DataError, match=rf"bad\.zip.*{message}"):
        ZipArchive(tmp_path / "bad.zip")


def test_damaged_members_are_named(tmp_path):
    path = tmp_path / "x.zip"
    for data in (ours(MEMBERS), theirs(MEMBERS)):
        place = data.index(b"a.txt") + 12
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with pytest.raises(DataError, match=r"x\.zip, a\.txt, offset 0"):
            ZipArchive(path).read(0)


def test_open_files_stay_in_their_process(tmp_path):
    (tmp_path / "x.zip").write_bytes(ours(MEMBERS))
    archive = ZipArchive(tmp_path / "x.zip")
    archive.read(0)
    copy = deepcopy(archive)  # by way of the state that a spawned worker gets
    assert not copy._files._files
    assert copy.read(1) == archive.read(1)


def test_the_limit_on_open_files(tmp_path, monkeypatch):
    monkeypatch.setattr("visionseq.data.random_access._MOST_OPEN", 2)
    files = zip_file.RandomAccess()
    for number in [0, 1, 2, 3, 0, 1]:
        (tmp_path / str(number)).write_bytes(bytes([number]))
        assert files.read(tmp_path / str(number), 0, 1) == bytes([number])
    assert len(files._files) == 2
    assert np.frombuffer(files.read(tmp_path / "3", 0, 1), np.uint8)[0] == 3
