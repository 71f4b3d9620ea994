"""Lists every page of docs/rooms/ in the navigation; mkdocs.yml names this file under `hooks`."""

from pathlib import Path
from typing import Any


def on_config(config: Any) -> Any:
    """Fill the entry `Rooms` of the navigation, by the pages' names."""
    pages = sorted(path.name for path in (Path(config["docs_dir"]) / "rooms").glob("*.md"))
    for entry in config["nav"]:
        if "Rooms" in entry:
            entry["Rooms"] = [f"rooms/{name}" for name in pages]
    return config
