"""How pages are made from templates: strict, escaped, with the one style sheet of all pages."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

TEMPLATES = Path(__file__).parent / "templates"


def environment(folder: Path) -> Environment:
    """Templates of a folder; what they are given is escaped, and a name that is missing is an error."""
    return Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def style() -> Markup:
    """The style sheet, to stand in a page as it is: it is ours, not a reader's."""
    return Markup((TEMPLATES / "style.css").read_text(encoding="utf-8"))
