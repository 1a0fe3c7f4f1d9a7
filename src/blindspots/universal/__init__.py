"""Universal methods: fitted on data, they return one `Perturbation` that applies to any image; `METHODS` by name."""

from .fitted import Fitted, Rates
from .perturbation import Perturbation
from .uap import UAP

METHODS: dict[str, type[UAP]] = {method.name: method for method in (UAP,)}

__all__ = ["METHODS", "UAP", "Fitted", "Perturbation", "Rates"]
