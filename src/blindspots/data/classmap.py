"""Which output of the model a class folder means, where that is not its place in the alphabet."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..errors import BlindspotsError, unknown
from .rows import Source

_WORDNET = re.compile(r"(n\d{8})_.+")


def renumber(source: Source, labels: Any) -> Source:
    """Give the classes of a folder the numbers of the model's outputs.

    Args:
        source: a folder, its classes numbered in sorted order.
        labels: one of
            a mapping from folder name to number;
            a sequence of numbers, one for each folder in sorted order;
            a sequence of names, one for each output of the model: a name's place is its number;
            a .json file with any of these, or with {"0": ["n01440764", "tench"], ...} as ImageNet's index has it;
            a text file with a name a line (its place is its number), or on every line a name, a space and a number.

    A folder "n01440764_tench" is found under its whole name or under the WordNet id before the first "_".

    Raises:
        BlindspotsError: a folder without a number; a number that is negative or not whole; a file that is none.
    """
    folders = source.class_names
    numbers, names = _numbers(labels, folders)
    places = [_place(folder, numbers) for folder in folders]
    classes = max(max(numbers.values()) + 1, len(names))
    outputs = [str(number) for number in range(classes)]
    outputs[: len(names)] = names
    for folder, place in zip(reversed(folders), reversed(places), strict=True):
        outputs[place] = folder
    return replace(source, labels=torch.tensor(places)[source.labels], class_names=tuple(outputs))


def read_names(class_names: Any) -> tuple[str, ...]:
    """Names of the classes from a sequence, or from a file with a name a line or a JSON list."""
    given = _read(class_names) if isinstance(class_names, str | os.PathLike) else class_names
    if isinstance(given, Sequence) and given and all(isinstance(name, str) for name in given):
        return tuple(given)
    raise BlindspotsError(f"class_names must be a name for each class, or a file of them, got {class_names!r}")


def _place(folder: str, numbers: Mapping[str, int]) -> int:
    short = _WORDNET.fullmatch(folder)
    for name in (folder, short[1] if short else folder):
        if name in numbers:
            return numbers[name]
    raise unknown("class folder without a number in labels", folder, list(numbers)[:20])


def _numbers(labels: Any, folders: tuple[str, ...]) -> tuple[dict[str, int], list[str]]:
    """(number of each name, names by number where labels lists them)."""
    given = _read(labels) if isinstance(labels, str | os.PathLike) else labels
    if isinstance(given, Mapping) and given and all(str(key).isdigit() for key in given) and not _whole(given.values()):
        listed: dict[int, list[str]] = {
            int(key): [value] if isinstance(value, str) else list(value) for key, value in given.items()
        }
        numbers = {name: number for number, aliases in sorted(listed.items(), reverse=True) for name in aliases}
        names = [listed[number][-1] if number in listed else str(number) for number in range(max(listed) + 1)]
        return numbers, names
    if isinstance(given, Mapping) and given:
        return _checked({str(name): number for name, number in given.items()}), []
    if isinstance(given, Sequence) and given and all(isinstance(name, str) for name in given):
        return {name: number for number, name in reversed(list(enumerate(given)))}, list(given)
    if isinstance(given, Sequence) and given and not isinstance(given, str):
        if len(given) != len(folders):
            raise BlindspotsError(
                f"labels has {len(given)} numbers for {len(folders)} class folders: give one for each"
            )
        return _checked(dict(zip(folders, given, strict=True))), []
    raise BlindspotsError(
        f"labels must map class folders to numbers (a mapping, a sequence or a file of them), got {labels!r}"
    )


def _whole(values: Any) -> bool:
    return all(isinstance(value, int) and not isinstance(value, bool) for value in values)


def _checked(numbers: dict[str, Any]) -> dict[str, int]:
    for name, number in numbers.items():
        if not _whole([number]) or number < 0:
            raise BlindspotsError(f"labels gives '{name}' the number {number!r}: give a whole number of at least 0")
    return numbers


def _read(path: str | os.PathLike[str]) -> Any:
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
        if file.suffix == ".json":
            return json.loads(text)
    except (OSError, ValueError) as error:
        raise BlindspotsError(f"labels file {file} cannot be read: give a .json or a text file of names") from error
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    pairs = [line.rsplit(maxsplit=1) for line in lines]
    if all(len(pair) == 2 and pair[1].isdigit() for pair in pairs):
        if len({name for name, _ in pairs}) < len(pairs):
            raise BlindspotsError(f"labels file {file} names a class twice: give each class one line")
        return {name: int(number) for name, number in pairs}
    return lines
