"""What an attack returns: images and, per image, whether the goal was reached, the size of the change and the cost."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from .flags import Flag, blamed, gradient_flags, output_flags, start_flags
from .geometry import sizes
from .lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from .goal import Goal
    from .record import Record
    from .spaces import Space


@dataclass(frozen=True)
class Result:
    """Per image, in the order given; (B,) unless said otherwise.

    Attributes:
        images: (B, C, H, W), the adversarial image, or the best attempt where there was no success.
        success: bool, the goal was reached; re-derived from `images` by a fresh forward in full precision.
        size: the change in each norm, by name, float64; l0 counts changed values. Of bent images besides `flow`,
            `flow_mean` and `flow_loss`: the largest and the mean displacement in pixels, and the roughness.
        labels, targets, index: as attacked; targets is None for an untargeted attack.
        prediction, confidence, margin: class, its softmax probability, and `Goal.margin` at `images`.
        clean_prediction, clean_confidence: the same at the images as given.
        forwards, backwards: model calls spent; steps: moves of the search.
        zero_gradients, bad_gradients: queries whose gradient was zero; whose loss or gradient was not finite.
        unstarted: bool, the attack needs a point that reaches the goal to begin from, and found none.
        trace: one entry a query: `loss`, `size`, and `gradient` (its l2 norm); empty unless asked for.
        flow: (B, 2, H, W), how many rows down and columns right of itself each pixel of `images` is read; None for
            attacks that bend nothing.
        members: the names of the attacks of an ensemble, in the order in which they ran.
        decided: of an ensemble, the number among `members` of the attack that fooled the image; -1 where none did, or
            none was needed.
    """

    images: Tensor
    success: Tensor
    size: dict[str, Tensor]
    labels: Tensor
    targets: Tensor | None
    index: Tensor
    prediction: Tensor
    confidence: Tensor
    margin: Tensor
    clean_prediction: Tensor
    clean_confidence: Tensor
    clean_outputs: Tensor
    forwards: Tensor
    backwards: Tensor
    steps: Tensor
    zero_gradients: Tensor
    bad_gradients: Tensor
    unstarted: Tensor
    trace: tuple[dict[str, Tensor], ...] = ()
    flow: Tensor | None = None
    members: tuple[str, ...] = ()
    decided: Tensor | None = None

    @property
    def added(self) -> dict[str, int]:
        """Of an ensemble: how many images each attack fooled that those before it had left."""
        if self.decided is None:
            return {}
        counts = torch.bincount(self.decided + 1, minlength=1 + len(self.members)).tolist()
        return dict(zip(self.members, counts[1:], strict=True))

    @property
    def clean_correct(self) -> Tensor:
        """Was the image as given classified as its label? Where not, there was nothing to attack."""
        return (self.clean_prediction == self.labels) & torch.isfinite(self.clean_outputs).all(1)

    @property
    def flags(self) -> tuple[Flag, ...]:
        """Red flags: signs that this result says less about the model than it seems to."""
        attacked = self.backwards > 0
        # Attacked towards several targets, an image has several rows side by side, with the same clean outputs.
        first = torch.ones_like(attacked)
        first[1:] = self.index[1:] != self.index[:-1]
        right = self.clean_correct
        return (
            *blamed(output_flags(self.clean_outputs[first]), int((right & ~self.success).sum()), int(right.sum())),
            *gradient_flags(attacked, self.zero_gradients, self.bad_gradients, self.backwards),
            *start_flags(self.unstarted),
        )

    def to(self, device: Any) -> Result:
        """The result with all its tensors on a device."""
        return _map(self, lambda tensor: tensor.to(device))

    def __len__(self) -> int:
        return len(self.success)

    def __repr__(self) -> str:
        return (
            f"Result({int(self.success.sum())} of {len(self)} reached the goal, "
            f"{int((~self.clean_correct).sum())} were wrong before, "
            f"mean forwards {self.forwards.double().mean():.1f}, backwards {self.backwards.double().mean():.1f}, "
            f"flags: {', '.join(f.code for f in self.flags) or 'none'})"
        )


def result_of(record: Record, goal: Goal, index: Tensor, clean: Tensor, space: Space) -> Result:
    """Read the result off the oracle's record of a search in this space."""
    logits, before = record.logits, record.clean_logits
    assert logits is not None
    assert before is not None
    images = space.apply(record.theta, slice(None))
    probabilities, clean_probabilities = logits.softmax(1), before.softmax(1)
    return Result(
        images=images,
        success=record.success,
        size=sizes(images.double() - clean.double()) | space.measures(record.theta),
        labels=goal.labels,
        targets=goal.targets,
        index=index,
        prediction=logits.argmax(1),
        confidence=probabilities.amax(1),
        margin=goal.margin(logits),
        clean_prediction=before.argmax(1),
        clean_confidence=clean_probabilities.amax(1),
        clean_outputs=before,
        forwards=record.forwards,
        backwards=record.backwards,
        steps=record.steps,
        zero_gradients=record.zero_gradients,
        bad_gradients=record.bad_gradients,
        unstarted=record.unstarted,
        trace=tuple(record.trace),
        flow=space.flow(record.theta),
    )


def continued(whole: Result, part: Result, rows: Tensor) -> Result:
    """The result of an ensemble after one attack more, which went on with some of the images: rows (R,) of the whole.

    Costs add up. What the attack found is taken where it is a success, or a failure by a smaller margin.
    """
    better = part.success | (part.margin < whole.margin[rows])
    at = rows[better]

    def put(old: Tensor, new: Tensor) -> Tensor:
        return old.index_put((at,), new[better])

    def spread(values: Tensor) -> Tensor:
        return values.new_full((len(whole),), float("nan")).index_put((rows,), values)

    taken: dict[str, Any] = {name: put(getattr(whole, name), getattr(part, name)) for name in _FOUND}
    added = {name: getattr(whole, name).index_add(0, rows, getattr(part, name)) for name in _COUNTED}
    trace = tuple({name: spread(values) for name, values in entry.items()} for entry in part.trace)
    size = {name: put(old, part.size[name]) for name, old in whole.size.items()}
    # One attack that could begin says something about an image.
    added["unstarted"] = whole.unstarted.index_put((rows,), whole.unstarted[rows] & part.unstarted)
    return replace(whole, **taken, **added, size=size, trace=(*whole.trace, *trace))


_FOUND = ("images", "success", "prediction", "confidence", "margin", "decided")
_COUNTED = ("forwards", "backwards", "steps", "zero_gradients", "bad_gradients")


def join(parts: list[Result]) -> Result:
    """The results of several populations as one."""
    if len(parts) == 1:
        return parts[0]
    values: dict[str, Any] = {}
    for spec in fields(Result):
        each = [getattr(part, spec.name) for part in parts]
        if spec.name == "size":
            values["size"] = {name: torch.cat([size[name] for size in each]) for name in each[0]}
        elif spec.name == "trace":
            values["trace"] = _join_traces(parts)
        elif spec.name == "members":
            values["members"] = each[0]
        else:
            values[spec.name] = None if each[0] is None else torch.cat(each)
    return Result(**values)


def _join_traces(parts: list[Result]) -> tuple[dict[str, Tensor], ...]:
    """Populations may have made different numbers of queries; what was not asked is NaN."""
    length = max(len(part.trace) for part in parts)
    joined = []
    for query in range(length):
        entry: dict[str, Tensor] = {}
        for key in ("loss", "size", "gradient"):
            pieces = [part.trace[query].get(key) if query < len(part.trace) else None for part in parts]
            if any(piece is not None for piece in pieces):
                entry[key] = torch.cat(
                    [
                        part.confidence.new_full((len(part),), float("nan")) if piece is None else piece
                        for part, piece in zip(parts, pieces, strict=True)
                    ]
                )
        joined.append(entry)
    return tuple(joined)


def _map(result: Result, change: Any) -> Result:
    values: dict[str, Any] = {}
    for spec in fields(result):
        value = getattr(result, spec.name)
        if isinstance(value, torch.Tensor):
            values[spec.name] = change(value)
        elif isinstance(value, dict):
            values[spec.name] = {name: change(tensor) for name, tensor in value.items()}
        elif spec.name == "trace":
            values[spec.name] = tuple({name: change(tensor) for name, tensor in entry.items()} for entry in value)
    return replace(result, **values)
