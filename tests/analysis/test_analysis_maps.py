"""Activation maps: CAM in closed form, Grad-CAM where both apply, ranks against brute force, the page."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from blindspots import BlindspotsError, Classifier, analysis
from blindspots.analysis.activation import activation_maps, enlarged, last_spatial, pooled_head, rank_correlation
from blindspots.data import dataset
from blindspots.evaluation.intervals import mean

captum = pytest.importorskip("captum", reason="captum is not installed: pip install 'blindspots[explain]'")


def pooled_net() -> nn.Sequential:
    """A network that ends in a global average and one linear layer."""
    return nn.Sequential(
        nn.Conv2d(1, 7, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(7, 5)
    ).double()


def test_grad_cam_is_cam_where_both_apply(victim) -> None:
    model = Classifier(pooled_net(), batch=4)
    cam = activation_maps(model, victim.images, victim.labels, "1", "cam")
    grad_cam = activation_maps(model, victim.images, victim.labels, "1", "grad-cam")
    assert torch.allclose(cam / 64, grad_cam, atol=1e-12)
    # The mean of the map is the logit, but for the bias.
    logits, bias = model.logits(victim.images), model.module[4].bias.detach()
    own = victim.labels[:, None]
    assert torch.allclose(cam.mean((1, 2)), (logits - bias).gather(1, own)[:, 0], atol=1e-12)


def test_grad_cam_leaves_the_model_as_it_was_and_ignores_the_model_batch(victim) -> None:
    parts = []
    for batch in (1, 4, 16):
        model = victim.classifier(batch=batch)
        parts.append(activation_maps(model, victim.images, victim.labels, "conv", "grad-cam"))
        assert all(weight.requires_grad and weight.grad is None for weight in model.module.parameters())
        assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in model.module.modules())
    for other in parts[1:]:
        assert torch.allclose(parts[0], other, atol=1e-12)


def test_the_kind_of_network_is_found_by_what_it_computes(victim) -> None:
    pooled = Classifier(pooled_net(), batch=4)
    assert pooled_head(pooled, victim.images, "1") is pooled.module[4]
    assert pooled_head(pooled, victim.images, "0") is None, "before the ReLU it is another mean"
    assert pooled_head(victim.classifier(), victim.images, "conv") is None
    assert last_spatial(pooled, victim.images[:1]) == "1"
    assert last_spatial(victim.classifier(), victim.images[:1]) == "conv"


def test_ranks_are_those_of_spearman_with_ties_and_constants() -> None:
    draw = torch.Generator().manual_seed(0)
    first = torch.randint(0, 4, (6, 3, 3), generator=draw).double()
    second = torch.randint(0, 4, (6, 3, 3), generator=draw).double()
    found = rank_correlation(first, second)
    wanted = [spearmanr(a.flatten(), b.flatten()).statistic for a, b in zip(first, second, strict=True)]
    assert np.allclose(found, wanted, atol=1e-12)
    assert np.allclose(rank_correlation(first, 3 * first + 1), 1)
    assert np.allclose(rank_correlation(first, -first), -1)
    assert np.isnan(rank_correlation(first, torch.ones_like(first))).all()


def test_large_maps_keep_their_places_and_peak_at_one() -> None:
    maps = torch.tensor([[[0.0, 2.0], [0.0, 0.0]], [[-1.0, -2.0], [-1.0, -1.0]]])
    large = enlarged(maps, (8, 8))
    assert float(large[0].max()) == pytest.approx(1)
    assert large[0].argmax() % 8 >= 4
    assert not large[1].any(), "a map that speaks against the class shows nothing"


def test_student_intervals_hold_the_mean_of_normal_values_as_often_as_they_say() -> None:
    draws = torch.randn(4000, 5, generator=torch.Generator().manual_seed(0)).double().tolist()
    inside = [found["low"] <= 0 <= found["high"] for found in map(mean, draws)]
    assert 0.935 <= np.mean(inside) <= 0.965  # 4.4 standard errors


def test_the_page_has_every_attack_and_its_values(victim, tmp_path) -> None:
    data = dataset("digits", limit=60)
    images, _, _ = data.batch(0, 60)
    net = victim.module(torch.float32)
    right = dataset((images, net(images).argmax(1)))
    asked = analysis.Maps(attacks=("fgsm:radius=0.3", "fgsm:radius=0.3"), images=8, shown=2)
    done = asked(victim.classifier(torch.float32), right, out=tmp_path)
    told = json.loads((tmp_path / "maps.json").read_text())
    assert [entry["attack"] for entry in told["attacks"]] == ["fgsm 0.3", "fgsm 0.3 #2"]
    assert told["attacks"][0]["label"] == told["attacks"][1]["label"]
    assert told["layer"] == "conv"
    assert told["method"] == "grad-cam"
    assert told["attacks"][0]["fooled"]["of"] == 8
    assert done.page == tmp_path / "maps.html"
    assert (tmp_path / "maps" / "maps.png").read_bytes().startswith(b"\x89PNG")


def test_mistakes_are_told_in_one_sentence(victim, monkeypatch) -> None:
    model, images = victim.classifier(), victim.images[:2]
    with pytest.raises(BlindspotsError, match="cam needs a network that ends in the global average"):
        activation_maps(model, images, victim.labels[:2], "conv", "cam")
    with pytest.raises(BlindspotsError, match=r"layer 'head' answers an image with the shape \(5,\)"):
        activation_maps(model, images, victim.labels[:2], "head", "grad-cam")
    with pytest.raises(BlindspotsError, match="no convolution that answers with several places"):
        last_spatial(Classifier(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).double(), batch=2), images)
    with pytest.raises(BlindspotsError, match=r"Maps.images must be at least 1, got 0"):
        analysis.Maps(images=0)
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(BlindspotsError, match=r"grad-cam needs the package 'captum'.*blindspots\[explain\]"):
        activation_maps(model, images, victim.labels[:2], "conv", "grad-cam")
