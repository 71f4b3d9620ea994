"""Lists pages by their folders, so that no page names them by hand; mkdocs.yml names this file under `hooks`.

The entry `Rooms` of the navigation holds the pages of docs/rooms/. A line that is a link to a folder and nothing else,
such as `[The rooms](rooms/)`, becomes a list of the pages and figures in that folder.
"""

import re
from pathlib import Path
from typing import Any

FOLDER_LINK = re.compile(r"^\[[^\]]+\]\(([\w/]+)/\)$", re.MULTILINE)


def on_config(config: Any) -> Any:
    """Fill the entry `Rooms` of the navigation, by the pages' names."""
    pages = sorted(path.name for path in (Path(config["docs_dir"]) / "rooms").glob("*.md"))
    for entry in config["nav"]:
        if "Rooms" in entry:
            entry["Rooms"] = [f"rooms/{name}" for name in pages]
    return config


def on_page_markdown(markdown: str, config: Any, **_: Any) -> str:
    """The text of a page with a list in the place of each link to a folder."""
    return FOLDER_LINK.sub(lambda link: _listing(Path(config["docs_dir"]), link[1]), markdown)


def _listing(docs: Path, folder: str) -> str:
    """A line for each name in a folder, with its page and its JSON file."""
    lines = []
    for name in sorted({path.stem for path in (docs / folder).glob("*.*")}):
        page, figures = (docs / folder / f"{name}{ending}" for ending in (".md", ".json"))
        links = [f"[{_heading(page)}]({folder}/{page.name})"] if page.is_file() else []
        links += [f"[figures as JSON]({folder}/{figures.name})"] if figures.is_file() else []
        lines += [f"- `{name}`: {', '.join(links)}"] if links else []
    return "\n".join(lines)


def _heading(page: Path) -> str:
    return page.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
