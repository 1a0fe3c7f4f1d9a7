"""Auto-PGD: checkpoints and halvings worked out by hand, the sparse steps, and rivals in turn."""

from __future__ import annotations

import pytest
import torch

from blindspots import APGD, APGDT, BlindspotsError, Classifier
from blindspots.optimisers import AdaptiveSteps, SparseSteps
from blindspots.optimisers.apgd import checkpoints


def test_checkpoints_are_those_of_the_paper() -> None:
    assert checkpoints(100) == (0, 22, 41, 57, 70, 80, 87, 93, 99)
    # p = .22 .41 .57 .70 .80 .87 .93 .99 of 10, rounded up: 3 5 6 7 8 9 10 10
    assert checkpoints(10) == (0, 3, 5, 6, 7, 8, 9, 10)
    assert checkpoints(1) == (0, 1)


def walk(losses: list[list[float]], steps: int) -> tuple[list[list[float]], list[list[float]], list[list[float]]]:
    """Steps, points of departure and points of one-pixel images, of which the slope is always 1, nothing projected."""
    optimiser = AdaptiveSteps("linf", 1.0, steps)
    theta = torch.zeros(len(losses), 1, 1, 1, dtype=torch.float64)
    state, gradient, sizes, departures, points = optimiser.init(theta), torch.ones_like(theta), [], [], []
    for loss in torch.tensor(losses, dtype=torch.float64).T:
        points.append(theta.flatten().tolist())
        ahead, state = optimiser.update(theta, loss, gradient, state)
        sizes.append(state["step"].tolist())
        departures.append(state["at"].flatten().tolist())
        theta = optimiser.blend(ahead, state)
    return [list(x) for x in zip(*sizes, strict=True)], [list(x) for x in zip(*departures, strict=True)], points


def test_a_step_by_hand() -> None:
    """x_1 = x_0 - 1; then x_2 = x_1 - .75 * 1 + .25 (x_1 - x_0) = -1 - .75 - .25, and so on: all of size 1."""
    _, departures, points = walk([[5.0, 4.0, 3.0]], 10)
    assert [p[0] for p in points] == [0.0, -1.0, -2.0]
    assert departures == [[0.0, -1.0, -2.0]]


def test_halvings_by_hand() -> None:
    """Ten steps are looked at after 3, 5, 6, 7, ... of them.

    The first image falls all the way. The second falls in 2 of its first 3 steps, fewer than 2.25: its step is halved,
    and it goes back to where its loss was 4. From there: at 5, 1 of 2 steps fell, again too few.
    """
    falling = [5.0, 4.0, 3.0, 2.0, 1.0, 0.0]
    trembling = [5.0, 4.0, 6.0, 5.0, 6.0, 5.5]
    sizes, departures, points = walk([falling, trembling], 10)
    assert sizes[0] == [1.0] * 6
    assert sizes[1] == [1.0, 1.0, 1.0, 0.5, 0.5, 0.25]
    assert departures[1][3] == points[1][1], "back to the lowest point, that of the query of loss 4"
    assert departures[1][5] == points[1][1]
    # At x_3 the search goes back to -1, which counts as the move there from x_2 = -2: x_4 = -1 - .75 * .5 + .25 * 1.
    assert points[4][1] == -1 - 0.75 * 0.5 + 0.25 * 1


def test_a_lowest_loss_that_does_not_move_halves_every_other_checkpoint() -> None:
    """Condition 2, for steps that fall, but never below the start: halved at 22, not at 41 (just halved), at 57."""
    sizes, departures, points = walk([[0.0, *range(100, 29, -1)]], 100)
    changes = [k for k in range(1, len(sizes[0])) if sizes[0][k] != sizes[0][k - 1]]
    assert changes == [22, 57]
    assert departures[0][22] == points[0][0]


def test_images_have_their_own_steps() -> None:
    both = walk([[5.0, 4.0, 3.0, 2.0], [5.0, 6.0, 7.0, 8.0]], 10)
    for row, losses in enumerate(([5.0, 4.0, 3.0, 2.0], [5.0, 6.0, 7.0, 8.0])):
        alone = walk([losses], 10)
        assert alone[0][0] == both[0][row]
        assert [p[0] for p in alone[2]] == [p[row] for p in both[2]]


def test_sparse_steps_by_hand() -> None:
    """Of ten values a share of .2 moves two, of the largest slopes, each by half of the step, against its slope."""
    theta = torch.full((1, 1, 2, 5), 0.5, dtype=torch.float64)
    gradient = torch.tensor([[3.0, -1, 0, 2, 0], [0, -4, 0, 0, 1]], dtype=torch.float64).view(1, 1, 2, 5)
    optimiser = SparseSteps(1.0, 50)  # looked at every 2 steps
    state = optimiser.init(theta)
    clean, loss = theta, torch.tensor([5.0], dtype=torch.float64)
    moved, state = optimiser.update(theta, loss, gradient, state)
    assert (moved - clean).flatten().tolist() == [-0.5, 0, 0, 0, 0, 0, 0.5, 0, 0, 0]
    _, state = optimiser.update(moved, loss - 1, gradient, state)
    assert state["share"].item() == 0.2
    # After two steps: the lowest point is that of the second query, which changes 2 values where 10 were assumed.
    # Sparser: share 2 / 15 (1 value, rounded up to 2 of 10 kept: 10 - floor(8.67)), full step, back to that point.
    again, state = optimiser.update(theta, loss, gradient, state)
    assert state["share"].item() == pytest.approx(2 / 15)
    assert state["step"].item() == 1.0
    assert (again - moved).flatten().tolist() == [-0.5, 0, 0, 0, 0, 0, 0.5, 0, 0, 0]
    # After four: still 2 values, not sparser: the step is divided by 1.5.
    _, state = optimiser.update(theta, loss, gradient, state)
    _, state = optimiser.update(theta, loss, gradient, state)
    assert state["step"].item() == pytest.approx(1 / 1.5)
    for _ in range(20):
        _, state = optimiser.update(theta, loss, gradient, state)
    assert state["step"].item() == pytest.approx(0.1)


def test_impossible_steps_are_refused() -> None:
    with pytest.raises(BlindspotsError, match=r"AdaptiveSteps\.steps must be at least 1"):
        AdaptiveSteps("linf", 0.1, 0)
    with pytest.raises(BlindspotsError, match=r"SparseSteps\.step must be at least 0"):
        SparseSteps(-0.1, 10)


@pytest.mark.parametrize(("norm", "dual"), [("linf", 1), ("l2", 2)])
def test_the_distance_of_a_linear_model_decides(linear, norm: str, dual: int) -> None:
    """With two classes an image falls exactly if its radius passes |z_0 - z_1| / ||w_0 - w_1||_dual."""
    net = linear(classes=2)
    images = torch.rand(20, 1, 4, 4, dtype=torch.float64) * 0.2 + 0.4
    with torch.no_grad():
        net[1].bias -= net(images).mean(0)
        logits = net(images)
    gap = (logits[:, 0] - logits[:, 1]).abs()
    distance = gap / torch.linalg.vector_norm(net[1].weight[0] - net[1].weight[1], ord=dual)
    distance = distance.detach()
    radius = float(distance.median())
    assert radius < 0.3, "no pixel may reach its bound"
    for attack in (
        APGD(radius, norm),
        APGD(radius, norm, loss="dlr"),
        APGDT(radius, norm),
        APGDT(radius, norm, loss="ce"),
    ):
        result = attack(Classifier(net, classes=2, batch=8), images, logits.argmax(1))
        clear = (distance / radius - 1).abs() > 1e-6
        assert torch.equal(result.success[clear], (distance <= radius)[clear])


def test_rivals_reach_what_the_label_alone_does_not() -> None:
    """Class 2 is second on the image, but its logit cannot rise; class 1 is third, and can: only its own run finds it.

    Away from the label the gradient of the margin is that of class 2, which is flat.
    """

    class Net(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            flat = x.flatten(1)
            up = 10 * (flat[:, 0] - 0.5)
            return torch.stack((flat[:, 1] * 0 + 1.0, up, flat[:, 2] * 0 + 0.9), 1)

    images, labels = torch.full((3, 1, 2, 2), 0.45), torch.zeros(3, dtype=torch.long)
    model = Classifier(Net(), classes=3, batch=2)
    blind = APGD(0.2, loss="margin", steps=10)(model, images * 0 + 0.25, labels)
    assert not blind.success.any()
    for rivals, found in ((1, False), (2, True)):
        result = APGDT(0.4, loss="margin", steps=10, rivals=rivals)(model, images * 0 + 0.25, labels)
        assert result.success.tolist() == [found] * 3
    told = APGDT(0.4, steps=10)(model, images * 0 + 0.25, labels, targets=1)
    assert told.success.all()
    assert (told.prediction == 1).all()


def test_the_mean_of_gradients_serves_a_randomised_model() -> None:
    """Every call hides all pixels but one, at random: one draw shows one slope, the mean of many shows them all."""

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.calls, self.draw = 0, torch.Generator().manual_seed(0)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.calls += len(x)
            seen = torch.randint(0, 16, (len(x),), generator=self.draw)
            pixel = x.flatten(1).gather(1, seen[:, None]).squeeze(1)
            return torch.stack((torch.zeros_like(pixel), 30 * (pixel - 0.9)), 1)

    images, labels = torch.full((8, 1, 4, 4), 0.5), torch.zeros(8, dtype=torch.long)
    lift = {}
    for draws in (1, 64):
        net = Net()
        result = APGD(0.3, steps=1, eot=draws, keep="lowest", loss="margin")(Classifier(net, batch=8), images, labels)
        assert net.calls == 8 * (1 + draws + 1) + 8, "one more to count the classes"
        assert result.forwards.tolist() == [2 + draws] * 8
        assert result.backwards.tolist() == [draws] * 8
        lift[draws] = (result.images - images).mean()
    assert lift[64] > lift[1] + 0.1
