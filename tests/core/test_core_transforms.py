"""Input transformations: what each does to images and gradients, and what the family makes of them."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch
from torch import Tensor, nn

from blindspots import MIFGSM, PGD, BlindspotsError, Classifier
from blindspots.config import make_attack, parse_attack
from blindspots.transforms import TRANSFORMS, Diverse, Scales, Translation, parse_transforms

KEYS = torch.arange(1, 7) * 1_000_003


def images() -> Tensor:
    return torch.rand(6, 2, 12, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 0.8 + 0.1


@pytest.mark.parametrize("transform", [Diverse(1.0), Diverse(), Scales(), Translation(5)], ids=str)
def test_rows_do_not_see_each_other(transform) -> None:
    given, rows = images(), [4, 1]
    for copy in range(transform.copies):
        whole = transform.change(given, KEYS, copy)
        assert whole.shape == given.shape
        assert torch.equal(transform.change(given[rows], KEYS[rows], copy), whole[rows])
    assert torch.equal(transform.smooth(given[rows]), transform.smooth(given)[rows])


def test_diverse_inputs_shrink_and_move() -> None:
    """Black round a smaller image; of 12 pixels sides of 10, 11 and 12 occur, at every place that they fit."""
    given = torch.ones(400, 1, 12, 12, dtype=torch.float64)
    changed = Diverse(1.0).change(given, torch.arange(400) * 7_919, 0)
    assert set(changed.unique().tolist()) == {0.0, 1.0}
    sides = changed.amax(2).sum(2).flatten()
    assert sorted(sides.unique().tolist()) == [10, 11, 12]
    assert all(100 < int((sides == side).sum()) < 170 for side in (10, 11, 12))
    assert torch.equal(sides, changed.amax(3).sum(2).flatten()), "squares stay squares"
    tops = changed.amax(3).flatten(1).argmax(1)
    assert sorted(tops[sides == 10].unique().tolist()) == [0, 1, 2]
    assert torch.equal(Diverse(0.0).change(images(), KEYS, 0), images())
    some = (Diverse(0.5).change(given, torch.arange(400) * 7_919, 0) == 0).flatten(1).any(1)
    assert 0.2 < float(some.double().mean()) < 0.5, "half of them, less those that keep their size"


def test_diverse_inputs_read_between_pixels() -> None:
    """A ramp stays a ramp, of a steeper slope, inside the shrunken image; the gradient is passed on whole."""
    ramp = torch.arange(12, dtype=torch.float64).expand(50, 1, 12, 12).clone().requires_grad_()
    changed = Diverse(1.0).change(ramp, torch.arange(50) * 104_729, 0)
    inside = changed.detach() > 0
    for row in range(50):
        line = changed.detach()[row, 0, 6][inside[row, 0, 6]]
        slopes = line[2:-1] - line[1:-2]
        assert min(abs(float(slopes[0]) - 12 / side) for side in (10, 11, 12)) < 1e-9
        torch.testing.assert_close(slopes, slopes[:1].expand_as(slopes))
    (gradient,) = torch.autograd.grad(changed.sum(), ramp)
    drawn = (Diverse(1.0).change(torch.ones_like(ramp), torch.arange(50) * 104_729, 0)).sum()
    assert float(gradient.sum()) == pytest.approx(float(drawn.detach()))


def test_smoothing_is_a_convolution_with_a_gaussian() -> None:
    size, half = 7, 3
    line = torch.exp(-0.5 * (3.0 * torch.arange(-half, half + 1, dtype=torch.float64) / half) ** 2)
    line /= line.sum()
    kernel = (line[:, None] * line).expand(2, 1, size, size)
    expected = nn.functional.conv2d(images(), kernel, padding=half, groups=2)
    torch.testing.assert_close(Translation(size).smooth(images()), expected)
    assert torch.equal(Translation(1).smooth(images()), images())


def test_copies_of_scales() -> None:
    for copy in range(5):
        assert torch.equal(Scales(5).change(images(), KEYS, copy), images() * 0.5**copy)


def linear_model(pixels: int = 16) -> tuple[Classifier, Tensor, Tensor]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(pixels, 3)).double()
    given = torch.rand(5, 1, 4, 4, dtype=torch.float64) * 0.2 + 0.4
    return Classifier(net, classes=3, batch=4), given, net(given).argmax(1)


@pytest.mark.parametrize(
    "options",
    [{"momentum": "ni"}, {"variance": 3}, {"eot": 2}, {"transforms": "si:3"}, {"transforms": "ti:1"}],
    ids=str,
)
def test_on_a_linear_margin_the_options_change_nothing(options) -> None:
    """A gradient that is the same everywhere is its own mean, has no variance, and leads where it led before."""
    model, given, labels = linear_model()
    plain = MIFGSM(0.01, steps=4, loss="margin", keep="lowest")(model, given, labels)
    other = MIFGSM(0.01, steps=4, loss="margin", keep="lowest", **options)(model, given, labels)
    assert (plain.images - other.images).abs().max() < 1e-12
    assert (other.forwards > plain.forwards).all()


def test_what_an_option_costs() -> None:
    model, given, labels = linear_model()
    for options, each in (({"transforms": "si:3", "eot": 2}, 6), ({"variance": 4, "transforms": "si:2-di"}, 10)):
        result = MIFGSM(1e-6, steps=4, **options)(model, given, labels)
        assert result.forwards.tolist() == [5 + 4 * each] * 5
        assert result.backwards.tolist() == [4 * each] * 5
    result = PGD(1e-6, steps=4, transforms="si:3")(model, given, labels)
    assert result.forwards.tolist() == [1 + 5 + 4 * 3] * 5


def test_variance_is_that_of_the_point_before() -> None:
    """On f(x) = margin of squares the slope is linear in x, so the mean slope of the neighbourhood tells the draws."""

    class Squares(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            square = x.flatten(1).square().sum(1)
            return torch.stack((square, torch.zeros_like(square)), 1)

    given, labels = torch.full((2, 1, 2, 2), 0.5), torch.zeros(2, dtype=torch.long)
    asked = MIFGSM(0.02, steps=2, loss="margin", variance=400, reach=2.0)
    result = asked(Classifier(Squares(), classes=2, batch=2), given, labels)
    # 400 draws of mean 0 hardly tilt four equal slopes: the path is the plain one.
    torch.testing.assert_close(result.images, given - 0.02)


def test_transformations_are_named_in_one_text() -> None:
    assert parse_transforms("") == ()
    assert parse_transforms("si:3-ti:7-di:0.7") == (Scales(3), Translation(7), Diverse(0.7))
    attack = make_attack(parse_attack("mifgsm:radius=8/255,momentum=ni,transforms=di:0.7-ti:7,variance=5"))
    assert attack == MIFGSM("8/255", momentum="ni", transforms="di:0.7-ti:7", variance=5)
    assert make_attack(parse_attack("pgd:radius=8/255,rivals=9")) == PGD("8/255", rivals=9)
    with pytest.raises(BlindspotsError, match="Scales"):
        parse_transforms("si:0")


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transformations_describe_themselves(name: str) -> None:
    assert TRANSFORMS[name].name == name
    assert TRANSFORMS[name].summary
    assert len(fields(TRANSFORMS[name])) == 1, "one setting, which the text gives"
