"""Ctrl-C between two steps: the first one asks the loop to save and stop, the second stops at once."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class Interrupt:
    """`with Interrupt() as interrupt:` and, where the state is whole, look at `interrupt.asked`.

    Signals reach the main thread only; in another thread, and where it does not listen, nothing is caught and `asked`
    stays False.
    """

    def __init__(self, listens: bool = True) -> None:
        self.asked, self._listens = False, listens
        self._before: Any = None

    def __enter__(self) -> Interrupt:
        if self._listens and threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        signal.signal(signal.SIGINT, self._before)
