"""What goes wrong in adversarial training and would not be seen in the loss: rules over plain numbers.

catastrophic overfitting   a single step no longer fools the network, several still do (Wong et al. 2020,
                           arXiv:2001.03994)
label leaking              single-step images are easier than clean ones (Kurakin et al. 2017, arXiv:1611.01236)
robust overfitting         robust accuracy on held-out images has fallen since its best epoch (Rice et al. 2020,
                           arXiv:2002.11569)
gradient masking           a strong attack finds much that the attack of the training does not (Athalye et al. 2018,
                           arXiv:1802.00420)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Answer = Literal["report", "stop", "rollback", "halve"]

CATASTROPHIC = "catastrophic overfitting"
LEAKING = "label leaking"
OVERFITTING = "robust overfitting"
MASKING = "gradient masking"

# Between a single step and a short PGD there lie some 5 to 15 points on sound networks (papers quote 96 and 93 % on
# MNIST, 57 and 50 % on CIFAR-10); between a short PGD and a strong ensemble some 5 to 10.
CATASTROPHIC_GAP, CATASTROPHIC_SHARE = 0.25, 0.5
LEAKING_GAP, OVERFITTING_GAP, MASKING_GAP = 0.02, 0.05, 0.15


@dataclass(frozen=True)
class Watched:
    """Accuracy on the watched images: without attack, after one step, and after a short PGD."""

    clean: float
    one_step: float
    robust: float

    def alarms(self) -> tuple[str, ...]:
        """What is wrong after an epoch."""
        found = []
        if self.one_step - self.robust >= CATASTROPHIC_GAP and self.robust <= CATASTROPHIC_SHARE * self.one_step:
            found.append(CATASTROPHIC)
        if self.one_step - self.clean >= LEAKING_GAP:
            found.append(LEAKING)
        return tuple(found)


def final_alarms(best: float | None, last: float | None, strong: float | None) -> tuple[str, ...]:
    """What is wrong in the end: robust accuracy of the best and of the last epoch, and of the best under a strong
    attack, each None where it was not measured."""
    found = []
    if best is not None and last is not None and best - last >= OVERFITTING_GAP:
        found.append(OVERFITTING)
    if best is not None and strong is not None and best - strong >= MASKING_GAP:
        found.append(MASKING)
    return tuple(found)
