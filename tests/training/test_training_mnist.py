"""The default network on MNIST: 99 % on the test images within a few minutes on two cores."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from blindspots.training import TrainSettings, fit

MNIST = Path(os.environ.get("BLINDSPOTS_DATA", "")) / "MNIST" / "raw"


@pytest.mark.mnist
@pytest.mark.slow
@pytest.mark.skipif(
    not list(MNIST.glob("train-images-idx3-ubyte*")), reason="no MNIST/raw files in the folder BLINDSPOTS_DATA"
)
@pytest.mark.timeout(1200)
def test_small_cnn_reaches_99_percent(tmp_path: Path) -> None:
    settings = TrainSettings(
        data="mnist",
        epochs=3,
        learning_rate=3e-3,
        schedule="onecycle",
        threads=1,
        device="cpu",
        out=str(tmp_path / "run"),
    )
    trained = fit(settings)
    assert trained.test_accuracy is not None
    assert trained.test_accuracy >= 0.99
