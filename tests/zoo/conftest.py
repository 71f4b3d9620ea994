"""A web server on this machine with the faults of the real ones, and small models and indexes to serve."""

import hashlib
import random
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from visionseq.rectified_flow.model import EDMVelocity


class FaultyServer:
    """Serves `files` with Range support; drops a connection after each chunk with probability `drop_rate`."""

    def __init__(self, drop_rate: float = 0.0, ranges: bool = True):
        self.files: dict[str, bytes] = {}
        self.drop_rate, self.ranges = drop_rate, ranges
        self.requests: list[tuple[str, str | None]] = []
        self.bytes_sent = self.drops = 0
        self.random, self.lock = random.Random(0), threading.Lock()
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.http.handle_error = lambda *_: None  # clients that go away are part of the tests
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.http.server_port}/{name}"

    def _handler(server) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                with server.lock:
                    server.requests.append((self.path, self.headers.get("Range")))
                if self.path.lstrip("/") not in server.files:
                    self.send_error(404)
                    return
                content = server.files[self.path.lstrip("/")]
                start = int(self.headers.get("Range", "bytes=0-")[6:-1]) if server.ranges else 0
                if start >= len(content) > 0:
                    self.send_error(416)
                    return
                self.send_response(206 if start else 200)
                self.send_header("Content-Length", str(len(content) - start))
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
                self.end_headers()
                self._send(content[start:])

            def _send(self, content: bytes) -> None:
                for position in range(0, len(content), 16384):
                    self.wfile.write(content[position : position + 16384])
                    with server.lock:
                        server.bytes_sent += len(content[position : position + 16384])
                        dropped = server.random.random() < server.drop_rate
                        server.drops += dropped
                    if dropped:
                        self.close_connection = True
                        return

            def log_message(self, *_: object) -> None:
                pass

        return Handler


@pytest.fixture
def serve() -> Iterator[Callable[..., FaultyServer]]:
    servers: list[FaultyServer] = []

    def start(**options: object) -> FaultyServer:
        servers.append(FaultyServer(**options))
        return servers[-1]

    yield start
    for server in servers:
        server.http.shutdown()
        server.http.server_close()


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("VISIONSEQ_OFFLINE", "HF_HUB_OFFLINE", "VISIONSEQ_ZOO_INDEX", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("VISIONSEQ_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def tiny_model() -> EDMVelocity:
    """The smallest model that the zoo can hold."""
    network = {"type": "ResidualMLP", "img_resolution": 4, "in_channels": 1, "hidden": 8, "num_blocks": 1}
    model = EDMVelocity.from_config({"network": network})
    model.preprocessing = {"size": 4, "channels": 1}
    return model


@pytest.fixture
def file_entry() -> Callable[..., dict[str, object]]:
    """The index's description of some bytes and the places that serve them."""

    def describe(content: bytes, *sources: str) -> dict[str, object]:
        return {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "sources": list(sources)}

    return describe


@pytest.fixture
def write_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Write an index with models given as {name: {file: entry}} and make it the zoo's first."""

    def write(**models: dict[str, object]) -> Path:
        path = tmp_path / "index" / "index.yaml"
        path.parent.mkdir(exist_ok=True)
        about = {
            "room": "rectified_flow",
            "model": "EDMVelocity",
            "description": "x",
            "licence": "MIT",
            "parameters": 1,
            "numbers": {},
        }
        content = {"format": 1, "models": {name: {**about, "files": files} for name, files in models.items()}}
        path.write_text(yaml.safe_dump(content))
        monkeypatch.setenv("VISIONSEQ_ZOO_INDEX", str(path))
        return path

    return write
