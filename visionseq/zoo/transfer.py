"""Moving the bytes of one source into a file: http(s) with Range resume and retries, local files, the Hub's client.

Nothing here trusts what arrives: the caller checks size and hash. Proxies come from the environment (http_proxy,
https_proxy, no_proxy).
"""

import errno
import os
import re
import shutil
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO
from urllib.parse import unquote, urlsplit

from visionseq import __version__

CHUNK = 1 << 18
_TIMEOUT = 30.0  # seconds without a byte
_FAILURES = 4  # attempts without any progress before a source is given up
_PERMANENT = (400, 401, 403, 404, 405, 410, 451)
_HUB_FILE = re.compile(r"hf://(?P<id>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w.-]+))?/(?P<file>.+)")

Report = Callable[[int], object]


class SourceError(Exception):
    """One source cannot give the file; the message says why."""


def transfer(source: str, target: Path, size: int, report: Report, token: str | bool | None = None) -> None:
    """Bring `target` to the `size` bytes of `source`, going on from the bytes that it has; raises `SourceError`.

    `report` is called with the number of bytes that `target` has. A full disk raises `OSError`.
    """
    if source.startswith(("http://", "https://")):
        _transfer_http(source, target, size, report)
    elif source.startswith("hf://"):
        _transfer_hub(source, target, token)
    else:
        _transfer_file(source, target, report)
    received = target.stat().st_size
    if received != size:
        os.truncate(target, 0)
        raise SourceError(f"gives {received} bytes, the index says {size}")


def _transfer_http(url: str, target: Path, size: int, report: Report) -> None:
    furthest, failures = target.stat().st_size, 0
    while True:
        # One request. An error that may pass has a reason and a weight; any other ends the attempts.
        try:
            with open(target, "r+b") as file:
                _receive(url, file, size, report)
            return
        except urllib.error.HTTPError as error:
            if error.code in _PERMANENT:
                raise SourceError(f"HTTP {error.code} {error.reason}") from error
            if error.code == 416:  # the bytes that the target has are not a part of this file
                os.truncate(target, 0)
            reason, weight = f"HTTP {error.code} {error.reason}", 1
        except (HTTPException, OSError) as error:
            if is_full_disk(error):
                raise
            reason, weight = _network_reason(error)

        # Attempts that brought nothing are counted, and the pauses after them grow.
        failures = 0 if target.stat().st_size > furthest else failures + weight
        furthest = max(furthest, target.stat().st_size)
        if failures >= _FAILURES:
            raise SourceError(reason)
        time.sleep(min(8.0, 0.25 * 2**failures) if failures else 0.02)


def _receive(url: str, file: IO[bytes], size: int, report: Report) -> None:
    """One request; raises `ConnectionError` where the body ends early."""
    # Ask for the bytes that the file lacks; a file that is too long is begun anew.
    position = file.seek(0, os.SEEK_END)
    if position == size:
        return
    if position > size:
        position = file.seek(0)
        file.truncate()
    headers = {"User-Agent": f"visionseq/{__version__}", **({"Range": f"bytes={position}-"} if position else {})}

    # A server without ranges sends the whole file.
    with _opener().open(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT) as response:
        if position and not _continues_at(response, position):
            position = file.seek(0)
            file.truncate()
        _check_length(response, position, size, file)
        while chunk := response.read(CHUNK):
            position += file.write(chunk)
            report(position)
            if position > size:
                break
    if position < size:
        raise ConnectionResetError(f"the connection ended after {position} of {size} bytes")


def _check_length(response: HTTPResponse, position: int, size: int, file: IO[bytes]) -> None:
    """Refuse another file than the index describes before its bytes arrive."""
    announced = response.headers.get("Content-Length")
    if announced is not None and announced.isdecimal() and position + int(announced) != size:
        file.truncate(0)
        raise SourceError(f"gives {position + int(announced)} bytes, the index says {size}")


def _continues_at(response: HTTPResponse, position: int) -> bool:
    content_range = response.headers.get("Content-Range", "")
    return response.status == 206 and content_range.replace("bytes ", "").startswith(f"{position}-")


def _opener() -> urllib.request.OpenerDirector:
    """urllib's handlers without those for local files and ftp, to which a redirection could lead."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.UnknownHandler,
    ):
        opener.add_handler(handler())
    return opener


def _transfer_file(source: str, target: Path, report: Report) -> None:
    path = unquote(urlsplit(source).path) if source.startswith("file://") else source
    if not os.path.isfile(path):
        raise SourceError("no such file")
    with open(path, "rb") as reader, open(target, "wb") as writer:
        while chunk := reader.read(CHUNK):
            writer.write(chunk)
            report(writer.tell())


def _transfer_hub(source: str, target: Path, token: str | bool | None) -> None:
    match = _HUB_FILE.fullmatch(source)
    if match is None:
        raise SourceError("expected hf://org/repo@revision/file")
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError

    with TemporaryDirectory(dir=target.parent, prefix=f"{target.name}.") as folder:
        try:
            path = hf_hub_download(
                match["id"], match["file"], revision=match["revision"], token=token, local_dir=folder
            )
        except (HfHubHTTPError, HFValidationError, HTTPError, ValueError, OSError) as error:
            if is_full_disk(error):
                raise
            raise SourceError(" ".join(str(error).split())[:300]) from error
        shutil.move(path, target)


def is_full_disk(error: BaseException) -> bool:
    """True for the errors of a full disk or an exhausted quota."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", -1))


def _network_reason(error: Exception) -> tuple[str, int]:
    """The reason of an error, and the number of failures that it counts as."""
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, socket.gaierror):
        return "the host's name cannot be resolved; is there a network?", 2
    if isinstance(cause, TimeoutError):
        return f"no answer within {_TIMEOUT:.0f} s; is there a network?", 2
    return str(cause) or type(cause).__name__, 2 if isinstance(cause, ConnectionRefusedError) else 1
