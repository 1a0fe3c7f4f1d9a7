"""Local filters, l2 pooling, contrast normalisation: dense matrices and closed forms; learning without labels."""

from __future__ import annotations

import pytest
import torch

import blindspots as bs
from blindspots.models.quocnet import ContrastNorm, L2Pool, LocallyConnected
from blindspots.training.without_labels import WithoutLabels, fit_detector


def dense(layer: LocallyConnected, channels: int) -> torch.Tensor:
    """The matrix (maps * side * side, channels * size * size), entry by entry from the definition."""
    maps, k, side, size = layer.weight.shape[1], layer.kernel, layer.side, layer.size
    matrix = torch.zeros(maps, side, side, channels, size, size, dtype=layer.weight.dtype)
    for row in range(side):
        for column in range(side):
            weight = layer.weight[row * side + column].view(maps, channels, k, k)
            matrix[:, row, column, :, row : row + k, column : column + k] = weight
    return matrix.view(maps * side * side, channels * size * size)


def test_a_locally_connected_layer_is_its_dense_matrix_and_the_decoder_its_transpose() -> None:
    layer = LocallyConnected(2, 6, 3, 4).double()
    images = torch.rand(5, 2, 6, 6, dtype=torch.float64)
    matrix = dense(layer, 2).detach()
    answers = layer(images)
    assert answers.shape == (5, 3, 3, 3)
    torch.testing.assert_close(answers.flatten(1).detach(), images.flatten(1) @ matrix.T)
    back = layer.transposed(answers, layer.weight)
    torch.testing.assert_close(back.flatten(1).detach(), answers.flatten(1).detach() @ matrix)


def test_equal_weights_everywhere_are_a_convolution() -> None:
    layer = LocallyConnected(2, 7, 3, 3)
    with torch.no_grad():
        layer.weight.copy_(layer.weight[:1].expand_as(layer.weight))
    images = torch.rand(4, 2, 7, 7)
    torch.testing.assert_close(layer(images), torch.nn.functional.conv2d(images, layer.weight[0].view(3, 2, 3, 3)))


def test_the_l2_pool_is_the_norm_of_its_window() -> None:
    maps = torch.rand(2, 3, 6, 6, dtype=torch.float64)
    wanted = maps.unfold(2, 2, 2).unfold(3, 2, 2).flatten(4).norm(dim=4)
    torch.testing.assert_close(L2Pool(2, 2)(maps), wanted, atol=1e-7, rtol=1e-7)


def test_contrast_normalisation_has_its_closed_forms() -> None:
    norm = ContrastNorm(5, least=0.01)
    still = torch.full((1, 3, 7, 7), 0.7, dtype=torch.float64)
    assert float(norm(still).abs().max()) < 1e-9  # a constant has no contrast, at the border either
    signs = torch.tensor([1.0, -1.0], dtype=torch.float64).view(1, 2, 1, 1).expand(1, 2, 7, 7)
    torch.testing.assert_close(norm(0.7 + 0.3 * signs), signs)  # mean 0.7, deviation 0.3 in every window
    torch.testing.assert_close(norm(0.7 + 0.002 * signs), 0.2 * signs)  # below the least deviation: 0.002 / 0.01
    maps = torch.rand(2, 3, 7, 7, dtype=torch.float64)
    torch.testing.assert_close(norm(5 * maps + 1), norm(maps))
    middle = maps[:, :, 1:6, 1:6]
    weight = norm.window.double() / norm.window.double().sum()
    torch.testing.assert_close(norm._mean(maps)[:, 0, 3, 3], (middle.mean(1) * weight[0, 0]).sum((1, 2)))


def enlarged(count: int) -> bs.data.ImageData:  # type: ignore[name-defined]
    images, labels, _ = bs.dataset("digits", limit=count).batch(0, count)
    return bs.dataset((torch.nn.functional.interpolate(images, size=24, mode="bilinear"), labels))


def test_learning_without_labels_lowers_the_objective_and_a_detector_beats_the_commonest_class() -> None:
    data = enlarged(120)
    torch.manual_seed(0)
    network = bs.build("quocnet", size=24)
    told = WithoutLabels(epochs=2, batch=40).fit(network, data, seed=1)
    assert told[-1] < told[0]
    before = [value.clone() for value in network[:-1].parameters()]
    fit_detector(network, data)
    assert all(torch.equal(old, new) for old, new in zip(before, network[:-1].parameters(), strict=True))
    right = bs.classifier(network, batch=50).logits(data.batch(0, 120)[0]).argmax(1) == data.labels
    assert float(right.double().mean()) > 0.5


def test_the_objective_is_what_it_says() -> None:
    torch.manual_seed(0)
    network = bs.build("quocnet", size=24).double()
    stages = [network.stage1, network.stage2]
    images = torch.rand(3, 1, 24, 24, dtype=torch.float64)
    decoders = [stage.local.weight.detach() for stage in stages]
    total = torch.zeros((), dtype=torch.float64)
    below = images
    for stage in stages:
        matrix = dense(stage.local, below.shape[1]).detach()
        code = below.flatten(1) @ matrix.T
        pooled = stage.pool(code.view(3, -1, stage.local.side, stage.local.side))
        penalty = (pooled.square() + 1e-4).sqrt().flatten(1).sum(1)
        total += ((code @ matrix - below.flatten(1)).square().sum(1) + 0.1 * penalty).mean()
        below = stage.norm(pooled)
    torch.testing.assert_close(WithoutLabels().objective(stages, decoders, images).detach(), total.detach())


def test_mistakes_are_told_in_a_sentence() -> None:
    with pytest.raises(bs.BlindspotsError, match="needs images of at least 23x23 pixels, got 22x22"):
        bs.build("quocnet", size=22)
    with pytest.raises(bs.BlindspotsError, match="needs stages of local filters"):
        WithoutLabels().fit(bs.build("fc10"), bs.dataset("digits", limit=20))
    with pytest.raises(bs.BlindspotsError, match="a detector must be linear, got ReLU"):
        fit_detector(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.ReLU()), bs.dataset("digits", limit=20))
