"""A perturbation as an attack, in runs and on the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import blindspots as bs
from blindspots import BlindspotsError, Delta, Perturbation, Universal
from blindspots.cli import main
from blindspots.evaluation.run import Run

NET = """
import torch
def net():
    torch.manual_seed(3)
    return torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.Flatten(),
        torch.nn.Linear(256, 10))
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a model in a Python file and images that it gets right."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BLINDSPOTS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "net.py").write_text(NET)
    images = np.random.default_rng(0).integers(0, 256, (40, 1, 8, 8), dtype=np.uint8)
    model = bs.classifier("net.py:net", batch=8)
    labels = model.logits(torch.from_numpy(images).float() / 255).argmax(1).numpy()
    np.savez(tmp_path / "data.npz", images=images, labels=labels)
    return tmp_path


GIVEN = ["--model", "net.py:net", "--data", "data.npz", "--batch", "8"]


def saved(path: Path, shape: tuple[int, ...] = (1, 8, 8), size: float = 0.1, norm: str = "linf") -> Delta:
    delta = size * torch.randn(shape, generator=torch.Generator().manual_seed(4)).sign()
    radius = size if norm == "linf" else float(delta.norm()) * 1.001
    v = Delta(delta, norm, radius, "test")
    v.save(path)
    return v


def test_the_attack_asks_the_perturbed_image_once(victim, tmp_path: Path) -> None:
    v = saved(tmp_path / "v.safetensors")
    attack = Universal(path=str(tmp_path / "v.safetensors"))
    assert (attack.norm, float(attack.radius)) == ("linf", 0.1)
    result = attack(victim.classifier(), victim.images, victim.labels)
    changed = v.apply(victim.images)
    with torch.no_grad():
        fooled = victim.module()(changed).argmax(1) != victim.labels
    attacked = ~victim.wrong
    assert torch.equal(result.success[attacked], fooled[attacked])
    assert 0 < int(fooled[attacked].sum()) < int(attacked.sum()), "the test would be idle"
    hit = attacked & fooled
    torch.testing.assert_close(result.images[hit], changed[hit], rtol=0, atol=1e-7)
    assert result.forwards.tolist() == (2 + (hit & attacked).long()).where(attacked, torch.tensor(2)).tolist()
    assert not result.backwards.any()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_smaller_ball_projects_it_and_a_larger_one_leaves_it(victim, tmp_path: Path, norm: str) -> None:
    path = tmp_path / "v.safetensors"
    v = saved(path, norm=norm)
    own = float(v.radius)
    for factor in (0.5, 1.0, 3.0):
        attack = Universal(own * factor, path=str(path))
        result = attack(victim.classifier(), victim.images, victim.labels)
        expected = (victim.images + v.within(norm, own * factor).double()).clamp(0, 1)
        hit = result.success & ~victim.wrong
        torch.testing.assert_close(result.images[hit], expected[hit], rtol=0, atol=1e-7)
        assert (result.size[norm] <= min(factor, 1.0) * own * (1 + 1e-6)).all()
    assert hit.any()
    other = "l2" if norm == "linf" else "linf"
    assert Universal(0.3, other, str(path)).norm == other


def test_a_file_that_changed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "v.safetensors"
    saved(path)
    attack = Universal(path=str(path))
    saved(path, size=0.05)
    with pytest.raises(BlindspotsError, match=r"holds sha256:[0-9a-f]{16}: the file has changed since"):
        Universal(path=str(path), digest=attack.digest)
    assert Universal(path=str(path)) != attack


def test_a_run_goes_on_only_with_the_same_perturbation(here: Path) -> None:
    saved(here / "v.safetensors")
    model = bs.classifier("net.py:net", batch=8)
    run = bs.evaluate(model, "data.npz", [Universal(path="v.safetensors")], out="r")
    assert run.complete
    assert run.jobs[0]["id"] == "00-perturbation-linf-0.1"
    assert bs.evaluate(model, "data.npz", [Universal(path="v.safetensors")], out="r").complete
    saved(here / "v.safetensors", size=0.05)
    with pytest.raises(BlindspotsError, match="was made with other settings"):
        bs.evaluate(model, "data.npz", [Universal(path="v.safetensors")], out="r")


def test_images_of_another_shape_are_refused_before_anything_is_written(here: Path) -> None:
    saved(here / "v.safetensors", (1, 4, 4))
    with pytest.raises(BlindspotsError, match=r"for images of shape \(1, 4, 4\), got images of shape \(1, 8, 8\)"):
        bs.evaluate(bs.classifier("net.py:net", batch=8), "data.npz", [Universal(path="v.safetensors")], out="r")
    assert not (here / "r").exists()


def run(*words: str) -> int:
    try:
        return main([*words])
    except SystemExit as stop:
        return int(stop.code or 0)


def test_fit_and_evaluate_on_the_command_line(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit = ["fit", "uap", "--radius", "20/255", "--norm", "linf", "--epochs", "2", *GIVEN]
    assert run(*fit, "--out", "v.safetensors") == 0
    out = capsys.readouterr().out
    assert "fooling rate" in out
    assert "held out" in out
    assert "file         v.safetensors" in out
    v = Perturbation.load("v.safetensors")
    assert (v.norm, str(v.radius), v.method, v.shape) == ("linf", "20/255", "uap", (1, 8, 8))
    assert v.meta["held_out"]["fooling"]["of"] == 8
    assert v.meta["model"]["hash"] == bs.classifier("net.py:net").hash
    assert run(*fit, "--out", "w.safetensors") == 0
    assert Path("v.safetensors").read_bytes() == Path("w.safetensors").read_bytes()

    both = ["--perturbation", "v.safetensors", "--attack", "fgsm", "--radius", "0.05", "0.1", "--norm", "linf"]
    assert run("evaluate", *both, *GIVEN, "--out", "r") == 0
    jobs = Run("r").jobs
    assert [(job["attack"], job["radius_text"]) for job in jobs] == [
        ("fgsm", "0.05"), ("perturbation", "20/255"), ("fgsm", "0.1"),
    ]  # fmt: skip
    assert "perturbation" in Path("r/report.html").read_text()
    assert run("evaluate", "--perturbation", "v.safetensors", *GIVEN, "--out", "s") == 0
    assert [job["attack"] for job in Run("s").jobs] == ["perturbation"]
    rows = Run("s").rows("00-perturbation-linf-20_255")
    images = torch.from_numpy(np.load("data.npz")["images"]).float() / 255
    after = bs.classifier("net.py:net", batch=8).logits(v.apply(images)).argmax(1)
    fooled = after != torch.from_numpy(np.load("data.npz")["labels"])
    assert rows["success"].to_pylist() == fooled.tolist()


def test_a_configuration_file_names_perturbations(here: Path) -> None:
    saved(here / "v.safetensors")
    Path("eval.toml").write_text(
        'model = "net.py:net"\ndata = "data.npz"\nbatch = 8\nperturbation = "v.safetensors"\nradius = [0.05]\n'
        '[[attacks]]\nname = "fgsm"\n[[attacks]]\nname = "perturbation"\npath = "v.safetensors"\n'
    )
    assert run("evaluate", "--config", "eval.toml", "--out", "r") == 0
    assert [(job["attack"], job["radius"]) for job in Run("r").jobs] == [
        ("fgsm", 0.05), ("perturbation", 0.05), ("perturbation", 0.1),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["fit", "uap", "--radius", "8", "--out", "v.safetensors"], "UAP.radius 8.0 is larger than 1"),
        (["fit", "uap", "--radius", "0.1", "--out", "v.pt"], "is saved as NAME.safetensors, got 'v.pt'"),
        (["fit", "uap", "--radius", "0.1", "--targets", "77", "--out", "v.safetensors"], "one class from 0 to 9"),
        (["evaluate", "--perturbation", "gone.safetensors"], "perturbation file 'gone.safetensors' does not exist"),
        (["evaluate", "--perturbation", "bad.safetensors"], "'bad.safetensors' is not a readable perturbation file"),
        (["evaluate", "--perturbation", "small.safetensors"], "got images of shape (1, 8, 8): fit one to them"),
        (["evaluate", "--attack", "perturbation", "--radius", "0.1"], "Universal.path must name the file"),
    ],
)
def test_a_mistake_is_one_sentence(
    here: Path, capsys: pytest.CaptureFixture[str], words: list[str], sentence: str
) -> None:
    (here / "bad.safetensors").write_bytes(b"x" * 100)
    saved(here / "small.safetensors", (1, 4, 4))
    assert run(*words, *GIVEN) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert "Traceback" not in error
    assert len(error.strip().splitlines()) == 1
    assert not Path("v.safetensors").exists()
    assert not Path("runs").exists()
