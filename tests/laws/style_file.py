"""A small style transfer with random weights for the victim's images: what it draws is noise, but always the same."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from blindspots.style.features import Architecture, FeatureNetwork
from blindspots.style.network import StyleNetwork
from blindspots.style.transfer import StyleTransfer


def style_file() -> Path:
    """Write it to a file of its own, and return the path."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        architecture = Architecture("small-cnn", 5, 1, 8, {})
        layers = ("features.relu1", "features.relu2")
        features = FeatureNetwork(
            architecture.build(), architecture, None, None, layers, layers[1], "small-cnn, random"
        )
        network = StyleNetwork(planes=2, copies=2, content=32, channels=1, width=4, blocks=1)
        torch.nn.init.normal_(network.last.weight, std=0.3)
        bank = torch.rand(3, 1, 8, 8)
    path = Path(tempfile.mkdtemp(prefix="blindspots-style-")) / "style.safetensors"
    return StyleTransfer(features, network, bank, (1, 8, 8)).save(path)
