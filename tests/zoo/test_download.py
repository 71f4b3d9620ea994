"""Files that arrive whole or not at all: drops, resumption, wrong hashes, pickles, full disks, many processes."""

import errno
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from visionseq.errors import ZooError
from visionseq.zoo.download import fetch
from visionseq.zoo.index import FileEntry
from visionseq.zoo.lock import exclusive

WEIGHTS = save({"w": torch.arange(250_000, dtype=torch.float32)})


@pytest.fixture
def weights_entry(file_entry):
    def describe(*sources: str, content: bytes = WEIGHTS, name: str = "model.safetensors") -> FileEntry:
        return FileEntry(name, **{**file_entry(content), "sources": sources})

    return describe


def everything_below(folder: Path) -> list[Path]:
    return list(folder.rglob("*"))


def test_fetch_resumes_through_dropped_connections(serve, weights_entry, tmp_path):
    server = serve(drop_rate=0.3)
    server.files["m.safetensors"] = WEIGHTS
    target = tmp_path / "out" / "model.safetensors"
    fetch(weights_entry(server.url("m.safetensors")), target, index_folder=tmp_path)
    assert target.read_bytes() == WEIGHTS
    assert server.drops > 3
    assert any(wanted for _, wanted in server.requests)  # Range requests were made
    assert server.bytes_sent < 2 * len(WEIGHTS)
    assert everything_below(target.parent) == [target]


def test_fetch_starts_again_where_the_server_has_no_ranges(serve, weights_entry, tmp_path):
    server = serve(drop_rate=0.02, ranges=False)
    server.files["m.safetensors"] = WEIGHTS
    fetch(weights_entry(server.url("m.safetensors")), tmp_path / "model.safetensors", index_folder=tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == WEIGHTS


def test_sixteen_processes_make_one_transfer(serve, write_index, file_entry, own_cache):
    server = serve(drop_rate=0.2)
    config = json.dumps({"format": 1}).encode()
    server.files.update({"m.safetensors": WEIGHTS, "config.json": config})
    write_index(
        big={
            "model.safetensors": file_entry(WEIGHTS, server.url("m.safetensors")),
            "config.json": file_entry(config, server.url("config.json")),
        }
    )
    command = [sys.executable, "-m", "visionseq", "zoo", "download", "big"]
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(16)
    ]
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0] * 16, outputs
    (folder,) = {out.strip() for out, _ in outputs}
    assert (Path(folder) / "model.safetensors").read_bytes() == WEIGHTS
    assert sorted(path.name for path in own_cache.rglob("*") if path.is_file()) == ["config.json", "model.safetensors"]
    # What the server sent and the client had not read when the connection dropped is sent again: at most a few buffers.
    assert server.bytes_sent <= len(WEIGHTS) + len(config) + server.drops * (1 << 18)
    assert sum(1 for path, wanted in server.requests if path == "/m.safetensors" and wanted is None) <= 1 + server.drops


def test_correctness_does_not_depend_on_the_lock(serve, weights_entry, tmp_path, monkeypatch):
    server = serve(drop_rate=0.1)
    server.files["m.safetensors"] = WEIGHTS
    entry, target = weights_entry(server.url("m.safetensors")), tmp_path / "out" / "model.safetensors"
    monkeypatch.setattr("filelock.FileLock.acquire", _no_locks)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: fetch(entry, target, index_folder=tmp_path), range(8)))
    assert target.read_bytes() == WEIGHTS
    assert [path for path in everything_below(target.parent) if path.suffix == ".part"] == []


def _no_locks(*_: object, **__: object) -> None:
    raise OSError(errno.ENOLCK, "no locks available")


def test_lock_is_given_up_after_the_timeout_and_removed_by_its_holder(tmp_path):
    path = tmp_path / "lock"
    with exclusive(path) as held:
        assert held
        with exclusive(path, timeout=0) as second:
            assert not second
    assert not path.exists()


def test_wrong_hash_leaves_nothing_behind(serve, weights_entry, tmp_path):
    server = serve()
    server.files["m.safetensors"] = WEIGHTS[:-1] + b"\1"
    with pytest.raises(ZooError, match=r"sha256 is .*, the index says"):
        fetch(weights_entry(server.url("m.safetensors")), tmp_path / "zoo/x/model.safetensors", index_folder=tmp_path)
    assert not (tmp_path / "zoo").exists()


@pytest.mark.parametrize("served", [WEIGHTS[: len(WEIGHTS) // 2], WEIGHTS + b"more", b"<html>not here</html>", b""])
def test_another_file_leaves_nothing_behind(served, serve, weights_entry, tmp_path):
    server = serve()
    server.files["m.safetensors"] = served
    with pytest.raises(ZooError, match=r"gives \d+ bytes, the index says 1000"):
        fetch(weights_entry(server.url("m.safetensors")), tmp_path / "zoo/x/model.safetensors", index_folder=tmp_path)
    assert not (tmp_path / "zoo").exists()


def test_sources_are_tried_in_turn(serve, weights_entry, tmp_path):
    bad, good = serve(), serve()
    bad.files["m.safetensors"] = b"\0" * len(WEIGHTS)
    good.files["m.safetensors"] = WEIGHTS
    sources = [
        "absent/model.safetensors",
        "file:///nowhere/model.safetensors",
        "http://127.0.0.1:9/m.safetensors",
        bad.url("gone.safetensors"),
        bad.url("m.safetensors"),
    ]
    target = tmp_path / "model.safetensors"
    with pytest.raises(ZooError) as failure:
        fetch(weights_entry(*sources), target, index_folder=tmp_path)
    message = str(failure.value)
    assert all(source in message for source in sources)
    for reason in ("no such file", "refused", "HTTP 404", "the index says", f"put at {target}"):
        assert reason in message
    fetch(weights_entry(*sources, good.url("m.safetensors")), target, index_folder=tmp_path)
    assert target.read_bytes() == WEIGHTS


def test_local_file_sources_are_copied_and_checked(weights_entry, tmp_path):
    (tmp_path / "a b.safetensors").write_bytes(WEIGHTS)
    target = tmp_path / "out/model.safetensors"
    fetch(weights_entry((tmp_path / "a b.safetensors").as_uri()), target, index_folder=tmp_path)
    assert target.read_bytes() == WEIGHTS
    (tmp_path / "a b.safetensors").write_bytes(WEIGHTS[:-1])
    with pytest.raises(ZooError, match="bytes, the index says"):
        fetch(weights_entry("a b.safetensors"), target, index_folder=tmp_path, force=True)
    assert target.read_bytes() == WEIGHTS  # the intact copy stays


def test_part_of_a_killed_process_is_taken_over(serve, weights_entry, tmp_path):
    server = serve()
    server.files["m.safetensors"] = WEIGHTS
    entry = weights_entry(server.url("m.safetensors"))
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    host = os.uname().nodename
    (tmp_path / f".model.safetensors.{entry.sha256[:16]}.{host}@{dead.pid}@abcd.part").write_bytes(WEIGHTS[:700_000])
    fetch(entry, tmp_path / "model.safetensors", index_folder=tmp_path)
    assert server.requests == [("/m.safetensors", "bytes=700000-")]
    assert everything_below(tmp_path) == [tmp_path / "model.safetensors"]


def test_spoilt_part_is_fetched_again_from_the_start(serve, weights_entry, tmp_path):
    server = serve()
    server.files["m.safetensors"] = WEIGHTS
    entry = weights_entry(server.url("m.safetensors"))
    (tmp_path / f".model.safetensors.{entry.sha256[:16]}.part").write_bytes(b"\xff" * 1000)
    fetch(entry, tmp_path / "model.safetensors", index_folder=tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == WEIGHTS


def test_interruption_keeps_the_part_for_the_next_attempt(serve, weights_entry, tmp_path, monkeypatch):
    server = serve()
    server.files["m.safetensors"] = WEIGHTS
    entry = weights_entry(server.url("m.safetensors"))

    def interrupt(_: object, done: int) -> None:
        if done > 300_000:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("visionseq.progress.Meter.reach", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fetch(entry, tmp_path / "model.safetensors", index_folder=tmp_path)
    assert not (tmp_path / "model.safetensors").exists()
    fetch(entry, tmp_path / "model.safetensors", index_folder=tmp_path)
    assert server.requests[1][1] is not None
    assert (tmp_path / "model.safetensors").read_bytes() == WEIGHTS


def test_pickle_behind_a_zoo_address_is_refused_unopened(serve, weights_entry, tmp_path):
    marker = tmp_path / "opened"

    class Bomb:
        def __reduce__(self):
            return (os.mkdir, (str(marker),))

    torch.save({"w": Bomb()}, tmp_path / "bomb.pth")
    bomb, server = (tmp_path / "bomb.pth").read_bytes(), serve()
    server.files["m.safetensors"] = bomb
    with pytest.raises(
        ZooError, match=r"no safetensors file but a zip archive, as torch.save writes it; it was not opened"
    ):
        fetch(
            weights_entry(server.url("m.safetensors"), content=bomb),
            tmp_path / "zoo/x/model.safetensors",
            index_folder=tmp_path,
        )
    assert not (tmp_path / "zoo").exists()
    assert not marker.exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_full_disk_is_said_and_leaves_nothing(serve, weights_entry, tmp_path):
    server = serve()
    server.files["m.safetensors"] = WEIGHTS
    entry = weights_entry(server.url("m.safetensors"))
    (tmp_path / f".model.safetensors.{entry.sha256[:16]}.part").symlink_to("/dev/full")
    with pytest.raises(ZooError, match=r"needs 1\.0 MB and the disk of .* is full"):
        fetch(entry, tmp_path / "model.safetensors", index_folder=tmp_path)
    assert everything_below(tmp_path) == []


def test_too_small_disk_is_said_before_the_transfer(weights_entry, tmp_path):
    entry = FileEntry("model.safetensors", "0" * 64, 1 << 60, ("http://127.0.0.1:9/m.safetensors",))
    with pytest.raises(ZooError, match="MB free"):
        fetch(entry, tmp_path / "model.safetensors", index_folder=tmp_path)


def test_no_network_names_the_host_problem(weights_entry, tmp_path):
    with pytest.raises(ZooError, match="is there a network"):
        fetch(
            weights_entry("https://visionseq.invalid/m.safetensors"),
            tmp_path / "m/x.safetensors",
            index_folder=tmp_path,
        )
    assert everything_below(tmp_path) == []


def test_offline_mode_names_the_folder_it_looked_in(weights_entry, tmp_path, monkeypatch):
    monkeypatch.setenv("VISIONSEQ_OFFLINE", "1")
    with pytest.raises(ZooError, match=f"switched off and {tmp_path}"):
        fetch(
            weights_entry("https://visionseq.invalid/m.safetensors"),
            tmp_path / "model.safetensors",
            index_folder=tmp_path,
        )


def test_proxy_of_the_environment_is_used(serve, weights_entry, tmp_path, monkeypatch):
    proxy = serve()
    proxy.files["http://visionseq.invalid/m.safetensors"] = WEIGHTS
    monkeypatch.setenv("http_proxy", proxy.url(""))
    fetch(
        weights_entry("http://visionseq.invalid/m.safetensors"), tmp_path / "model.safetensors", index_folder=tmp_path
    )
    assert proxy.requests == [("http://visionseq.invalid/m.safetensors", None)]
