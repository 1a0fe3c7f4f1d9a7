"""Planes and ways: closed forms on a linear network, edges of box and balls against brute force, the page."""

from __future__ import annotations

import json

import pytest
import torch

from blindspots import BlindspotsError, Classifier, analysis, noise
from blindspots.analysis.planes import Plane, ball_edge, box_edge, logits_at, plane
from blindspots.data import dataset
from blindspots.geometry import NORMS

ANGLES = torch.linspace(0, 2 * torch.pi, 33, dtype=torch.float64)[:-1]


@pytest.fixture
def cut(victim) -> tuple[Plane, float]:
    """A plane through an image with black and white pixels, and a changed one."""
    key = noise.key(0, torch.tensor([4]), "cut")[0]
    image = victim.images[5]
    end = (image + 0.3 * torch.randn(image.shape, dtype=torch.float64)).clamp(0, 1)
    return plane(image, end, key, "inward")


def test_axes_are_at_a_right_angle_and_lead_to_the_attacked_image(cut, victim) -> None:
    where, length = cut
    assert float((where.u * where.v).sum()) == pytest.approx(0, abs=1e-12)
    assert float(where.u.norm()) == pytest.approx(1)
    assert float(where.v.norm()) == pytest.approx(1)
    end = where.points(torch.tensor([length], dtype=torch.float64), torch.zeros(1, dtype=torch.float64))
    assert float(end.min()) >= -1e-12
    assert float((end - victim.images[5]).norm()) == pytest.approx(length)


def test_edges_of_box_and_balls_are_where_points_leave_them(cut) -> None:
    where, _ = cut
    edges = {name: ball_edge(where, name, 0.4, ANGLES) for name in ("l2", "linf", "l1")}
    assert torch.allclose(edges["l2"], torch.tensor(0.4, dtype=torch.float64))
    for name, edge in edges.items():
        at = where.points(edge * ANGLES.cos(), edge * ANGLES.sin()) - where.origin
        assert torch.allclose(NORMS[name].size(at), torch.tensor(0.4, dtype=torch.float64))
    reach = box_edge(where, ANGLES)
    assert bool((reach > 0.05).any()), "inward planes hold images"
    for share, inside in ((0.999, True), (1.001, False)):
        at = where.points(share * reach * ANGLES.cos(), share * reach * ANGLES.sin())[reach > 0]
        held = ((at >= 0) & (at <= 1)).flatten(1).all(1)
        assert held.all() if inside else not held.any()


def test_logits_of_a_linear_network_are_linear_on_the_plane(linear) -> None:
    model = Classifier(linear(pixels=64), batch=3)
    image = torch.rand(1, 8, 8, dtype=torch.float64)
    where, _ = plane(image, image.flip(1), noise.key(0, torch.tensor([0]), "p")[0], "gaussian")
    a, b = torch.rand(7, dtype=torch.float64), torch.rand(7, dtype=torch.float64)
    weight = model.module[1].weight.detach()
    slopes = torch.stack([weight @ axis.flatten() for axis in (where.u, where.v)])
    wanted = model.module(image[None]).detach() + torch.stack((a, b), 1) @ slopes
    assert torch.allclose(logits_at(model, where, a, b), wanted, atol=1e-12)


def test_on_a_linear_network_the_boundary_is_crossed_once_and_where_it_is(linear, tmp_path) -> None:
    """DeepFool's overshoot leaves the image 1.02 times as far as the boundary, if no pixel is at a bound."""
    model = Classifier(linear(classes=2, pixels=64), batch=8)
    draw = torch.Generator().manual_seed(0)
    images = 0.5 + 0.02 * torch.rand(12, 1, 8, 8, generator=draw)
    labels = model.logits(images).argmax(1)
    asked = analysis.Slices(attack="pgd:norm=l2,radius=3,steps=1,step_size=3,random_start=false", images=12, shown=1,
                            resolution=31, reach=2.0)  # fmt: skip
    done = asked(model, dataset((images, labels)), out=tmp_path)
    shares = done.values["shares"]
    fooled = shares["fooled by the attack"]["count"]
    assert fooled > 0
    for words, told in list(shares.items())[1:3]:
        assert told["count"] == fooled, words
    weight, bias = (part.detach() for part in (model.module[1].weight, model.module[1].bias))
    apart = ((weight[0] - weight[1]) @ images.double().flatten(1).T + bias[0] - bias[1]).abs()
    exact = (apart / (weight[0] - weight[1]).norm() / 3)[apart / (weight[0] - weight[1]).norm() < 3]
    assert done.values["first"]["count"] == len(exact) == fooled
    # A crossing is seen at the next point of the grid.
    assert float(exact.mean()) <= done.values["first"]["value"] <= float(exact.mean()) + 2 / 30 + 1e-9
    assert json.loads((tmp_path / "slices.json").read_text())["first"]["value"] == done.values["first"]["value"]
    assert (tmp_path / "slices" / "plane-0.png").is_file()


def test_an_attack_that_fools_nothing_has_no_planes(linear) -> None:
    model = Classifier(linear(pixels=64), batch=8)
    images = torch.rand(3, 1, 8, 8)
    done = analysis.Slices(attack="fgsm:radius=0", images=3)(model, dataset((images, model.logits(images).argmax(1))))
    assert done.values["shares"]["fooled by the attack"]["count"] == 0
    assert any("no plane to draw" in getattr(block, "text", "") for block in done.blocks)


def test_fewer_right_images_than_asked_for_are_refused(linear) -> None:
    model = Classifier(linear(pixels=64), batch=8)
    images = torch.rand(4, 1, 8, 8)
    labels = (model.logits(images).argmax(1) + torch.tensor([0, 1, 1, 1])) % 3
    with pytest.raises(BlindspotsError, match=r"Slices.images asks for 2 images that the network gets right.*gets 1"):
        analysis.Slices(images=2)(model, dataset((images, labels)))
