"""The parts of generative methods: networks, forms of a change, losses, targets."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

import blindspots as bs
from blindspots import BlindspotsError, Classifier
from blindspots.generative.forms import Form, filled, shortened
from blindspots.generative.inward import into_box
from blindspots.generative.makers import discriminator
from blindspots.generative.victims import Victims, aims
from blindspots.goal import Goal
from blindspots.models.generators import GENERATORS

SMALL = {"unet": {"width": 8}, "autoencoder": {"width": 8}, "resnet-generator": {"width": 4, "blocks": 2}}


@pytest.mark.parametrize("name", GENERATORS)
@pytest.mark.parametrize(("channels", "size"), [(1, 8), (1, 28), (3, 32), (3, 33), (3, 224)])
def test_a_generator_answers_in_the_shape_of_its_images(name: str, channels: int, size: int) -> None:
    network = bs.build_generator(name, channels=channels, size=size, **SMALL[name]).eval()
    images = torch.rand(1 if size > 33 else 3, channels, size, size).requires_grad_()
    answer = network(images)
    assert answer.shape == images.shape
    (gradient,) = torch.autograd.grad(answer.square().sum(), images)
    assert gradient.isfinite().all()
    assert gradient.any()


def test_skips_are_what_sets_the_unet_apart() -> None:
    """Without the narrowest level a U-Net still sees the image; an autoencoder sees nothing of it."""
    images = torch.rand(2, 1, 16, 16)
    for name, sees in (("unet", True), ("autoencoder", False)):
        network = bs.build_generator(name, channels=1, size=16, width=4, norm="none")
        with torch.no_grad():
            for weight in network.network.up[0].parameters():  # type: ignore[union-attr]
                weight.zero_()
            first, second = network(images)
        assert torch.equal(first, second) is not sees


def test_the_number_of_levels_follows_the_size() -> None:
    def levels(size: int, **given: int) -> int:
        return len(bs.build_generator("unet", channels=1, size=size, width=1, **given).network.down)  # type: ignore[union-attr, arg-type]

    assert [levels(size) for size in (8, 28, 32, 33, 224, 256, 600)] == [3, 5, 5, 6, 8, 8, 8]
    assert levels(28, levels=3) == 3


@pytest.mark.parametrize(
    ("name", "given", "told"),
    [
        ("unett", {}, "generator 'unett'"),
        ("unet", {"widths": 3}, "setting of 'unet' 'widths'"),
        ("unet", {"width": -1}, "needs width, levels and fine of at least 0"),
        ("unet", {"norm": "layer"}, "must be one of batch, instance, none, got 'layer'"),
        ("unet", {"width": "wide"}, "width of 'unet' must be int, got 'wide'"),
        ("unet", {"levels": 6, "size": 32}, "takes images of at least 33x33 pixels, got 32x32"),
        ("resnet-generator", {"size": 4}, "takes images of at least 5x5 pixels, got 4x4"),
    ],
)
def test_what_a_generator_cannot_take_is_told(name: str, given: dict[str, object], told: str) -> None:
    with pytest.raises(BlindspotsError) as caught:
        bs.build_generator(name, **{"channels": 1, "size": 28, **given})  # type: ignore[arg-type]
    assert told in str(caught.value)


def brute(d: Tensor, x: Tensor, radius: float) -> Tensor:
    """clip(x + s d) - x with the s of size `radius`, by bisection in float64."""
    low, high = 0.0, 1e6
    for _ in range(200):
        middle = (low + high) / 2
        size = float(((x + middle * d).clamp(0, 1) - x).norm())
        low, high = (middle, high) if size < radius else (low, middle)
    return (x + low * d).clamp(0, 1) - x


@pytest.mark.parametrize("radius", [0.01, 0.7, 1.5])
def test_the_box_cuts_a_filled_change_off_to_just_its_radius(radius: float) -> None:
    draw = torch.Generator().manual_seed(2)
    d = torch.randn(6, 1, 4, 4, generator=draw, dtype=torch.float64)
    x = torch.rand(6, 1, 4, 4, generator=draw, dtype=torch.float64).mul(1.6).sub(0.3).clamp(0, 1)  # some at the bounds
    change = filled(d, x, radius)
    for row in range(6):
        torch.testing.assert_close(change[row], brute(d[row], x[row], radius), rtol=0, atol=1e-7)
    torch.testing.assert_close(change.flatten(1).norm(dim=1), torch.full((6,), radius, dtype=torch.float64))


def test_a_box_without_room_is_used_up() -> None:
    x = torch.full((1, 1, 2, 2), 0.5, dtype=torch.float64)
    change = filled(torch.tensor([[[[3.0, -1.0], [0.5, 0.0]]]], dtype=torch.float64), x, 5.0)
    assert change.flatten().tolist() == [0.5, -0.5, 0.5, 0.0]


def test_gradients_of_a_filled_change_are_exact() -> None:
    """Also through the scale, and where the box has cut something off."""
    draw = torch.Generator().manual_seed(5)
    d = torch.randn(2, 1, 3, 3, generator=draw, dtype=torch.float64).requires_grad_()
    x = torch.rand(2, 1, 3, 3, generator=draw, dtype=torch.float64).round(decimals=1)
    assert torch.autograd.gradcheck(lambda d: filled(d, x, 0.8), (d,))


def test_forms_hold_their_radius_and_a_sigmoid_only_adds() -> None:
    answers, x = 5 * torch.randn(8, 1, 6, 6), torch.rand(8, 1, 6, 6)
    for head in ("tanh", "sigmoid"):
        for norm, exact in (("linf", True), ("l2", True), ("l2", False)):
            changed = Form(head, norm, 0.4, exact)(answers, x)  # type: ignore[arg-type]
            assert 0 <= changed.min() <= changed.max() <= 1
            size = bs.geometry.NORMS[norm].size((changed - x).double())
            assert (size <= 0.4 * (1 + 1e-6)).all()
            assert bool((changed - x >= 0).all()) is (head == "sigmoid")
    d = torch.randn(3, 2, 5, 5)
    torch.testing.assert_close(shortened(d, 0.5).flatten(1).norm(dim=1), torch.full((3,), 0.5))
    assert torch.equal(shortened(d, 100.0), d)
    torch.testing.assert_close(Form("sigmoid", "l2", None)(answers, x), answers.sigmoid())


def test_a_change_held_in_linf_reaches_all_of_ball_and_box_and_is_never_stuck() -> None:
    """Where a bound of the box is near, the change spans what is left; clamp(x + radius tanh(a)) would rest there."""
    x = torch.tensor([0.0, 0.1, 0.5, 1.0], dtype=torch.float64).view(1, 1, 2, 2)
    low, high = Form("tanh", "linf", 0.3)(torch.full_like(x, -40), x), Form("tanh", "linf", 0.3)(x + 40, x)
    torch.testing.assert_close(low.flatten(), torch.tensor([0.0, 0.0, 0.2, 0.7], dtype=torch.float64))
    torch.testing.assert_close(high.flatten(), torch.tensor([0.3, 0.4, 0.8, 1.0], dtype=torch.float64))
    for head in ("tanh", "sigmoid"):
        answers = torch.linspace(-2, 2, 4, dtype=torch.float64).view(1, 1, 2, 2).requires_grad_()
        form = Form(head, "linf", 0.3)  # type: ignore[arg-type]
        assert torch.autograd.gradcheck(lambda a, form=form: form(a, x), (answers,))
        form(answers, x.clamp(max=0.9)).sum().backward()
        assert answers.grad is not None
        assert (answers.grad > 1e-3).all()


def test_into_box_is_clamp_and_stops_what_leads_further_out() -> None:
    values = torch.tensor([-1.0, -1.0, 0.0, 0.4, 1.0, 2.0, 2.0], requires_grad=True)
    boxed = into_box(values)
    assert torch.equal(boxed, values.clamp(0, 1))
    # Descent moves against the gradient: up where it is negative.
    (boxed * torch.tensor([-1.0, 1.0, 1.0, 3.0, -1.0, 1.0, -1.0])).sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [-1.0, 0.0, 0.0, 3.0, 0.0, 1.0, 0.0]


def test_losses_are_those_of_the_papers(victim) -> None:
    """log of the mean cross entropy of a target; minus it of the label; least-likely of the clean logits."""
    model = victim.classifier()
    victims = Victims([model, model], [1.0, 0.5], 4)
    x, y = victim.images, victim.labels
    changed = (x + 0.1).clamp(0, 1)
    with victims.session(), torch.no_grad():
        z, after = model.forward(x), model.forward(changed)
        entropy = nn.functional.cross_entropy
        expected = {
            ("log-ce", None): -(entropy(after, y) + 1e-8).log(),
            ("log-ce", 3): (entropy(after, torch.full_like(y, 3)) + 1e-8).log(),
            ("least-likely", None): (entropy(after, z.argmin(1)) + 1e-8).log(),
            ("margin", None): Goal(y).margin(after).clamp(min=-0.1).mean(),
            ("sigmoid", None): (Goal(y).margin(after) / 0.1).sigmoid().mean(),
        }
        for (loss, target), value in expected.items():
            goal = Goal(y, None if target is None else torch.full_like(y, target))
            got, reached = victims.value(x, changed, goal, loss, 0.1)  # type: ignore[arg-type]
            torch.testing.assert_close(got, 1.5 * value)
            assert torch.equal(reached, goal.reached(after))


def test_a_critic_answers_for_patches() -> None:
    assert discriminator((3, 32, 32))(torch.rand(2, 3, 32, 32)).shape == (2, 1, 4, 4)
    assert discriminator((1, 5, 5))(torch.rand(2, 1, 5, 5)).shape == (2, 1, 5, 5)


def test_targets_are_one_class_one_an_image_or_maps() -> None:
    assert aims(None, 4, 5) is None
    assert int(aims(3, 4, 5)) == 3  # type: ignore[arg-type]
    assert aims([0, 1, 2, 4], 4, 5).tolist() == [0, 1, 2, 4]  # type: ignore[union-attr]
    assert aims(torch.zeros(6, 7, dtype=torch.int64), 4, 5).shape == (6, 7)  # type: ignore[union-attr]
    for given, told in (
        (5, "targets must be classes from 0 to 4, got values from 5 to 5"),
        (-1, "got values from -1 to -1"),
        ([0, 1], "one for each of the 4 images: got 2"),
        (0.5, "must be whole numbers from 0 to 4"),
    ):
        with pytest.raises(BlindspotsError) as caught:
            aims(given, 4, 5)
        assert told in str(caught.value)


def test_victims_that_do_not_fit_are_refused(victim) -> None:
    model = victim.classifier()
    softmax = Classifier(nn.Sequential(victim.module(), nn.Softmax(1)), name="soft")
    other = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).double())
    for models, weights, told in (
        ([], None, "give at least one"),
        ([model], [1.0, 2.0], "weights must be one number above 0 for each of 1 classifiers"),
        ([softmax], None, "'soft' answers with probabilities, whose gradients vanish"),
        ([model, other], None, "different numbers of classes, [3, 5]"),
    ):
        with pytest.raises(BlindspotsError) as caught:  # noqa: PT012
            victims = Victims(models, weights, 4)
            with victims.session():
                victims.check(victim.images[:1])
        assert told in str(caught.value)
    honest = Classifier(nn.Sequential(victim.module(), nn.Softmax(1)), outputs="probabilities")
    with (same := Victims([honest], None, 4)).session():
        assert same.check(victim.images[:1]) == 5
    assert math.isfinite(float(honest.logits(victim.images).max()))
