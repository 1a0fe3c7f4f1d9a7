"""A model behind defences is a classifier like any other: attacks, evaluation, command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import blindspots as bs
from blindspots.cli import main
from blindspots.config import make_defence, parse_defence
from blindspots.defences import DEFENCES, JPEG, BitDepth, GaussianBlur, MeanBlur, MedianBlur
from blindspots.evaluation.run import Run

NET = """
import torch
def net():
    torch.manual_seed(3)
    return torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.Flatten(),
        torch.nn.Linear(256, 10))
"""
GIVEN = ["--model", "net.py:net", "--data", "data.npz", "--batch", "8"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BLINDSPOTS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "net.py").write_text(NET)
    images = np.random.default_rng(0).integers(0, 256, (16, 1, 8, 8), dtype=np.uint8)
    model = bs.classifier("net.py:net", batch=8)
    labels = model.logits(torch.from_numpy(images).float() / 255).argmax(1).numpy()
    np.savez(tmp_path / "data.npz", images=images, labels=labels)
    return tmp_path


def test_the_image_goes_through_the_defences_in_order_and_before_the_normalisation(victim) -> None:
    bare = victim.classifier(mean=(0.4,), std=(0.2,))
    defended = bs.defend(bare, "bit-depth:2", "mean-blur:size=5")
    assert defended.defences == (BitDepth(2), MeanBlur(5))
    seen = MeanBlur(5)(BitDepth(2)(victim.images))
    torch.testing.assert_close(defended.logits(victim.images), bare.logits(seen))
    # A defence round a defended classifier comes before those that are there.
    outer = bs.defend(bs.defend(bare, "mean-blur:5"), BitDepth(2))
    assert torch.equal(outer.logits(victim.images), defended.logits(victim.images))
    assert bare.defences == ()
    assert defended.name == "TinyConv+bit-depth+mean-blur"


def test_hashes_tell_defences_apart(victim) -> None:
    bare = victim.classifier()
    before = bare.hash
    hashes = [before, *(bs.defend(bare, name).hash for name in DEFENCES), bs.defend(bare, "median:5").hash]
    hashes += [bs.defend(bare, "median", "jpeg").hash, bs.defend(bare, "jpeg", "median").hash]
    assert len(set(hashes)) == len(hashes)
    assert bare.hash == before == victim.classifier().hash


def test_the_module_is_left_as_it_was(victim) -> None:
    """Law 4: flags, buffers, gradients and the random state, after an attack through a defence."""
    bare = victim.classifier()
    bare.module.train()
    bare.module.conv.eval()
    bare.module.head.weight.requires_grad_(False)
    state = {name: value.clone() for name, value in bare.module.state_dict().items()}
    random = torch.get_rng_state()
    bs.PGD(0.05, steps=3)(bs.defend(bare, "median", "jpeg"), victim.images, victim.labels)
    assert bare.module.training
    assert not bare.module.conv.training
    assert not bare.module.head.weight.requires_grad
    assert bare.module.conv.weight.grad is None
    assert all(torch.equal(value, state[name]) for name, value in bare.module.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize("name", DEFENCES)
def test_attacks_through_a_defence_keep_the_laws(victim, name: str) -> None:
    """Company changes nothing, bit for bit; a success is real; gradients arrive."""
    defended = bs.defend(victim.classifier(), name)
    # Of noise, opening and closing leave images that are nearly black or white, far from every other class.
    radius = 0.4 if name in ("opening", "closing") else 0.1
    attack, labels = bs.PGD(radius, steps=6), defended.logits(victim.images).argmax(1)
    whole = attack(defended, victim.images, labels, index=victim.index)
    for rows, population in (([8, 3, 12, 0, 9, 5, 1, 11, 2, 10, 4, 7, 6], None), ([7], None), (list(range(13)), 3)):
        part = attack(defended, victim.images[rows], labels[rows], index=victim.index[rows], population=population)
        assert torch.equal(part.images, whole.images[rows])
        assert torch.equal(part.forwards, whole.forwards[rows])
    assert torch.equal(whole.success, defended.logits(whole.images).argmax(1) != labels)
    assert whole.success.any()
    assert not whole.zero_gradients.any()
    assert not whole.bad_gradients.any()
    assert (whole.size["linf"] <= radius * (1 + 1e-6)).all()


def test_adaptive_attacks_beat_oblivious_ones(victim) -> None:
    """The oblivious attack judges with the bare model; `transfer` judges its images behind the defence."""
    bare = victim.classifier()
    defended = bs.defend(bare, GaussianBlur(0.8))
    attack = bs.PGD(0.05, steps=10, random_start=False)
    oblivious = attack(bare, victim.images, victim.labels)
    judged = bs.transfer(oblivious, victim.images, defended)
    adaptive = attack(defended, victim.images, victim.labels)
    assert torch.equal(judged.images, oblivious.images)
    assert torch.equal(judged.success, defended.logits(oblivious.images).argmax(1) != victim.labels)
    assert torch.equal(judged.clean_correct, defended.logits(victim.images).argmax(1) == victim.labels)
    assert torch.equal(judged.forwards, oblivious.forwards + 1)
    held = judged.clean_correct
    assert int((adaptive.success & held).sum()) > int((judged.success & held).sum())
    same = bs.transfer(oblivious, victim.images, bare)
    assert torch.equal(same.success, oblivious.success)
    torch.testing.assert_close(same.margin, oblivious.margin)


def test_transfer_of_a_targeted_attack(victim) -> None:
    bare = victim.classifier()
    result = bs.PGD(0.1, steps=5)(bare, victim.images, victim.labels, targets="random")
    judged = bs.transfer(result, victim.images, bs.defend(bare, "median"))
    assert torch.equal(judged.success, judged.prediction == result.targets)
    with pytest.raises(bs.BlindspotsError, match=r"must have the shape of the result's, \(13, 1, 8, 8\), got \(3,"):
        bs.transfer(result, victim.images[:3], bare)


def test_defences_from_text() -> None:
    assert make_defence(parse_defence("mean-blur")) == MeanBlur(3)
    assert make_defence(parse_defence("mean-blur:5")) == MeanBlur(5)
    assert make_defence(parse_defence("gaussian-blur: 2")) == GaussianBlur(2)
    assert make_defence(parse_defence("jpeg:quality=20,codec=pillow")) == JPEG(20, "pillow")
    for name, kind in DEFENCES.items():
        assert make_defence(parse_defence(str(kind()))) == kind(), name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mean-blurr", "unknown defence 'mean-blurr': did you mean 'mean-blur'"),
        ("mean-blurr:3", "unknown defence 'mean-blurr': did you mean 'mean-blur'"),
        ("median:width=3", "unknown setting of median 'width'"),
        ("median:size=3,5", "defence 'median:size=3,5' has '5' where key=value is expected"),
        ("median:big", "MedianBlur.size must be a whole number, got 'big'"),
        ("bit-depth:2.5", "BitDepth.bits must be a whole number, got 2.5"),
        ("jpeg:codec=turbo", "JPEG.codec must be one of dct, pillow, got 'turbo'"),
    ],
)
def test_mistakes_in_the_text(victim, text: str, message: str) -> None:
    with pytest.raises(bs.BlindspotsError, match=message):
        bs.defend(victim.classifier(), text)


def test_mistakes_of_defend(victim) -> None:
    with pytest.raises(bs.BlindspotsError, match="defend needs at least one defence"):
        bs.defend(victim.classifier())
    with pytest.raises(bs.BlindspotsError, match="a defence must be a Defence or its text, got ABCMeta"):
        bs.defend(victim.classifier(), MedianBlur)


def test_evaluate_and_export_through_the_command_line(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", *GIVEN, "--attack", "pgd:steps=3", "--radius", "0.1", "--out", "r"]
    defences = ["--defence", "bit-depth:4", "--defence", "mean-blur:size=3"]
    assert main([*words, *defences]) == 0
    run = Run("r")
    assert run.manifest["model"]["defences"] == ["bit-depth:bits=4", "mean-blur:size=3"]
    assert run.manifest["model"]["name"].endswith("+bit-depth+mean-blur")
    defended = bs.defend(bs.classifier("net.py:net", batch=8), "bit-depth:4", "mean-blur")
    stored = run.images(run.job_ids[0], run.clean()["index"].to_pylist())
    rows = run.rows(run.job_ids[0]).to_pylist()
    for row in rows:
        if row["attacked"]:
            assert int(defended.logits(stored[row["index"]][None]).argmax()) == row["prediction"]
    capsys.readouterr()
    assert main([*words, *defences]) == 0, "the same command goes on"
    assert main(words) == 2
    assert "other settings" in capsys.readouterr().err
    assert main(["export", "r", "--out", "files"]) == 0, "export puts the model behind its defences again"


def test_evaluate_in_python_resumes_and_names_no_defences_where_there_are_none(here: Path) -> None:
    data = bs.dataset("data.npz")
    bs.evaluate(bs.classifier("net.py:net", batch=8), data, [bs.PGD(0.1, steps=2)], out="bare")
    assert "defences" not in json.loads((here / "bare" / "manifest.json").read_text())["model"]
    defended = bs.defend(bs.classifier("net.py:net"), "median")
    run = bs.evaluate(defended, data, [bs.PGD(0.1, steps=2)], out="defended")
    again = bs.evaluate(defended, data, [bs.PGD(0.1, steps=2)], out="defended")
    assert repr(run.rows(run.job_ids[0]).to_pylist()) == repr(again.rows(again.job_ids[0]).to_pylist())


def test_defences_in_a_configuration_file(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = 'model = "net.py:net"\ndata = "data.npz"\nbatch = 8\nradius = "0.1"\nattack = "fgsm"\nout = "r"\n'
    (here / "one.toml").write_text(text + 'defence = "median"\n')
    assert main(["evaluate", "--config", "one.toml"]) == 0
    assert Run("r").manifest["model"]["defences"] == ["median:size=3"]
    (here / "two.toml").write_text(text.replace('"r"', '"s"') + 'defence = ["median:5", "jpeg"]\n')
    assert main(["evaluate", "--config", "two.toml"]) == 0
    assert Run("s").manifest["model"]["defences"] == ["median:size=5", "jpeg:quality=75,codec=dct"]
    (here / "bad.toml").write_text(text + "defence = [3]\n")
    assert main(["evaluate", "--config", "bad.toml"]) == 2
    assert "'defence' in 'bad.toml' must be str, got 3" in " ".join(capsys.readouterr().err.split())


def test_list_and_help_come_without_torch(capsys: pytest.CaptureFixture[str]) -> None:
    script = "import sys; from blindspots.cli import main; assert main(['list', 'defences']) == 0; "
    script += "assert 'torch' not in sys.modules"
    out = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    assert all(name in out for name in DEFENCES)
