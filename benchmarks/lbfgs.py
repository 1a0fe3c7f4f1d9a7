"""L-BFGS for a batch against SciPy's image by image, and against BoTorch's batched port of it where that is found.

Two problems: a flow that moves MNIST digits to a target (margin and flow loss, no bounds), and the smallest change
that does (cross entropy and squared size, within the box). Everyone minimises the same objective from the unchanged
image with the same number of evaluations allowed per image, in float32 networks. SciPy calls the bare module with one
image; BoTorch, as it comes, with all images that are left; fed by hand, with those in the same batches as blindspots,
which chooses batch and memory format by itself, as it does for a user.
The lowest objective after N evaluations counts, and for those that have ended earlier what they ended with.
Flows are sought in the metric of smooth flows, as stAdv does by default; what the identity in its place comes to is
beside it.

Against BoTorch's port two ratios are given: with the 200 evaluations of an image that everyone may use; and with the
fewest of 20, 50, 100 and 200 after which the median objective of blindspots is not above that with which the port ends.
Of the second, 1.5 is asked: the first cannot exceed what the port's loop costs over its own gradients.

The loop's overhead is its processor time over what its gradients of the same objective cost in a plain loop. That of
BoTorch bounds what anybody can gain on it with as many evaluations in the same model batches and memory format.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn

import blindspots as bs
from blindspots.batching import Layout
from blindspots.cache import cache_directory
from blindspots.descend import descend
from blindspots.flows import FlowLoss
from blindspots.goal import Goal
from blindspots.noise import key
from blindspots.objectives import CrossEntropy, Margin, SquaredSize, Weighted
from blindspots.optimisers import LBFGS, Smoothing
from blindspots.oracle import Oracle
from blindspots.record import Budget
from blindspots.spaces import Additive
from blindspots.spaces.flow import Flow

from .lbfgs_peers import MARKS, MOST, Case, ChannelsLast, batched_port, find_botorch, one_by_one
from .measure import Figure, Time, at_least, at_most, information, timed
from .subjects import digit_data

# How BoTorch's port is used.
_COMES, _FED = "as it comes", "fed by hand"


def run(quick: bool) -> list[Figure]:
    figures: list[Figure] = []
    for network, kind, count in (("lenet", "flow", 256), ("lenet", "box", 256), ("stadv-a", "flow", 64)):
        case = _case(network, kind, 16 if quick else count)
        figures += _figures(case, 1 if quick else 3, {"lenet": 3.0, "stadv-a": 1.8}[network])
    return figures


def _figures(case: Case, rounds: int, faster: float) -> list[Figure]:
    peers = {"SciPy one by one": lambda: one_by_one(case)}
    batches = {}
    botorch = find_botorch()
    if botorch is not None:
        for way, batch in ((_COMES, len(case.images)), (_FED, case.layout.batch)):
            batches[f"BoTorch's batched port, {way}"] = batch
            peers[f"BoTorch's batched port, {way}"] = lambda batch=batch: batched_port(case, botorch, batch)
    trace = _trace(case)
    own, overhead = [], []
    theirs: dict[str, list[Time]] = {name: [] for name in peers}
    alone: dict[str, list[float]] = {name: [] for name in batches}
    few: dict[str, int] = {}
    short: dict[int, list[Time]] = {}
    for turn in range(rounds):
        bare = _bare(case, case.layout)
        own.append(timed(lambda: _own(case)))
        bare = (bare + _bare(case, case.layout)) / 2
        overhead.append(own[-1].cpu / (int(own[-1].value.record.backwards.sum()) * bare))
        for name, work in peers.items():
            theirs[name].append(timed(work))
            if name in batches:
                bare = _bare(case, Layout(batches[name]))
                alone[name].append(theirs[name][-1].cpu / (theirs[name][-1].value.evaluations * bare))
            if turn == 0:
                few[name] = _enough(trace, theirs[name][0].value.trace)
        for most in sorted(set(few.values()) - {0, MOST}):
            short.setdefault(most, []).append(timed(lambda most=most: _own(case, most)))
    short[MOST] = own
    single = theirs["SciPy one by one"]
    scipy, ratios = single[0].value.trace, [a.wall / b.wall for a, b in zip(single, own, strict=True)]
    raw = {
        "evaluations": int(own[0].value.record.backwards.sum()),
        "images": len(case.images),
        "layout": asdict(case.layout),
    }
    figures = [
        at_least(f"{case.name}: images per second over those of SciPy one by one", ratios, faster, **raw),
        at_most(f"{case.name}: the loop over its gradients at bare cost, processor time", overhead, 1.25),
    ]
    plain = None if case.optimiser.metric is None else _trace(replace(case, optimiser=LBFGS()))
    for mark in MARKS:
        there, ours = float(scipy[mark - 1].median()), float(trace[mark - 1].median())
        what = f"{case.name}: median objective after {mark} evaluations, SciPy's {there:.4f}"
        note = "" if plain is None else f"with the identity as metric {float(plain[mark - 1].median()):.4f}"
        figures.append(Figure(what, f"{ours:.4f}", "not above", note, met=ours <= there + 1e-6 * abs(there)))
        figures.append(_paired(f"{case.name}: ours over SciPy's after {mark}, image by image", trace, scipy, mark))
    for name, times in theirs.items():
        ends = float(times[0].value.trace[-1].median())
        if not few[name]:
            what = f"{case.name}: the median objective {ends:.4f} of {name} is not reached"
            figures.append(Figure(what, f"{float(trace[-1].median()):.4f}", met=False))
            continue
        reached, busy = float(trace[few[name] - 1].median()), [t.cpu / o.cpu for t, o in zip(times, own, strict=True)]
        what = f"{case.name}: {name}, ending at {ends:.4f}: time over ours with {few[name]} evaluations ({reached:.4f})"
        ratios = [other.wall / ours.wall for other, ours in zip(times, short[few[name]], strict=True)]
        figures.append(at_least(what, ratios, 1.5) if _COMES in name else information(what, ratios))
        figures.append(
            information(f"{case.name}: {name}: time over ours with {MOST} evaluations, processor time", busy)
        )
        if name in alone:
            what = f"{case.name}: {name}: time over its own gradients at bare cost, processor time"
            figures.append(information(what, alone[name]))
    return figures


def _enough(ours: Tensor, theirs: Tensor) -> int:
    """The fewest of `MARKS` evaluations after which our median objective is not above that of their end; or 0."""
    target = float(theirs[-1].median())
    return next((mark for mark in MARKS if float(ours[mark - 1].median()) <= target), 0)


def _paired(what: str, ours: Tensor, theirs: Tensor, mark: int) -> Figure:
    """The median ratio of the objectives of an image, with a bootstrap interval: paths over kinks are chaotic."""
    ratio = ours[mark - 1] / theirs[mark - 1]
    draws = torch.randint(len(ratio), (2000, len(ratio)), generator=torch.Generator().manual_seed(0))
    low, high = ratio[draws].median(1).values.quantile(torch.tensor([0.025, 0.975])).tolist()
    return Figure(what, f"{float(ratio.median()):.4f}", spread=f"{low:.4f} to {high:.4f}, 95 % of resamplings")


def _own(case: Case, most: int = MOST, traced: bool = False) -> Oracle:
    layout = case.layout
    classifier = bs.Classifier(
        case.module, batch=layout.batch, channels_last=layout.channels_last, smaller=layout.smaller
    )
    budget = Budget(forwards=most + 1, backwards=most)
    keys = key(0, torch.arange(len(case.images)))
    with classifier.session():
        oracle = Oracle(
            classifier, case.images, case.goal, case.space, case.objective, keys,
            keep="lowest", budget=budget, traced=traced,
        )  # fmt: skip
        descend(oracle, case.space.zero(), case.optimiser, most)
    return oracle


def _trace(case: Case) -> Tensor:
    """The lowest objective (MOST, N) so far."""
    values = torch.stack([entry["loss"] for entry in _own(case, traced=True).record.trace])[:MOST]
    missing = torch.full((MOST - len(values), values.shape[1]), float("inf"))
    return torch.cat((values.nan_to_num(nan=float("inf")), missing)).cummin(0).values


def _bare(case: Case, layout: Layout) -> float:
    """Seconds of one image's gradient of the objective, in the model batch, away from the start."""
    rows = torch.arange(layout.batch) % len(case.images)
    space = case.space.narrow(rows)
    laid = replace(case, module=ChannelsLast(case.module)) if layout.channels_last else case
    noise = torch.randn(space.zero().shape, generator=torch.Generator().manual_seed(0))
    theta = space.project(space.zero() + 0.1 * noise)
    laid.ask(space, theta, rows)
    return median(timed(lambda: laid.ask(space, theta, rows)).cpu for _ in range(30)) / len(rows)


def _case(network: str, kind: str, count: int) -> Case:
    module, images, labels = victim(network, count)
    goal = Goal(labels, (labels + 1 + torch.arange(len(labels)) % 9) % 10)
    layout = bs.Classifier(module).layout(images)
    if kind == "flow":
        objective = Weighted(((1.0, Margin(0.0)), (0.005, FlowLoss("sum"))))
        bends = LBFGS(metric=Smoothing(bs.StAdv().smoothing))
        return Case(f"{network}, flow", module, layout, images, goal, Flow(images), objective, bends)
    objective = Weighted(((10.0, CrossEntropy()), (1.0, SquaredSize())))
    return Case(f"{network}, box", module, layout, images, goal, Additive(images, "linf", 1.0), objective, LBFGS())


@cache
def victim(network: str, count: int) -> tuple[nn.Module, Tensor, Tensor]:
    """The network trained on digits, with frozen parameters, and test images that it gets right."""
    place = cache_directory() / "benchmarks" / f"lbfgs-{network}"
    settings = bs.TrainSettings(
        network=network, epochs=3, batch=64, schedule="onecycle", learning_rate=2e-3, validation=0.0, threads=1,
        out=str(place),
    )  # fmt: skip
    data = digit_data("test")
    model = bs.classifier(str(Path(bs.fit(settings, data=digit_data("train", 6000)).model)), device="cpu")
    images, labels, _ = data.batch(0, min(len(data), 2 * count))
    right = (model.logits(images).argmax(1) == labels).nonzero().squeeze(1)[:count]
    return model.module.eval().requires_grad_(False), images[right], labels[right]
