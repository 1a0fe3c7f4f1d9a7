"""The forms of the covariance behind a ReLU by name, read without torch."""

from __future__ import annotations

from typing import Literal, get_args

Form = Literal["general", "series", "first-order", "zero-mean"]
FORMS: tuple[str, ...] = get_args(Form)
