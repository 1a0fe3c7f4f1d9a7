"""Two-stage moments, layer by layer moments, windows, noise statistics and their pages, on small networks."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor, nn

from blindspots import BlindspotsError, Classifier, analysis, build
from blindspots.analysis.moments.distribution import project
from blindspots.analysis.moments.matching import matched
from blindspots.analysis.moments.noise import Noise
from blindspots.analysis.moments.rectified import affine_relu_affine
from blindspots.analysis.moments.sampling import sample
from blindspots.analysis.moments.split import find_split, rectifiers
from blindspots.analysis.moments.two_stage import front, moments, two_stage
from blindspots.analysis.moments.windows import flip_chance, window_chances
from blindspots.data import dataset

DOUBLE = torch.float64
IMAGES = torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(5), dtype=DOUBLE)


def mlp(*widths: int, seed: int = 0, **settings) -> Classifier:
    """A chain of dense layers and ReLUs for 4 x 4 pixels."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = [nn.Flatten()]
    for before, width in zip((16, *widths), (*widths, 4), strict=True):
        layers += [nn.Linear(before, width), nn.ReLU()]
    return Classifier(nn.Sequential(*layers[:-1]).double(), batch=8, **settings)


class Around(nn.Module):
    """Affine-ReLU-affine with a leak and a way round it: exact for the two-stage form."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(16, 9), nn.Linear(9, 4), nn.Linear(16, 4)
        self.act = nn.LeakyReLU(0.2, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        return self.b(self.act(self.a(x))) + self.c(x)


def blocks() -> Classifier:
    """Four classes, each twice the sum of its own four pixels, by way of max(z, 0) - max(-z, 0) = z.

    Any class is in reach of any image: two blocks moved by 0.9 change a margin by more than 8, the largest there is.
    """
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4)).double()
    weight, own = torch.eye(16), torch.eye(4).repeat_interleave(4, 1) * 2
    with torch.no_grad():
        net[1].weight.copy_(torch.cat((weight, -weight)))
        net[1].bias.copy_(torch.cat((-0.5 * torch.ones(16), 0.5 * torch.ones(16))))
        net[3].weight.copy_(torch.cat((own, -own), 1))
        net[3].bias.zero_()
    return Classifier(net, batch=8)


def close(found, drawn, errors: float = 4.0) -> None:
    assert bool(((found.mean - drawn.mean).abs() <= errors * drawn.mean_error).all())
    assert bool(((found.covariance - drawn.covariance).abs() <= errors * drawn.covariance_error).all())


def test_one_hidden_layer_is_the_closed_form() -> None:
    model = mlp(7)
    root = 0.2 * torch.randn(16, 16, dtype=DOUBLE)
    shift = 0.1 * torch.randn(1, 4, 4, dtype=DOUBLE)
    found = two_stage(model, IMAGES, root @ root.mT, mean=shift)
    A, c1, B, c2 = (p.detach() for p in model.module.parameters())
    for row, image in enumerate(IMAGES):
        exact = affine_relu_affine(A, c1, B, c2, (image + shift).flatten(), root @ root.mT)
        assert torch.allclose(found.mean[row], exact.mean, rtol=1e-10)
        assert torch.allclose(found.covariance[row], exact.covariance, rtol=1e-9, atol=1e-12)
    by_layer = matched(model, IMAGES, root @ root.mT, mean=shift, terms=40)
    assert torch.allclose(by_layer.mean, found.mean, rtol=1e-10)
    assert torch.allclose(by_layer.covariance, found.covariance, rtol=1e-3, atol=1e-9)


def test_ways_around_and_leaks_are_followed_exactly() -> None:
    model = Classifier(Around().double(), batch=8, mean=[0.4], std=[0.5])
    (split,) = rectifiers(model, IMAGES)
    assert (split.name, split.slope, split.width, split.around) == ("act", 0.2, 9, True)
    found = two_stage(model, IMAGES, 0.3)
    close(found, sample(model, IMAGES, Noise.of(IMAGES[0], 0.3), 100_000))
    still = two_stage(model, IMAGES, 0.0)
    assert torch.allclose(still.mean, model.logits(IMAGES))
    assert torch.equal(still.variance, torch.zeros(3, 4, dtype=DOUBLE))


class Deep(nn.Module):
    """A convolution with batch norm, pooling, and one ReLU that runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.relu = nn.Conv2d(1, 5, 3, padding=1), nn.BatchNorm2d(5), nn.ReLU(inplace=True)
        self.pool, self.hidden, self.out = nn.MaxPool2d(2), nn.Linear(20, 8), nn.Linear(8, 4)
        self.norm.running_mean.normal_()
        self.norm.running_var.uniform_(0.5, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.relu(self.norm(self.conv(x))))
        return self.out(self.relu(self.hidden(x.flatten(1))))


@pytest.mark.parametrize("layer", ["relu", "relu:2"])
@pytest.mark.parametrize("expansion", ["mean", "point"])
def test_any_split_is_exact_as_the_noise_vanishes(layer: str, expansion: str) -> None:
    model = Classifier(Deep().double(), batch=8)
    assert [s.name for s in rectifiers(model, IMAGES)] == ["relu", "relu:2"]
    was = {k: v.clone() for k, v in model.module.state_dict().items()}
    for form in ("general", "series", "first-order"):
        found = two_stage(model, IMAGES, 1e-6, layer=layer, form=form, expansion=expansion)
        assert torch.allclose(found.mean, model.logits(IMAGES), atol=1e-5)
        free = IMAGES.clone().requires_grad_()
        with model.session(), torch.enable_grad():
            logits = model.forward(free, exact=True)
            rows = [torch.autograd.grad(logits[:, k].sum(), free, retain_graph=True)[0].flatten(1) for k in range(4)]
        slope = torch.stack(rows, 1)
        assert torch.allclose(found.covariance, 1e-12 * slope @ slope.mT, rtol=1e-3, atol=1e-18)
    assert all(torch.equal(was[k], v) for k, v in model.module.state_dict().items())
    assert model.module.training


def test_images_do_not_depend_on_their_company(monkeypatch) -> None:
    model = Classifier(Deep().double(), batch=8)
    whole = two_stage(model, IMAGES, 0.1)
    monkeypatch.setattr("blindspots.analysis.moments.two_stage.NUMBERS", 1)
    monkeypatch.setattr("blindspots.analysis.moments.two_stage.ROWS", 3)
    alone = two_stage(model, IMAGES, 0.1)
    assert torch.allclose(whole.covariance, alone.covariance, rtol=1e-10)
    drawn = sample(model, IMAGES, Noise.of(IMAGES[0], 0.1), 700, index=torch.tensor([4, 9, 2]))
    other = sample(model, IMAGES[2:], Noise.of(IMAGES[0], 0.1), 700, index=torch.tensor([2]))
    assert torch.allclose(drawn.covariance[2], other.covariance[0], rtol=1e-12)
    assert torch.equal(drawn.counts.sum(1), torch.full((3,), 700))


def test_pairs_change_nothing_that_is_linear_and_mend_what_bends() -> None:
    linear = mlp(7)
    without, with_pairs = (two_stage(linear, IMAGES, 0.3, pairs=pairs) for pairs in (0, 3))
    assert torch.allclose(without.mean, with_pairs.mean, rtol=1e-9)
    assert torch.allclose(without.covariance, with_pairs.covariance, rtol=1e-9)
    model = Classifier(Deep().double(), batch=8)
    drawn = sample(model, IMAGES, Noise.of(IMAGES[0], 0.3), 20_000)
    plain, mended = (two_stage(model, IMAGES, 0.3, layer="relu:2", pairs=pairs) for pairs in (0, 100))
    off = [float(((found.mean - drawn.mean) / drawn.variance.sqrt()).square().mean()) for found in (plain, mended)]
    assert off[1] < off[0] / 2
    alone = two_stage(model, IMAGES[2:], 0.3, layer="relu:2", pairs=2, index=torch.tensor([8]))
    whole = two_stage(model, IMAGES, 0.3, layer="relu:2", pairs=2, index=torch.tensor([3, 5, 8]))
    assert torch.allclose(alone.mean[0], whole.mean[2], rtol=1e-9)


def test_other_points_serve_images_near_them() -> None:
    model = mlp(7)  # affine before its ReLU: the same wherever it is linearised
    near = two_stage(model, IMAGES, 0.1, points=IMAGES[:1])
    assert torch.allclose(near.covariance, two_stage(model, IMAGES, 0.1).covariance, rtol=1e-9)
    deep = mlp(12, 10, 8)
    with deep.session(), torch.no_grad():
        start = front(deep, IMAGES, find_split(deep, IMAGES, None))
        off = start.nearest(IMAGES[[2, 0]] + 0.01)
        assert torch.equal(off.points, IMAGES[[2, 0]])
        moved = moments(deep, off, Noise.of(IMAGES[0], 0.01), images=IMAGES[[2, 0]] + 0.001)
    here = two_stage(deep, IMAGES[[2, 0]] + 0.001, 0.01)
    assert torch.allclose(moved.mean, here.mean, rtol=0.01, atol=1e-3)


@pytest.mark.parametrize("sigma", [0.02, 0.2])
def test_layer_by_layer_is_near_sampling_in_deep_networks(sigma: float) -> None:
    model = mlp(60, 50, 40, mean=[0.3], std=[0.6])
    found = matched(model, IMAGES, sigma)
    drawn = sample(model, IMAGES, Noise.of(IMAGES[0], sigma), 40_000)
    far = (found.mean - drawn.mean).abs() - 4 * drawn.mean_error
    assert float((far / drawn.variance.sqrt()).max()) < 0.05
    off = (found.variance / drawn.variance - 1).abs()
    assert float(off.mean()) < 0.1
    assert float(off.max()) < 0.25


def test_batch_norm_and_leaks_go_through_layer_by_layer() -> None:
    norm = nn.BatchNorm1d(30)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 30), norm, nn.LeakyReLU(0.2), nn.Dropout(), nn.Linear(30, 4))
    model = Classifier(net.double(), batch=8)
    exact = two_stage(model, IMAGES, 0.2)
    found = matched(model, IMAGES, 0.2, terms=12)
    assert torch.allclose(found.mean, exact.mean, atol=1e-5)
    assert torch.allclose(found.covariance, exact.covariance, rtol=1e-3, atol=1e-6)


def test_the_chance_of_a_flip_is_exact_for_two_classes() -> None:
    weight = torch.randn(2, 16, dtype=DOUBLE)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 16), nn.LeakyReLU(1.0), nn.Linear(16, 2)).double()
    with torch.no_grad():
        net[1].weight.copy_(torch.eye(16))
        net[1].bias.zero_()
        net[3].weight.copy_(weight)
    model = Classifier(net, batch=8)
    with model.session(), torch.no_grad():
        chances = window_chances(model, front(model, IMAGES, find_split(model, IMAGES, None)), 0.7, 2, 2)
    logits = model.logits(IMAGES)
    margin = logits.amax(1) - logits.amin(1)
    gap = (weight[0] - weight[1]).view(2, 2, 2, 2).transpose(1, 2).flatten(2).norm(dim=2)  # of each window
    normal = torch.distributions.Normal(0, 1)
    assert torch.allclose(chances, normal.cdf(-margin.view(-1, 1, 1) / (0.7 * gap)), atol=1e-9)
    sure = flip_chance(torch.tensor([[1.0, 2.0]]), torch.zeros(1, 2, 2), torch.tensor([0]))
    assert float(sure) == 1


def test_the_projection_is_the_nearest_point() -> None:
    draw = torch.Generator().manual_seed(0)
    mean, sigma = 2 * torch.randn(200, generator=draw, dtype=DOUBLE), torch.randn(200, generator=draw, dtype=DOUBLE)
    near, less = project(mean, sigma, 0.5)
    assert bool(((near.abs() + 2 * less <= 0.5 + 1e-12) & (less >= 0)).all())
    again = project(near, less, 0.5)
    assert torch.allclose(again[0], near)
    assert torch.allclose(again[1], less)
    m, s = torch.meshgrid(torch.linspace(-0.5, 0.5, 401).double(), torch.linspace(0, 0.25, 201).double(), indexing="ij")
    inside = m.abs() + 2 * s <= 0.5
    grid = (m[inside] - mean.unsqueeze(1)).square() + (s[inside] - sigma.unsqueeze(1)).square()
    assert bool(((near - mean).square() + (less - sigma).square() <= grid.amin(1) + 1e-9).all())


@pytest.mark.parametrize("settings", [{}, {"shared": True}, {"sparse": 0.5}, {"smooth": 0.01}])
def test_noise_statistics_change_the_expected_answer_of_the_true_network(settings) -> None:
    model = blocks()
    # For one noise the images must be of one class: the second is nearly the first.
    images = torch.cat((IMAGES[:1], 0.98 * IMAGES[:1]))
    labels = model.logits(images).argmax(1)
    found = analysis.Distributional(radius=0.9, steps=40, learning_rate=0.05, **settings).search(model, images, labels)
    assert bool((found.mean.abs() + 2 * found.sigma <= 0.9 + 1e-9).all())
    assert bool((found.expected.argmax(1) != labels).all())
    moved = (images + found.mean).view(2, 4, 4).sum(2) * 2 - 4  # this network is linear: its mean is its answer
    assert torch.allclose(found.expected, moved)
    for row in range(2):
        drawn = sample(model, images[row : row + 1], Noise.of(images[0], found.sigma[row], found.mean[row]), 4000)
        assert int(drawn.mean.argmax()) != int(labels[row])
    if settings.get("shared"):
        assert torch.equal(found.mean[0], found.mean[1])
    target = (labels + 1) % 4
    aimed = analysis.Distributional(radius=1.0, steps=80, learning_rate=0.05).search(
        model, images, labels, targets=target
    )
    assert torch.equal(aimed.expected.argmax(1), target)


def test_sparse_and_smooth_means_are() -> None:
    model = mlp(20, 12, seed=1)
    labels = model.logits(IMAGES).argmax(1)
    plain, sparse, smooth = (
        analysis.Distributional(radius=0.9, steps=40, learning_rate=0.05, **more).search(model, IMAGES, labels).mean
        for more in ({}, {"sparse": 0.7}, {"smooth": 0.2})
    )
    assert int((sparse == 0).sum()) > int((plain == 0).sum())
    total = [float(m.diff(dim=2).abs().sum() + m.diff(dim=3).abs().sum()) for m in (plain, smooth)]
    assert total[1] < total[0]


def test_pages(tmp_path) -> None:
    net = Classifier(build("fc12-10-10", channels=1, size=8, hidden="relu"), batch=16)
    data = dataset("digits", limit=40)
    done = analysis.Moments(images=3, draws=200, sigmas=(0.05,), shown=2, curve=20, points=3)(net, data, out=tmp_path)
    values = json.loads(done.json.read_text())
    assert {row["way"] for row in values["tightness"]} == {"relu1", "relu2", "layer by layer"}
    assert 0 <= values["curve"]["area"] <= 1
    assert values["curve"]["accuracy"][0]["of"] == 20
    assert "Tightness" in done.page.read_text()
    settings = analysis.Distributional(images=2, draws=50, steps=3)
    labels = net.logits(data.batch(0, 40)[0]).argmax(1)
    made = settings(net, (data.batch(0, 40)[0], labels), out=tmp_path)
    assert set(made.values["ways"]) == {"noise", "clamped to [0, 1]", "random signs"}
    assert "Answers under the noise" in made.page.read_text()


def test_mistakes_are_told(conv) -> None:
    model = mlp(6, 5)
    with pytest.raises(BlindspotsError, match="unknown ReLU-like layer '3': known: 2, 4"):
        two_stage(model, IMAGES, 0.1, layer="3")
    with pytest.raises(BlindspotsError, match="has no ReLU-like layer"):
        two_stage(Classifier(conv(), batch=4), torch.rand(2, 1, 8, 8), 0.1)
    with pytest.raises(BlindspotsError, match="positive semi-definite"):
        two_stage(model, IMAGES, -torch.eye(16, dtype=DOUBLE))
    with pytest.raises(BlindspotsError, match="sigma must be finite and not negative"):
        two_stage(model, IMAGES, -0.1)
    with pytest.raises(BlindspotsError, match=r"sigma must be a number, of the shape \(1, 4, 4\), or a covariance"):
        two_stage(model, IMAGES, torch.ones(5))
    with pytest.raises(BlindspotsError, match="mean of the noise must have the shape"):
        two_stage(model, IMAGES, 0.1, mean=torch.zeros(16))
    with pytest.raises(BlindspotsError, match="form must be one of"):
        two_stage(model, IMAGES, 0.1, form="exact")  # type: ignore[arg-type]
    with pytest.raises(BlindspotsError, match="pairs must be at least 0"):
        two_stage(model, IMAGES, 0.1, pairs=-1)
    with pytest.raises(BlindspotsError, match="expansion must be one of"):
        two_stage(model, IMAGES, 0.1, expansion="middle")  # type: ignore[arg-type]
    with pytest.raises(BlindspotsError, match="is no chain of layers"):
        matched(Classifier(Around().double(), batch=4), IMAGES, 0.1)
    with pytest.raises(BlindspotsError, match=r"has the layer 'conv' \(Conv2d\)"):
        matched(Classifier(_convolution(), batch=4), IMAGES, 0.1)
    with pytest.raises(BlindspotsError, match="draws must be at least 2"):
        sample(model, IMAGES, Noise.of(IMAGES[0], 0.1), 1)
    with pytest.raises(BlindspotsError, match=r"Moments\.sigmas and largest must be above 0"):
        analysis.Moments(sigmas=())
    with pytest.raises(BlindspotsError, match=r"Moments\.images asks for 20 images"):
        analysis.Moments()(model, (IMAGES, torch.zeros(3, dtype=torch.int64)))
    with pytest.raises(BlindspotsError, match=r"Moments\.window must be at most 4"):
        analysis.Moments(images=2, shown=2, curve=2, window=5)(model, (IMAGES, torch.zeros(3, dtype=torch.int64)))


def _convolution() -> nn.Module:
    net = nn.Sequential()
    net.add_module("conv", nn.Conv2d(1, 2, 3))
    net.add_module("relu", nn.ReLU())
    net.add_module("flatten", nn.Flatten())
    net.add_module("out", nn.Linear(8, 4))
    return net.double()
