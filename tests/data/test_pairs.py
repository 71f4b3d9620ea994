"""Reflow pairs: noise records, both layouts written, resumed and read, and what is wrong with others' files."""

import os
import signal
import sys
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from visionseq.data.decode import encode_png
from visionseq.data.pair_data import PairData
from visionseq.data.pairs.noise import (
    draw_noise,
    noise_from_record,
    official_noise,
    record_from_state,
)
from visionseq.data.pairs.opening import open_pair_writer, open_pairs
from visionseq.errors import ConfigError, DataError

SHAPE = (3, 4, 4)


def made(start: int, count: int) -> dict:
    records, noise = draw_noise(0, start, count, SHAPE)
    image = torch.from_numpy(
        np.stack([np.random.default_rng(i).integers(0, 256, SHAPE, np.uint8) for i in range(start, start + count)])
    )
    return {
        "image": image,
        "label": torch.arange(start, start + count) % 10,
        "noise": noise,
        "records": records,
    }


def write(folder, layout, total=10, chunk=4, **keywords) -> None:
    with open_pair_writer(folder, layout, **keywords) as writer:
        for part in writer.missing(total, chunk):
            writer.write(part.start, **made(part.start, len(part)))


def assert_pairs(path, total, labelled=True, **keywords) -> None:
    found, expected = open_pairs(path, **keywords), made(0, total)
    assert len(found) == total
    order = np.random.default_rng(0).permutation(total)
    batch = found.batch(order)
    index = torch.from_numpy(order)
    assert batch.noise.equal(expected["noise"][index])
    assert batch.image.equal(expected["image"][index].float().div(255).sub(0.5).div(0.5))
    assert batch.index.equal(index)
    assert batch.label.equal(expected["label"][index]) if labelled else batch.label is None


def test_records_are_the_state_before_the_draw_in_the_official_order():
    generator, stream = np.random.default_rng(5), official_noise(5, SHAPE)
    for _ in range(3):
        state = generator.bit_generator.state
        record, noise = next(stream)
        assert record == record_from_state(state)
        assert noise.numpy().tolist() == generator.standard_normal(SHAPE).astype(np.float32).tolist()
        assert noise_from_record(record, SHAPE).equal(noise)
    assert record[:16] == state["state"]["state"].to_bytes(16, "big")


def test_draws_of_a_range_do_not_depend_on_the_range():
    records, noise = draw_noise(7, 0, 6, SHAPE)
    later_records, later = draw_noise(7, 4, 2, SHAPE)
    assert (records[4:] == later_records).all()
    assert noise[4:].equal(later)
    assert not noise[0].equal(draw_noise(8, 0, 1, SHAPE)[1][0])
    assert abs(draw_noise(7, 0, 200, (10, 10))[1].std().item() - 1) < 0.02


@pytest.mark.parametrize("record", [b"", bytes(31), bytes(32), bytes(33)])
def test_records_that_are_none(record):
    with pytest.raises(DataError, match="here: "):
        noise_from_record(record, SHAPE, "here")
    with pytest.raises(DataError, match="MT19937"):
        record_from_state(np.random.MT19937().state)


@pytest.mark.parametrize("layout", ["zip", "shards"])
def test_written_at_once_or_in_pieces(tmp_path, layout):
    write(tmp_path / "once", layout)
    assert_pairs(tmp_path / "once", 10)
    for total in (3, 6, 9, 10):
        write(tmp_path / "pieces", layout, total, 4)
        assert_pairs(tmp_path / "pieces", total)
    assert not (tmp_path / "pieces" / "parts").exists()
    if layout == "zip":
        assert (tmp_path / "once" / "z.zip").read_bytes() == (tmp_path / "pieces" / "z.zip").read_bytes()


@pytest.mark.parametrize("in_memory", [True, False])
def test_shards_in_memory_and_mapped(tmp_path, in_memory):
    write(tmp_path, "shards")
    assert_pairs(tmp_path, 10, in_memory=in_memory)
    data = PairData(str(tmp_path), 4, in_memory=in_memory, eval_path=str(tmp_path))
    assert sum(len(batch) for batch in data.val_dataloader()) == 10
    assert len(next(iter(data.train_dataloader()))) == 4
    assert next(iter(PairData(str(tmp_path), 20, class_balanced=True).train_dataloader())).label.bincount().max() == 2


def test_the_zip_layout_is_the_official_one(tmp_path):
    write(tmp_path, "zip")
    with zipfile.ZipFile(tmp_path / "samples.zip") as images, zipfile.ZipFile(tmp_path / "z.zip") as records:
        assert images.namelist() == [f"{i:05d}.png" for i in range(10)]
        assert records.namelist() == [f"{i:05d}.bin" for i in range(10)]
        assert records.read("00003.bin") == bytes(made(3, 1)["records"][0])
    assert (tmp_path / "images_labels.csv").read_text().splitlines()[:2] == ["00000.png,0", "00001.png,1"]


def test_above_sixty_thousand_pairs_names_get_folders(tmp_path):
    write(tmp_path, "zip", 2)
    assert zipfile.ZipFile(tmp_path / "z.zip").namelist() == ["00000.bin", "00001.bin"]
    with open_pair_writer(tmp_path, "zip") as writer:
        writer.write(60_000, **made(60_000, 2))
    assert zipfile.ZipFile(tmp_path / "z.zip").namelist() == [
        "0/00000.bin",
        "0/00001.bin",
        "1/60000.bin",
        "1/60001.bin",
    ]
    found = open_pairs(tmp_path)
    assert [found.name(i) for i in range(4)] == ["0/00000.png", "0/00001.png", "1/60000.png", "1/60001.png"]
    assert found.labels.tolist() == [0, 1, 0, 1]
    assert found.noise(2).equal(draw_noise(0, 60_000, 1, SHAPE)[1][0])


@given(st.integers(0, 40), st.integers(1, 9), st.sets(st.integers(0, 50)))
def test_missing_is_the_rest_in_chunks(tmp_path_factory, total, chunk, done):
    writer = open_pair_writer(tmp_path_factory.mktemp("pairs"))
    writer.done = lambda: np.array(sorted(done), dtype=np.int64)
    parts = writer.missing(total, chunk)
    assert [i for part in parts for i in part] == sorted(set(range(total)) - done)
    assert all(part.start // chunk == (part.stop - 1) // chunk for part in parts)


@pytest.mark.parametrize("layout", ["zip", "shards"])
def test_no_pair_twice_and_no_mixture_of_recipes(tmp_path, layout):
    writer = open_pair_writer(tmp_path, layout, {"class_names": ["a", "b"]}, {"seed": 0, "steps": 18})
    writer.write(4, **made(4, 4))
    with pytest.raises(ConfigError, match="pair 5 is already written"):
        writer.write(5, **made(5, 1))
    with pytest.raises(ConfigError, match="another recipe"):
        open_pair_writer(tmp_path, layout, recipe={"seed": 1, "steps": 18})
    assert open_pair_writer(tmp_path, layout).done().tolist() == [4, 5, 6, 7]
    writer.close()
    assert open_pairs(tmp_path).class_names == ["a", "b"]
    assert open_pair_writer(tmp_path, layout).missing(9, 100) == [range(4), range(8, 9)]
    with pytest.raises(ConfigError):
        writer.write(20, torch.zeros(1, *SHAPE, dtype=torch.uint8))


def test_unfinished_zips_say_so(tmp_path):
    open_pair_writer(tmp_path, "zip").write(0, **made(0, 2))
    with pytest.raises(DataError, match="unfinished"):
        open_pairs(tmp_path)
    with pytest.raises(ConfigError, match="layout"):
        open_pair_writer(tmp_path, "tape")
    with pytest.raises(DataError, match="no pairs"):
        open_pairs(tmp_path / "nowhere")


def test_one_zip_and_plain_folders(tmp_path):
    pairs = made(0, 3)
    with zipfile.ZipFile(tmp_path / "pairs.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(3):
            archive.writestr(f"x/{i:05d}.png", encode_png(pairs["image"][i]))
            archive.writestr(f"x/{i:05d}.bin", bytes(pairs["records"][i]))
        archive.writestr("images_labels.csv", "name,label\n00000.png,0\nx/00001.png,1\n00002.png,2\n")
    assert_pairs(tmp_path / "pairs.zip", 3)
    with zipfile.ZipFile(tmp_path / "pairs.zip") as archive:
        for folder, suffix in (("samples", ".png"), ("z", ".bin")):
            (tmp_path / "dir" / folder).mkdir(parents=True)
            for i in range(3):
                (tmp_path / "dir" / folder / f"{i:05d}{suffix}").write_bytes(archive.read(f"x/{i:05d}{suffix}"))
    assert_pairs(tmp_path / "dir", 3, labelled=False)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("samples/00001.png", b"no image", r"00001\.png"),
        ("samples/00001.png", encode_png(np.zeros((3, 8, 8), np.uint8)), r"\(8, 8\) pixels, expected \(4, 4\)"),
        ("z/00001.bin", bytes(31), r"00001\.bin: 31 bytes, expected 32"),
        ("z/00009.bin", bytes(32), r"00009\.bin: no image 00009\.png"),
        ("images_labels.csv", b"00000.png,0\n00001.png,cat\n", r"line 2: '00001\.png,cat', expected name\.png,label"),
        ("images_labels.csv", b"00000.png,0\n00001.png,0\n", r"no row for 00002\.png"),
        ("images_labels.csv", b"\xff\xfe\x00", "not a csv"),
        ("pairs.json", b"{", "not a JSON text"),
        ("pairs.json", b'{"preprocessing": {"class_names": [1]}}', "expected a list of names"),
    ],
)
def test_damaged_pairs_name_the_file(tmp_path, name, data, message):
    pairs = made(0, 3)
    for i in range(3):
        for file, content in (
            (f"samples/{i:05d}.png", encode_png(pairs["image"][i])),
            (f"z/{i:05d}.bin", bytes(pairs["records"][i])),
        ):
            (tmp_path / file).parent.mkdir(exist_ok=True)
            (tmp_path / file).write_bytes(content)
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=message):
        open_pairs(tmp_path).batch(np.arange(3))


@pytest.mark.parametrize("layout", ["zip", "shards"])
@pytest.mark.parametrize("rounds", [2, pytest.param(12, marks=pytest.mark.slow)])
def test_a_writer_killed_at_any_moment_leaves_whole_files_and_resumes(tmp_path, layout, rounds):
    folder = tmp_path / "pairs"
    kills = np.random.default_rng(rounds).integers(1, 40, rounds)
    for kill in kills:
        _run_until_write(folder, layout, int(kill))
        for path in folder.rglob("*.zip"):
            with zipfile.ZipFile(path) as archive:
                assert archive.testzip() is None
                assert len(set(archive.namelist())) == len(archive.namelist())
    write(folder, layout, 60, 5)
    assert_pairs(folder, 60)
    assert not list(folder.rglob(".*"))


def _run_until_write(folder, layout: str, kill: int) -> None:
    """Run the writer in a child that kills itself at its `kill`-th step that changes a file's name or content."""
    child = os.fork()
    if child == 0:
        try:
            _kill_at(kill)
            write(folder, layout, 60, 5)
        finally:
            os._exit(0)
    os.waitpid(child, 0)


def _kill_at(kill: int) -> None:
    left = kill

    def audit(event: str, arguments: tuple) -> None:
        nonlocal left
        if event in ("os.rename", "os.remove", "os.rmdir", "os.chmod"):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(audit)
