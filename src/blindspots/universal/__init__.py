"""Perturbations fitted on data: one for all images here, networks that make them in `generative`; `METHODS` by name."""

from .fitted import Fitted, Rates
from .perturbation import Delta, Perturbation
from .pgd import UniversalPGD
from .uap import UAP

METHODS: dict[str, type[UAP | UniversalPGD]] = {"uap": UAP, "universal-pgd": UniversalPGD}

__all__ = ["METHODS", "UAP", "Delta", "Fitted", "Perturbation", "Rates", "UniversalPGD"]
