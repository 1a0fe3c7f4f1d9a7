"""L-BFGS for a batch against SciPy's image by image, and against BoTorch's batched port of it where that is found.

Two problems: a flow that moves MNIST digits to a target (margin and flow loss, no bounds), and the smallest change
that does (cross entropy and squared size, within the box). Everyone minimises the same objective from the unchanged
image with the same number of evaluations allowed per image, in float32 networks. SciPy calls the bare module with one
image; BoTorch, as it comes, with all images that are left; fed by hand, with those in the same batches as blindspots,
which chooses batch and memory format by itself, as it does for a user.
The lowest objective after N evaluations counts, and for those that have ended earlier what they ended with.

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
from blindspots.optimisers import LBFGS
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
    single, batched, overhead = [], [], []
    port: dict[str, list[Time]] = {}
    bares: dict[str, list[float]] = {}
    botorch = find_botorch()
    for _ in range(rounds):
        bare = _bare(case, case.layout)
        own = timed(lambda: _own(case))
        bare = (bare + _bare(case, case.layout)) / 2
        alone = timed(lambda: one_by_one(case))
        single.append(alone)
        batched.append(own)
        overhead.append(own.cpu / (int(own.value.record.backwards.sum()) * bare))
        if botorch is not None:
            for way, batch in ((_COMES, len(case.images)), (_FED, case.layout.batch)):
                port.setdefault(way, []).append(timed(lambda batch=batch: batched_port(case, botorch, batch)))
                bares.setdefault(way, []).append(_bare(case, Layout(batch)))
    busy = [a.cpu / b.cpu for a, b in zip(single, batched, strict=True)]
    traces = {"SciPy": single[0].value, "blindspots": _trace(case)}
    reached = {name: [float(trace[mark - 1].median()) for mark in MARKS] for name, trace in traces.items()}
    raw = {
        "objective": reached,
        "evaluations": int(batched[0].value.record.backwards.sum()),
        "images": len(case.images),
        "layout": asdict(case.layout),
    }
    ratios = [a.wall / b.wall for a, b in zip(single, batched, strict=True)]
    figures = [
        at_least(f"{case.name}: images per second over those of SciPy one by one", ratios, faster, **raw),
        information(f"{case.name}: the same in processor time", busy),
        at_most(f"{case.name}: the loop over its gradients at bare cost, processor time", overhead, 1.25),
        _same_objective(case, "SciPy one by one", traces["SciPy"], traces["blindspots"], single, batched),
    ]
    for place, mark in enumerate(MARKS):
        there, ours = reached["SciPy"][place], reached["blindspots"][place]
        what = f"{case.name}: median objective after {mark} evaluations, SciPy's {there:.4f}"
        figures.append(Figure(what, f"{ours:.4f}", "not above", met=ours <= there + 1e-6 * abs(there)))
        figures.append(_paired(f"{case.name}: ours over SciPy's after {mark}, image by image", traces, mark))
    for way, theirs in port.items():
        ratios = [a.wall / b.wall for a, b in zip(theirs, batched, strict=True)]
        alone = [port.cpu / (port.value.evaluations * bare) for port, bare in zip(theirs, bares[way], strict=True)]
        what = f"{case.name}: images per second over those of BoTorch's batched port, {way}"
        figures.append(at_least(what, ratios, 1.5) if way == _COMES else information(what, ratios))
        busy = [a.cpu / b.cpu for a, b in zip(theirs, batched, strict=True)]
        figures.append(information(f"{case.name}: the same in processor time", busy))
        peer = f"BoTorch's batched port, {way},"
        figures.append(information(f"{case.name}: {peer} over its own gradients at bare cost, processor time", alone))
        figures.append(_same_objective(case, peer, theirs[0].value.trace, traces["blindspots"], theirs, batched))
    return figures


def _paired(what: str, traces: dict[str, Tensor], mark: int) -> Figure:
    """The median ratio of the objectives of an image, with a bootstrap interval: paths over kinks are chaotic."""
    ratio = traces["blindspots"][mark - 1] / traces["SciPy"][mark - 1]
    draws = torch.randint(len(ratio), (2000, len(ratio)), generator=torch.Generator().manual_seed(0))
    low, high = ratio[draws].median(1).values.quantile(torch.tensor([0.025, 0.975])).tolist()
    return Figure(what, f"{float(ratio.median()):.4f}", spread=f"{low:.4f} to {high:.4f}, 95 % of resamplings")


def _same_objective(
    case: Case, peer: str, theirs: Tensor, ours: Tensor, others: list[Time], batched: list[Time]
) -> Figure:
    """How much faster the peer's final mean objective is reached, time taken as in proportion to evaluations."""
    target = float(theirs[-1].median())
    below = (ours.median(1).values <= target).nonzero()
    if not len(below):
        return Figure(f"{case.name}: {peer}'s median objective {target:.4f} is not reached", f"{ours[-1].median():.4f}")
    work = _spent(ours)
    share = float(work[: int(below[0]) + 1].sum() / work.sum())
    ratios = [other.cpu / (own.cpu * share) for other, own in zip(others, batched, strict=True)]
    return information(f"{case.name}: the same to the median objective that {peer} ends with", ratios)


def _spent(trace: Tensor) -> Tensor:
    """About how many images each query still asked about: those whose value falls later on, or the first ones."""
    later = (trace - trace[-1]) > 0
    return later.double().sum(1).clamp(min=1)


def _own(case: Case, traced: bool = False) -> Oracle:
    layout = case.layout
    classifier = bs.Classifier(
        case.module, batch=layout.batch, channels_last=layout.channels_last, smaller=layout.smaller
    )
    budget = Budget(forwards=MOST + 1, backwards=MOST)
    keys = key(0, torch.arange(len(case.images)))
    with classifier.session():
        oracle = Oracle(
            classifier, case.images, case.goal, case.space, case.objective, keys,
            keep="lowest", budget=budget, traced=traced,
        )  # fmt: skip
        descend(oracle, case.space.zero(), LBFGS(), MOST)
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
        return Case(f"{network}, flow", module, layout, images, goal, Flow(images), objective)
    objective = Weighted(((10.0, CrossEntropy()), (1.0, SquaredSize())))
    return Case(f"{network}, box", module, layout, images, goal, Additive(images, "linf", 1.0), objective)


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
