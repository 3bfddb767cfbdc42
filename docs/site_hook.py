"""What the site needs besides the documents: those that lie beside ``docs/``, and links to them."""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

BESIDE = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}


def on_files(files: Files, config: Any) -> Files:
    """Take the documents of the project's folder in; their links into ``docs/`` become links beside them."""
    folder = Path(config["config_file_path"]).parent
    for name, place in BESIDE.items():
        text = re.sub(r"\]\(docs/", "](", (folder / name).read_text())
        files.append(File.generated(config, place, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Lead links out of ``docs/`` to the same documents in the site."""
    for name, place in BESIDE.items():
        markdown = markdown.replace(f"](../{name})", f"]({place})")
    return markdown
