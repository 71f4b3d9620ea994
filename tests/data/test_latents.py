"""Latent shards, and the safetensors shards beneath them and the pairs."""

import json
from copy import deepcopy

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from visionseq.data.image_data import ImageData
from visionseq.data.latents import LatentShards, LatentWriter
from visionseq.data.shards import TensorShards
from visionseq.errors import ConfigError, DataError


def latents(start: int, count: int) -> torch.Tensor:
    return torch.randn(count, 4, 3, 3, generator=torch.Generator().manual_seed(start))


def write(folder, mirrored=True, dtype=torch.float32, **keywords) -> torch.Tensor:
    writer = LatentWriter(folder, ["a", "b"], "some-vae, 0.18215")
    whole = []
    for start, count in ((0, 5), (5, 2), (7, 6)):
        part = latents(start, count).to(dtype)
        writer.write(part, torch.arange(start, start + count) % 2, part.flip(-1) + 100 if mirrored else None)
        whole.append(part.float())
    return torch.cat(whole)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("in_memory", [True, False])
def test_latents_come_back_as_float32(tmp_path, dtype, in_memory):
    expected = write(tmp_path, dtype=dtype)
    found = LatentShards(tmp_path, in_memory)
    order = np.random.default_rng(0).permutation(13)
    batch = found.batch(order)
    assert batch.image.dtype == torch.float32
    assert batch.image.equal(expected[torch.from_numpy(order)])
    assert batch.label.equal(torch.from_numpy(order % 2))
    assert found[6].equal(expected[6])
    assert found.preprocessing == {
        "kind": "latent",
        "size": 3,
        "channels": 4,
        "class_names": ["a", "b"],
        "encoder": "some-vae, 0.18215",
    }
    assert deepcopy(found).batch(order).image.equal(batch.image)


def test_the_mirror_of_a_latent_is_a_latent_of_its_own(tmp_path):
    expected = write(tmp_path / "with")
    batch = next(iter(ImageData(LatentShards(tmp_path / "with"), 13, flip=True).train_dataloader()))
    mirrored = batch.image.mean((1, 2, 3)) > 50
    assert 0 < mirrored.sum() < 13
    assert batch.image[mirrored].equal(expected[batch.index[mirrored]].flip(-1) + 100)
    assert batch.image[~mirrored].equal(expected[batch.index[~mirrored]])
    write(tmp_path / "without", mirrored=False)
    with pytest.raises(ConfigError, match="flip"):
        ImageData(LatentShards(tmp_path / "without"), 4, flip=True)


def test_writing_goes_on_after_the_last_shard(tmp_path):
    write(tmp_path)
    writer = LatentWriter(tmp_path, ["a", "b"], "some-vae, 0.18215")
    assert writer.done == 3
    writer.write(latents(0, 1), torch.zeros(1, dtype=torch.int64), latents(0, 1))
    assert len(LatentShards(tmp_path)) == 14
    (tmp_path / "latents-000001.safetensors").unlink()
    with pytest.raises(DataError, match="without a gap"):
        LatentWriter(tmp_path, ["a", "b"], "some-vae, 0.18215")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ((["a", "b"], "other-vae"), "encoder other-vae, the shard was made with some-vae, 0.18215"),
        ((["b", "a"], "some-vae, 0.18215"), r'class_names \["b", "a"\], the shard was made with \["a", "b"\]'),
    ],
)
def test_latents_of_other_settings_are_refused_or_replaced(tmp_path, settings, message):
    write(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ConfigError, match=rf"latents-000000\.safetensors: {message}.* overwrite"):
        LatentWriter(tmp_path, *settings)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    LatentWriter(tmp_path, *settings, overwrite=True).write(latents(0, 1))
    found = LatentShards(tmp_path)
    assert len(found) == 1
    assert (found.class_names, found.encoder) == settings


Z = torch.zeros


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"latent": Z(2, 4, 3, 4)}, r"expected \[C, S, S\]"),
        ({"latent": Z(2, 4, 3, 3, dtype=torch.float64)}, "F64"),
        ({"latent": Z(0, 4, 3, 3)}, "positive number of rows"),
        ({"other": Z(2, 4, 3, 3)}, "no tensor 'latent'"),
        ({"latent": Z(2, 4, 3, 3), "label": Z(3, dtype=torch.int64)}, "one positive number of rows"),
        ({"latent": Z(2, 4, 3, 3), "label": Z(2, 1, dtype=torch.int64)}, "one number per latent"),
        ({"latent": Z(2, 4, 3, 3), "mirrored": Z(2, 4, 4, 4)}, r"expected \[C, S, S\]"),
        ({"latent": Z(())}, "with rows"),
    ],
)
def test_shards_with_other_contents_are_refused(tmp_path, tensors, message):
    save_file(tensors, tmp_path / "x.safetensors")
    with pytest.raises(DataError, match=rf"{message}"):
        LatentShards(tmp_path)


def test_shards_that_do_not_fit_each_other(tmp_path):
    save_file({"latent": Z(2, 4, 3, 3)}, tmp_path / "a.safetensors")
    save_file({"latent": Z(2, 4, 5, 5)}, tmp_path / "b.safetensors")
    with pytest.raises(DataError, match=r"b\.safetensors.*as in a\.safetensors"):
        LatentShards(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        LatentShards(tmp_path / "none")
    (tmp_path / "void").mkdir()
    with pytest.raises(DataError, match=r"no \.safetensors shards"):
        LatentShards(tmp_path / "void")


def test_headers_that_lie(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file({"latent": Z(2, 4, 3, 3)}, path)
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header["latent"]["shape"] = [2_000_000_000, 4, 3, 3]
    lying = json.dumps(header).encode()
    for content in (
        data[:-1],
        data + b"x",
        data[:30],
        (1 << 60).to_bytes(8, "little") + data[8:],
        len(lying).to_bytes(8, "little") + lying + data[8 + length :],
        b"",
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"x\.safetensors: not a whole safetensors file"):
            TensorShards(path, {"latent": ("F32",)})
    save_file({"latent": Z(2, 4, 3, 3)}, path, {"class_names": "[1]"})
    with pytest.raises(DataError, match="expected a list of names"):
        LatentShards(path)
