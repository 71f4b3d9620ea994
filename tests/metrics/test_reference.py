"""Reference statistics and arrays from npz files of strangers: right ones load, anything else is a `DataError`."""

import io
import random
import tracemalloc
import zipfile

import numpy as np
import pytest

from visionseq.errors import DataError
from visionseq.metrics.reference import load_statistics, save_statistics
from visionseq.npz import Expected, read_npz

MEMORY = 64 << 20  # bytes that reading a file of a few kilobytes may take at its peak


def gaussian(width: int) -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(0).normal(size=(3 * width, width))
    return x.mean(0), np.cov(x, rowvar=False)


def header(shape: str, descr: str = "'<f8'", fortran: str = "False") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def archive(path, **members: bytes):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(f"{name}.npy", data)
    return path


def test_round_trip(tmp_path):
    mu, sigma = gaussian(7)
    save_statistics(tmp_path / "new" / "reference.npz", mu, sigma)
    loaded = load_statistics(tmp_path / "new" / "reference.npz")
    assert np.array_equal(loaded[0], mu)
    assert np.array_equal(loaded[1], sigma)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["reference.npz"]


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("dtype", ["<f8", ">f8", "<f4"])
def test_files_of_other_tools(tmp_path, save, dtype):
    mu, sigma = gaussian(5)
    save(tmp_path / "r.npz", mu=mu.astype(dtype), sigma=np.asfortranarray(sigma.astype(dtype)), extra=np.zeros(3, "i4"))
    loaded = load_statistics(tmp_path / "r.npz")
    assert loaded[0].dtype == loaded[1].dtype == np.float64
    np.testing.assert_allclose(loaded[1], sigma, rtol=1e-6)


def test_wrong_arrays_are_named(tmp_path):
    path, (mu, sigma) = tmp_path / "r.npz", gaussian(4)
    cases = {
        "no array 'sigma'": {"mu": mu},
        "expected 2 axes": {"mu": mu, "sigma": mu},
        r"mu \[4\] and sigma \[3, 3\]": {"mu": mu, "sigma": sigma[:3, :3]},
        "int64": {"mu": np.arange(4), "sigma": sigma},
        "complex": {"mu": mu, "sigma": sigma.astype(complex)},
        "not finite": {"mu": mu, "sigma": sigma * np.inf},
        "not symmetric": {"mu": mu, "sigma": np.triu(sigma) + 1},
        "negative": {"mu": mu, "sigma": -sigma},
        "object": {"mu": mu, "sigma": np.array([[{}]], dtype=object)},
    }
    for message, arrays in cases.items():
        np.savez(path, **arrays)
        with pytest.raises(DataError, match=message) as caught:
            load_statistics(path)
        assert str(path) in str(caught.value)


def test_a_missing_file_and_other_files(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        load_statistics(tmp_path / "absent.npz")
    for content in (b"", b"PK", b"not a zip", b"\x93NUMPY\x01\x00"):
        (tmp_path / "x.npz").write_bytes(content)
        with pytest.raises(DataError, match="no intact npz"):
            load_statistics(tmp_path / "x.npz")


def test_claimed_sizes_are_not_believed(tmp_path):
    path = tmp_path / "bomb.npz"
    tracemalloc.start()
    for shape, data in (
        ("(8192, 8192)", b""),
        ("(10**9,)", b""),
        ("(4, 4)", bytes(8)),
        ("(-1, -1)", bytes(8)),
        ("(2,) * 40", bytes(8)),
        ("(1000000, 1000000)", bytes(1 << 20)),
    ):
        archive(path, mu=header("(4,)") + bytes(32), sigma=header(shape) + data)
        with pytest.raises(DataError):
            load_statistics(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < MEMORY


def test_more_features_than_any_network_has(tmp_path):
    archive(tmp_path / "r.npz", mu=header("(9000,)") + bytes(72_000), sigma=header("(1, 1)") + bytes(8))
    with pytest.raises(DataError, match="72000 bytes"):
        load_statistics(tmp_path / "r.npz")


def test_optional_members(tmp_path):
    np.savez(tmp_path / "x.npz", arr_0=np.zeros((2, 3), np.uint8))
    kinds = {"arr_0": Expected(axes=2, kinds="u"), "arr_1": Expected(axes=1, kinds="i", required=False)}
    assert set(read_npz(tmp_path / "x.npz", kinds)) == {"arr_0"}


def mutated(data: bytes, other: bytes, draw: random.Random) -> bytes:
    """One file with a few of its bytes changed, cut, repeated or taken from another file."""
    kind = draw.choice(["flip", "truncate", "splice", "zero", "header", "insert"])
    position = draw.randrange(len(data))
    if kind == "flip":
        changed = bytearray(data)
        for _ in range(draw.choice([1, 1, 4, 64])):
            changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
        return bytes(changed)
    if kind == "truncate":
        return data[:position]
    if kind == "splice":
        return data[:position] + other[draw.randrange(len(other)) :]
    if kind == "zero":
        return data[:position] + bytes(min(16, len(data) - position)) + data[position + 16 :]
    if kind == "header":
        start = data.find(b"NUMPY", draw.randrange(len(data) // 2))
        at = max(start, 0) + draw.randrange(90)
        return data[:at] + bytes([draw.randrange(256)]) + data[at + 1 :]
    return data[:position] + draw.randbytes(draw.randrange(1, 9)) + data[position:]


def fuzz(tmp_path, rounds: int) -> None:
    (mu, sigma), draw = gaussian(9), random.Random(0)
    sources = []
    for save in (np.savez, np.savez_compressed):
        file = io.BytesIO()
        save(file, mu=mu, sigma=sigma)
        sources.append(file.getvalue())
    path = tmp_path / "mutated.npz"
    refused = 0
    tracemalloc.start()
    for number in range(rounds):
        path.write_bytes(mutated(sources[number % 2], sources[1 - number % 2], draw))
        try:
            found = load_statistics(path)
        except DataError as error:
            refused += str(path) in str(error)
        else:  # the change hit bytes that carry nothing, such as a date
            assert np.array_equal(found[0], mu)
            assert np.array_equal(found[1], sigma)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert refused > rounds / 3
    assert peak < MEMORY


def test_damaged_files_give_our_error(tmp_path):
    fuzz(tmp_path, 200)


@pytest.mark.slow
def test_damaged_files_give_our_error_at_length(tmp_path):
    fuzz(tmp_path, 1000)
