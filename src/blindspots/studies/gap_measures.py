"""What the study of generated perturbations counts: answers and sizes on all images, and the work of a training."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

if TYPE_CHECKING:
    from ..classifiers import Classifier
    from ..data import ImageData
    from ..training.methods import Method
    from ..training.step import Step
    from ..universal import Perturbation
    from .notebook import Values


def multiplications(method: Method, step: Step) -> int:
    """Multiplications and additions of a training step: of matrix products and convolutions, gradients among them."""
    with _Counter() as counter:
        for part in method.parts(step, method.craft(step)):
            part.loss.backward()  # type: ignore[no-untyped-call]
    return int(counter.total)


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        answer = func(*args, **(kwargs or {}))
        count = flop_registry.get(func._overloadpacket)
        self.total += 0 if count is None else count(*args, **(kwargs or {}), out_val=answer)
        return answer


def measure(model: Classifier, data: ImageData, perturbation: Perturbation) -> Values:
    """Right answers with and without it on all of the data, sizes, the commonest answer, and seconds an image."""
    right = clean = changed = 0
    spent, most = 0.0, 0.0
    sums = {"l2": 0.0, "linf": 0.0}
    answers = torch.zeros(data.classes, dtype=torch.int64)
    for images, labels, _ in data.batches(1000):
        started = time.perf_counter()
        moved = perturbation.apply(images)
        spent += time.perf_counter() - started
        before, after = (model.logits(x).argmax(1).cpu() for x in (images, moved))
        right += int((after == labels).sum())
        clean += int((before == labels).sum())
        changed += int((after != before).sum())
        answers += torch.bincount(after, minlength=data.classes)
        flat = (moved - images).double().flatten(1)
        l2 = flat.norm(dim=1)
        sums["l2"] += float(l2.sum())
        sums["linf"] += float(flat.abs().amax(1).sum())
        most = max(most, float(l2.max()))
    return {
        "right": right,
        "of": len(data),
        "clean": clean,
        "fooled": changed,
        "l2": sums["l2"] / len(data),
        "linf": sums["linf"] / len(data),
        "rms": sums["l2"] / len(data) / math.sqrt(math.prod(data.shape)),
        "most": most,
        "own": perturbation.size["l2"],
        "each": spent / len(data),
        "commonest": int(answers.max()),
    }
