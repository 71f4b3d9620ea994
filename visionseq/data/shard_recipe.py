"""The recipe of a folder of prepared shards: the settings and images that made them, so that a folder holds one set.

`recipe.json` has the settings, and for each finished shard a digest of the names and classes of its images. A shard
that it does not list was being written when the process ended, and is written again.
"""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from visionseq.data.names import read_json
from visionseq.errors import ConfigError, DataError
from visionseq.files import write_json

RECIPE_FILE = "recipe.json"
_SHARDS = "[0-9]" * 6 + ".tar"
_HINT = "overwrite replaces all shards of the folder"


class ShardRecipe:
    """The recipe of one folder; it is written before the first shard, and again after each.

    Args:
        folder: where the shards are.
        settings: plain values that determine the contents of the shards.
        overwrite: remove the shards of the folder first.

    Raises `ConfigError` where the folder holds shards of other settings, or of unknown ones.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], overwrite: bool = False):
        self.folder, self.settings = folder, dict(settings)
        path = folder / RECIPE_FILE
        if overwrite:
            for earlier in (path, *folder.glob(_SHARDS)):
                earlier.unlink(missing_ok=True)
        earlier_settings, self._digests = _read(path)
        self._check_settings(earlier_settings)
        if earlier_settings is None:
            self._write()

    def holds(self, name: str, digest: str) -> bool:
        """Whether a shard is finished; `ConfigError` where it was made of other images."""
        if name not in self._digests or not (self.folder / name).is_file():
            return False
        if self._digests[name] != digest:
            raise ConfigError(f"{self.folder / name}: made of other images or classes; {_HINT}")
        return True

    def add(self, name: str, digest: str) -> None:
        """Enter a finished shard."""
        self._digests[name] = digest
        self._write()

    def check_complete(self, names: Iterable[str]) -> None:
        """Raise `ConfigError` where the folder holds shards beyond those of the source."""
        names = list(names)
        surplus = sorted(set(self._digests) - set(names))
        if surplus:
            path = self.folder / surplus[0]
            raise ConfigError(f"{path}: not one of the {len(names)} shards of these images; {_HINT}")

    def _check_settings(self, earlier: Mapping[str, Any] | None) -> None:
        if earlier is None:
            shard = next(iter(sorted(self.folder.glob(_SHARDS))), None)
            if shard is not None:
                raise ConfigError(f"{shard} exists, and no {RECIPE_FILE} shows how it was made; {_HINT}")
            return
        differing = [name for name, value in self.settings.items() if earlier.get(name) != value]
        if differing:
            changes = ", ".join(f"{name}: {str(self.settings[name])[:80]}" for name in differing)
            values = ", ".join(str(earlier.get(name))[:80] for name in differing)
            raise ConfigError(f"{self.folder}: {changes}, the shards in it were made with {values}; {_HINT}")

    def _write(self) -> None:
        write_json(self.folder / RECIPE_FILE, {"settings": self.settings, "shards": self._digests})


def digest_of(images: Iterable[tuple[int | None, str]]) -> str:
    """A digest of the classes and names of images, in their order."""
    return hashlib.sha256("".join(f"{label} {name}\n" for label, name in images).encode()).hexdigest()


def _read(path: Path) -> tuple[dict[str, Any] | None, dict[str, str]]:
    """Settings and digests of a recipe; None and nothing where the file is missing."""
    content = read_json(path, None)
    if content is None:
        return None, {}
    settings, shards = (content.get(key) if isinstance(content, dict) else None for key in ("settings", "shards"))
    if not isinstance(settings, dict) or not isinstance(shards, dict):
        raise DataError(f"{path}: expected an object of settings and shards; {_HINT}")
    return settings, shards
