"""The page of the documentation that tells of every attack, made from the classes themselves."""

from __future__ import annotations

import re
from dataclasses import fields

from ..attack import Attack
from ..several import Several

Kind = type[Attack] | type[Several]

_HEAD = """# Every attack

Made by `blindspots list attacks --markdown` from the classes themselves; [How to choose an attack](attacks.md) helps to
find one. What an attack *gives* is **success** (is there a change within the radius?), the **smallest** change of each
image, which answers for every radius in one run (some only with `keep=smallest`), or a **control**. What it *knows* of
the model is gradients, scores or decisions. A success costs one forward more than said, the one that verifies it.

"""
_TAIL = re.compile(r"(Cost[^:\n]*|Source|Differs from[^:\n]*):")


def attack_page(attacks: dict[str, Kind]) -> str:
    """The page as Markdown: a table of all attacks, and of each its cost, source and differences from the paper."""
    head = ("attack", "norms", "knows", "gives", "what it does")
    rows = [
        (f"[`{name}`](#{name})", " ".join(kind.norms), kind.knowledge, gives(kind), kind.summary)
        for name, kind in attacks.items()
    ]
    return _HEAD + markdown_table([head, *rows]) + "".join(_about(name, kind) for name, kind in attacks.items())


def gives(kind: Kind) -> str:
    """What a run of the attack tells."""
    if kind.control:
        return "control"
    if not kind.minimum:
        return "success"
    keep = {field.name: field.default for field in fields(kind)}.get("keep", "smallest")
    return "smallest" if keep == "smallest" else "success or smallest"


def markdown_table(rows: list[tuple[str, ...]]) -> str:
    """The rows, of which the first is the head, as a table."""
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]]) + "\n"


def _about(name: str, kind: Kind) -> str:
    """The part of the page about one attack: the end of its docstring, from the cost on."""
    _, *parts = _TAIL.split(" ".join((kind.__doc__ or "").split()))
    said = [f"- {title}: {text.strip()}\n" for title, text in zip(parts[::2], parts[1::2], strict=True)]
    return f"\n## {name}\n\n`blindspots.{kind.__name__}`: {kind.summary}.\n\n" + "".join(said)
