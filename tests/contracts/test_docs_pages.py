"""Pages of a room are listed by docs/navigation.py: a new room touches none of the common pages."""

import importlib.util
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def navigation():
    spec = importlib.util.spec_from_file_location("navigation", DOCS / "navigation.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pages_of_a_new_room_are_listed(navigation, tmp_path):
    for name in ("rooms/dummy.md", "claims/dummy.md", "claims/dummy.json", "claims/dummy.png", "benchmarks/dummy.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("# A dummy\n")
    config = {"docs_dir": str(tmp_path), "nav": [{"Home": "index.md"}, {"Rooms": []}]}
    assert navigation.on_config(config)["nav"] == [{"Home": "index.md"}, {"Rooms": ["rooms/dummy.md"]}]
    pages = {folder: f"Before.\n\n[Text]({folder}/)\n\nAfter." for folder in ("rooms", "claims", "benchmarks")}
    lists = {folder: navigation.on_page_markdown(text, config=config, page=None) for folder, text in pages.items()}
    assert lists == {
        "rooms": "Before.\n\n- `dummy`: [A dummy](rooms/dummy.md)\n\nAfter.",
        "claims": "Before.\n\n- `dummy`: [A dummy](claims/dummy.md), [figures as JSON](claims/dummy.json)\n\nAfter.",
        "benchmarks": "Before.\n\n- `dummy`: [figures as JSON](benchmarks/dummy.json)\n\nAfter.",
    }


@pytest.mark.parametrize(("page", "folder"), [("index", "rooms"), ("claims", "claims"), ("benchmarks", "benchmarks")])
def test_common_pages_name_no_room_by_hand(navigation, page, folder):
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    assert [link[1] for link in navigation.FOLDER_LINK.finditer(text)] == [folder]
    assert not re.findall(r"\((?:rooms|claims|benchmarks)/\w+\.\w+\)", text)
