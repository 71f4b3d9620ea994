"""The recipe beside the work of a claim, so that a folder holds the work of one recipe."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from visionseq.errors import ConfigError
from visionseq.files import write_json

GROWING = ("rows", "seeds")  # more of them add to what is there


def check_same_recipe(experiment: Any, file: Path) -> None:
    """Write the recipe of a dataclass to a file; `ConfigError` where the file holds another one."""
    # Through JSON, so that what is compared is what is stored.
    recipe = json.loads(json.dumps({key: value for key, value in asdict(experiment).items() if key not in GROWING}))
    if not file.is_file():
        write_json(file, recipe)
        return
    before = json.loads(file.read_text())
    changed = sorted(key for key in recipe if recipe[key] != before.get(key))
    if changed:
        changes = ", ".join(f"{key} {before.get(key)!r} instead of {recipe[key]!r}" for key in changed)
        raise ConfigError(
            f"{file.parent} holds the work of another recipe ({changes}); name another folder with --work"
        )
