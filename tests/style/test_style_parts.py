"""Codes, objective, transfer network and its file: closed forms and identities."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.optimize import minimize
from torch import Tensor, nn

from blindspots import BlindspotsError
from blindspots.spaces import Styled
from blindspots.style import FeatureNetwork, StyleObjective, StyleTransfer, feature_network, gatys
from blindspots.style.codes import content_code, gram, gram_planes, style_code
from blindspots.style.network import StyleNetwork
from blindspots.style.objective import total_variation


@pytest.fixture(scope="module")
def vgg() -> FeatureNetwork:
    return feature_network("vgg16", shape=(3, 32, 32))


@pytest.fixture(scope="module")
def small() -> FeatureNetwork:
    return feature_network("small-cnn", shape=(1, 8, 8))


@pytest.fixture
def transfer(small: FeatureNetwork) -> StyleTransfer:
    network = StyleNetwork(planes=4, copies=3, content=64, channels=1, width=4, blocks=1)
    return StyleTransfer(small, network, torch.rand(2, 1, 8, 8), (1, 8, 8), {"note": "untrained"})


def test_gram_matrices_are_symmetric_positive_and_blind_to_places() -> None:
    features = torch.randn(3, 5, 4, 6, dtype=torch.float64)
    found = gram(features)
    assert torch.allclose(found, found.transpose(1, 2), atol=0)
    assert bool((torch.linalg.eigvalsh(found) > -1e-12).all())
    order = torch.randperm(24)
    moved = features.flatten(2)[..., order].view_as(features)
    assert torch.allclose(gram(moved), found, atol=1e-15)
    by_hand = torch.einsum("bihw,bjhw->bij", features, features) / (5 * 4 * 6)
    assert torch.allclose(found, by_hand, atol=1e-15)


def test_codes_of_vgg_have_128_and_256_planes_and_384_together(vgg: FeatureNetwork) -> None:
    images = torch.rand(2, 3, 32, 32)
    found = vgg(images)
    assert [found[name].shape[1] for name in vgg.style_layers] == [64, 128, 256, 512]
    style = style_code([gram(found[name]) for name in vgg.style_layers], 32)
    content = content_code(found[vgg.content_layer], 32)
    assert style.shape == (2, 128, 32, 32)
    assert content.shape == (2, 256, 32, 32)
    network = StyleNetwork(planes=4, copies=32, content=256, channels=3, width=2, blocks=0)
    assert network.first.weight.shape[1] == torch.cat((style, content), 1).shape[1] == 384


def test_of_equal_planes_only_the_sum_of_the_weights_acts() -> None:
    """The network on single planes is the convolution of the whole code; moving weight between copies is no change."""
    network = StyleNetwork(planes=4, copies=8, content=6, channels=1, width=5, blocks=1).double()
    grams = [torch.rand(3, c, c, dtype=torch.float64) for c in (4, 8, 16, 32)]
    content = torch.rand(3, 6, 12, 12, dtype=torch.float64)
    code = torch.cat((style_code(grams, 12, copies=8), content), dim=1)
    assert code.shape[1] == 38
    for plane in range(4):
        copies = code[:, 8 * plane : 8 * plane + 8]
        assert torch.equal(copies, copies[:, :1].expand_as(copies))
    whole = network.first(nn.functional.pad(code, (4, 4, 4, 4), mode="reflect"))
    folded = nn.functional.pad(torch.cat((gram_planes(grams, 12), content), 1), (4, 4, 4, 4), mode="reflect")
    assert torch.allclose(nn.functional.conv2d(folded, network.summed(), network.first.bias), whole, atol=1e-12)
    before = network(gram_planes(grams, 12), content)
    with torch.no_grad():
        network.first.weight[:, 0] += 3.0
        network.first.weight[:, 7] -= 3.0
    assert torch.allclose(network(gram_planes(grams, 12), content), before, atol=1e-12)
    with torch.no_grad():
        network.first.weight[:, 0] += 3.0
    assert not torch.allclose(network(gram_planes(grams, 12), content), before, atol=1e-3)


def test_scales_make_codes_of_any_size_alike() -> None:
    network = StyleNetwork(planes=2, copies=2, content=3, channels=1, width=4, blocks=0).double()
    grams, content = torch.rand(2, 2, 8, 8).double(), torch.rand(2, 3, 8, 8).double()
    network.measure(grams, content)
    first = network(grams, content)
    small = grams * torch.tensor([1e-6, 1e3]).view(1, 2, 1, 1)
    network.measure(small, 50 * content)
    assert torch.allclose(network(small, 50 * content), first, atol=1e-9)


@pytest.mark.parametrize("loss", ["gram", "features"])
def test_the_objective_is_zero_where_output_style_and_content_are_one(small: FeatureNetwork, loss: str) -> None:
    images = torch.rand(3, 1, 8, 8)
    same = small(images)
    terms = StyleObjective(loss).terms(small, images, same, same)  # type: ignore[arg-type]
    assert not terms["content"].any()
    assert not terms["style"].any()
    assert torch.allclose(terms["total"], 1e-6 * total_variation(images))
    other = small(torch.rand(3, 1, 8, 8))
    assert bool((StyleObjective(loss).terms(small, images, other, other)["total"] > terms["total"]).all())  # type: ignore[arg-type]


def test_a_style_is_blind_to_places_by_gram_and_not_by_features(small: FeatureNetwork) -> None:
    """Features moved about in a layer are the same style by their Gram matrix, and another by themselves."""
    features = {name: torch.rand(1, 4, 4, 4) for name in small.style_layers}
    moved = {name: values.roll(2, 3) for name, values in features.items()}

    class Same(nn.Module):
        style_layers, content_layer = small.style_layers, small.content_layer

        def forward(self, images: Tensor) -> dict[str, Tensor]:
            return moved

    shown = torch.zeros(1, 1, 8, 8)
    by_gram = StyleObjective("gram").terms(Same(), shown, moved, features)["style"]  # type: ignore[arg-type]
    by_features = StyleObjective("features").terms(Same(), shown, moved, features)["style"]  # type: ignore[arg-type]
    assert float(by_gram) == pytest.approx(0, abs=1e-12)
    assert float(by_features) > 0.01


def test_total_variation_by_hand() -> None:
    assert total_variation(torch.tensor([[[[0.0, 1.0], [0.25, 0.5]]]])).item() == pytest.approx(0.25 + 0.5 + 1 + 0.25)


def test_gatys_way_treats_each_image_alone_and_ends_below_where_it_began(small: FeatureNetwork) -> None:
    content, style = torch.rand(3, 1, 8, 8), torch.rand(3, 1, 8, 8)
    objective = StyleObjective(style_weight=100.0)
    with torch.no_grad():
        start = objective.terms(small, content, small(content), small(style))["total"]
    images, loss = gatys(objective, small, content, style, steps=30)
    assert bool((loss < 0.9 * start).all())
    assert images.min() >= 0
    assert images.max() <= 1
    alone, value = gatys(objective, small, content[1:2], style[1:2], steps=30)
    assert torch.allclose(value, loss[1:2], rtol=2e-2)
    assert torch.allclose(alone, images[1:2], atol=0.05)


def test_features_are_those_of_the_network_and_come_from_any_layer_before_the_last(conv) -> None:
    from blindspots.style.features import Architecture

    net = conv()
    features = FeatureNetwork(net, Architecture("small-cnn", 5, 1, 8, {}), None, None, ("conv",), "conv", "tiny")
    images = torch.rand(2, 1, 8, 8)
    assert torch.equal(features(images)["conv"], net.conv(images))
    assert not any(weight.requires_grad for weight in features.parameters())
    assert not features.train().module.training
    leaf = images.requires_grad_(True)
    features(leaf)["conv"].sum().backward()
    assert leaf.grad is not None


def test_a_grey_image_serves_a_network_of_three_channels(vgg: FeatureNetwork) -> None:
    grey = torch.rand(1, 1, 32, 32)
    for name, answer in vgg(grey).items():
        assert torch.equal(answer, vgg(grey.expand(-1, 3, -1, -1))[name])


def test_weights_of_vgg_come_from_a_file_of_the_whole_network(tmp_path) -> None:
    from blindspots.style.vgg import vgg

    state = {f"features.{name}": 2 * value for name, value in vgg().state_dict().items()}
    state |= {"features.28.weight": torch.zeros(1), "classifier.0.weight": torch.zeros(1)}
    torch.save(state, tmp_path / "vgg16.pth")
    found = feature_network("vgg16", str(tmp_path / "vgg16.pth"), shape=(3, 32, 32))
    assert torch.equal(found.module[0].weight, 2 * vgg()[0].weight)
    assert found.used == f"vgg16, weights {tmp_path / 'vgg16.pth'}"


def test_a_saved_transfer_draws_the_same_and_says_what_it_was_made_with(transfer: StyleTransfer, tmp_path) -> None:
    again = StyleTransfer.load(transfer.save(tmp_path / "s.safetensors"))
    content, style = torch.rand(11, 1, 8, 8), torch.rand(11, 1, 8, 8)
    assert torch.equal(again(content, style), transfer(content, style))
    assert again.meta == {"note": "untrained"}
    assert again.features.used == "small-cnn, random weights (seed 0)"
    assert torch.equal(again.bank, transfer.bank)
    assert torch.equal(transfer(content, style)[3:4], transfer(content[3:4], style[3:4])), "whatever comes with it"


def test_mistakes_are_told_in_one_sentence(transfer: StyleTransfer, tmp_path) -> None:
    with pytest.raises(BlindspotsError, match=r"of shape \(1, 8, 8\), got \(1, 3, 8, 8\)"):
        transfer(torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8))
    with pytest.raises(BlindspotsError, match="a multiple of 4 and at least 8, got 10 x 10"):
        transfer.network(torch.rand(1, 4, 10, 10), torch.rand(1, 64, 10, 10))
    with pytest.raises(BlindspotsError, match=r"cannot take images of shape \(3, 8, 8\)"):
        feature_network("vgg16", shape=(3, 8, 8))
    with pytest.raises(BlindspotsError, match=r"unknown layer 'features.relu9'.*known: .*features.relu1"):
        feature_network("small-cnn", shape=(1, 8, 8), style_layers=("features.relu9",), content_layer="features.relu1")
    with pytest.raises(BlindspotsError, match=r"layer 'head.hidden' of the feature network answers with the shape"):
        feature_network("small-cnn", shape=(1, 8, 8), style_layers=("head.hidden",), content_layer="features.relu1")
    with pytest.raises(BlindspotsError, match=r"'net.py:make' cannot be a feature network"):
        feature_network("net.py:make", shape=(1, 8, 8))
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(BlindspotsError, match="holds no style transfer"):
        StyleTransfer.load(tmp_path / "other.safetensors")
    with pytest.raises(BlindspotsError, match=r"style file 'nowhere.safetensors' does not exist"):
        StyleTransfer.load("nowhere.safetensors")


def test_projection_onto_shares_is_the_nearest_point() -> None:
    images, drawn = torch.rand(6, 1, 2, 2).double(), torch.rand(6, 3, 1, 2, 2).double()
    space = Styled(images, drawn, 0.7)
    theta = torch.randn(6, 3, generator=torch.Generator().manual_seed(2)).double()
    found = space.project(theta)
    assert bool(space.within(found).all())
    assert torch.allclose(space.project(found), found, atol=1e-15)
    for row, near in zip(theta.numpy(), found.numpy(), strict=True):
        rule = {"type": "ineq", "fun": lambda t: 0.7 - t.sum()}
        best = minimize(lambda t, row=row: ((t - row) ** 2).sum(), np.zeros(3), bounds=[(0, None)] * 3,
                        constraints=[rule], method="SLSQP", options={"ftol": 1e-14}).x  # fmt: skip
        assert np.allclose(near, best, atol=1e-6)
    assert torch.equal(space.apply(space.zero(), slice(None)), images)
    whole = torch.tensor([[0.0, 1.0, 0.0]], dtype=torch.float64).expand(6, 3)
    assert torch.allclose(space.apply(whole, slice(None)), drawn[:, 1], atol=1e-15)
