"""The one exception of the library: a mistake the user can mend, told in one sentence."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class BlindspotsError(Exception):
    """Something given to the library cannot be used.

    The message is one sentence for the user: what was given, what is allowed, what to do.
    The command line prints it without a stack trace and exits with status 2.
    """


def unknown(kind: str, given: str, allowed: Iterable[str]) -> BlindspotsError:
    """Build the error for an unknown name, with the nearest known one where there is one.

    >>> str(unknown("attack", "pgf", ["fgsm", "pgd"]))
    "unknown attack 'pgf': did you mean 'pgd'? known: fgsm, pgd"
    """
    names = sorted(allowed)
    near = difflib.get_close_matches(given, names, n=1)
    hint = f"did you mean '{near[0]}'? " if near else ""
    return BlindspotsError(f"unknown {kind} '{given}': {hint}known: {', '.join(names)}")
