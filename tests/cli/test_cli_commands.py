"""The command line as a user meets it: every command, and every mistake in one sentence without a stack trace."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import blindspots as bs
from blindspots.attacks import ATTACKS
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
    monkeypatch.delenv("BLINDSPOTS_DATA", raising=False)
    (tmp_path / "net.py").write_text(NET)
    images = np.random.default_rng(0).integers(0, 256, (24, 1, 8, 8), dtype=np.uint8)
    model = bs.classifier("net.py:net", batch=8)
    labels = model.logits(torch.from_numpy(images).float() / 255).argmax(1).numpy()
    np.savez(tmp_path / "data.npz", images=images, labels=labels)
    return tmp_path


GIVEN = ["--model", "net.py:net", "--data", "data.npz", "--batch", "8"]


def run(*words: str) -> int:
    try:
        return main([*words])
    except SystemExit as stop:  # tyro leaves this way after help and after flags it cannot read
        return int(stop.code or 0)


def test_help_and_lists_come_without_torch() -> None:
    for words in (
        ["--help"],
        ["evaluate", "--help"],
        ["attack", "pgd", "--help"],
        ["train", "--help"],
        ["compare", "--help"],
        ["list", "attacks"],
    ):
        script = f"import sys; from blindspots.cli import main; sys.argv = ['blindspots', *{words!r}]\n"
        script += "try: main()\nexcept SystemExit: pass\nassert 'torch' not in sys.modules, 'torch was imported'"
        subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


def test_importing_the_package_imports_no_torch_and_offers_every_name() -> None:
    subprocess.run([sys.executable, "-c", "import sys, blindspots; assert 'torch' not in sys.modules"], check=True)
    for name in bs.__all__:
        assert getattr(bs, name) is not None
    assert callable(bs.evaluate)
    assert callable(bs.classifier)
    assert callable(bs.export)


@pytest.mark.parametrize("what", ["attacks", "models", "data"])
def test_list_names_everything(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list", what) == 0
    out = capsys.readouterr().out
    names = {
        "attacks": list(ATTACKS),
        "models": ["stadv-a", "resnet20", "lenet"],
        "data": ["digits", "mnist", "cifar10"],
    }
    assert all(name in out for name in names[what])


def test_the_page_of_every_attack_is_what_the_classes_say(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list", "attacks", "--markdown") == 0
    page = Path(__file__).parents[2] / "docs" / "attack-list.md"
    written = page.read_text(encoding="utf-8")
    assert capsys.readouterr().out == written, "run: blindspots list attacks --markdown > docs/attack-list.md"
    for name, kind in ATTACKS.items():
        about = written.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        assert kind.summary in about
        assert "- Cost" in about, f"the docstring of {kind.__name__} tells no cost"


@pytest.mark.parametrize("what", ["defences", "models", "data"])
def test_lists_are_markdown_when_asked(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list", what, "--markdown") == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith("| ") for line in (lines[0], *lines[2:]))
    assert set(lines[1]) == {"|", "-"}


def test_evaluate_writes_a_run_and_says_where(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "evaluate",
        *GIVEN,
        "--attack",
        "pgd:steps=3",
        "--attack",
        "uniform-noise",
        "--radius",
        "0.05",
        "8/255",
        "--out",
        "r",
    ]
    assert run(*words) == 0
    out = capsys.readouterr().out
    assert "report  r/report.html" in out
    jobs = Run("r").jobs
    assert [(job["attack"], job["radius_text"]) for job in jobs] == [
        ("pgd", "0.05"), ("uniform-noise", "0.05"), ("pgd", "8/255"), ("uniform-noise", "8/255"),
    ]  # fmt: skip
    assert jobs[0]["settings"]["steps"] == 3
    assert run("show", "r") == 0
    assert "robust" in capsys.readouterr().out
    (here / "r" / "report.html").unlink()
    assert run("report", "r") == 0
    assert (here / "r" / "report.html").is_file()


@pytest.mark.parametrize("name", sorted(ATTACKS))
def test_every_attack_is_a_command(here: Path, name: str) -> None:
    names = {field.name for field in fields(ATTACKS[name])}
    short = next((("--" + word, count) for word, count in (("queries", "30"), ("steps", "5")) if word in names), ())
    few = {
        "autoattack": ("--version", "rand", "--steps", "3", "--eot", "2"),
        "perturbation": ("--path", str(Path(__file__).parents[1] / "laws" / "perturbation.safetensors")),
        "style": ("--path", str(Path(__file__).parents[1] / "laws" / "style.safetensors"), "--draws", "3"),
    }.get(name, short)
    radius = "3" if ATTACKS[name].norms == ("l0",) else "0.05"
    assert run("attack", name, "--radius", radius, *few, *GIVEN, "--limit", "6", "--out", "r") == 0
    job = Run("r").jobs[0]
    assert job["attack"] == name
    assert list(job["settings"]) == [field.name for field in fields(ATTACKS[name])]


def test_the_attack_command_and_the_evaluate_command_make_the_same_run(here: Path) -> None:
    assert run("attack", "pgd", "--radius", "0.05", "--steps", "4", *GIVEN, "--out", "a") == 0
    assert run("evaluate", "--attack", "pgd:steps=4,radius=0.05", *GIVEN, "--out", "b") == 0
    assert json.loads(Path("a/manifest.json").read_text()) == json.loads(Path("b/manifest.json").read_text())
    assert Run("a").rows("00-pgd-linf-0.05").equals(Run("b").rows("00-pgd-linf-0.05"))


def test_a_configuration_file_is_the_flags(here: Path) -> None:
    Path("eval.toml").write_text(
        'model = "net.py:net"\ndata = "data.npz"\nbatch = 8\nradius = [0.05]\ntargets = "random"\nseed = 3\n'
        '[[attacks]]\nname = "pgd"\nsteps = 4\n[[attacks]]\nname = "fgm"\nradius = "0.5"\n'
    )
    assert run("evaluate", "--config", "eval.toml", "--seed", "4", "--out", "r") == 0
    manifest = Run("r").manifest
    assert manifest["seed"] == 4
    assert manifest["settings"]["targets"] == "random"
    assert [(job["attack"], job["norm"], job["radius"]) for job in manifest["jobs"]] == [
        ("pgd", "linf", 0.05), ("fgm", "l2", 0.5),
    ]  # fmt: skip


def test_parts_of_a_run_join(here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blindspots.evaluation.plan.SHARD_IMAGES", 10)
    words = ["attack", "fgsm", "--radius", "0.05", *GIVEN, "--out", "r", "--part"]
    assert run(*words, "2/2") == 0
    assert "the other parts write the rest" in capsys.readouterr().out
    assert run(*words, "1/2") == 0
    assert Path("r/report.html").is_file()


def test_export_writes_verified_pictures(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("attack", "pgd", "--radius", "0.1", *GIVEN, "--out", "r") == 0
    capsys.readouterr()
    assert run("export", "r") == 0
    assert "files   r/export" in capsys.readouterr().out
    pictures = sorted(Path("r/export").rglob("*.png"))
    assert pictures
    with Image.open(pictures[0]) as picture:
        assert picture.size == (8, 8)


def test_train_makes_a_model_that_evaluate_takes(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "--data", "digits", "--limit", "200", "--epochs", "1", "--threads", "1", "--out", "t"]
    assert run(*words) == 0
    assert "model   t/model.safetensors" in capsys.readouterr().out
    assert (
        run("evaluate", "--model", "t/model.safetensors", "--limit", "20", "--attack", "fgsm", "--radius", "0.1") == 0
    )
    assert "runs/small-cnn-digits-" in capsys.readouterr().out


SENTENCES = [
    (["evaluate", "--attack", "pgf"], "unknown attack 'pgf': did you mean 'pgd'? known: "),
    (["evaluate", "--attack", "pgd:step=3"], "unknown setting of pgd 'step': did you mean 'steps'? known: "),
    (["evaluate", "--attack", "pgd:steps"], "attack 'pgd:steps' has 'steps' where key=value is expected"),
    (["evaluate", "--attack", "pgd:steps=2.5"], "PGD.steps must be a whole number, got 2.5"),
    (["evaluate", "--attack", "pgd:random_start=3"], "PGD.random_start must be true or false, got 3"),
    (["evaluate", "--attack", "pgd:norm=l7"], "PGD.norm must be one of linf, l2, l1, got 'l7'"),
    (["evaluate", "--attack", "pgd", "--radius", "x"], "radius 'x' is not a number: write it as 0.03 or 8/255"),
    (["evaluate", "--attack", "pgd", "--radius", "8"], "PGD.radius 8 is larger than 1, the whole range of a pixel"),
    (["evaluate", "--attack", "fgsm", "--norm", "l2"], "fgsm works in linf, not in l2"),
    (["evaluate", "--attack", "pgd:steps=0"], "PGD.steps must be at least 1, got 0"),
    (["evaluate", "--attack", "stadv:tau=0"], "StAdv.tau must be above 0, got 0"),
    (["attack", "stadv", "--kappa", "-0.5"], "StAdv.kappa must not be negative: it enters as max(margin, -kappa)"),
    (["evaluate", "--attack", "affine:zoom=0.5"], "Affine.zoom must be at least 1, got 0.5"),
    (["evaluate", "--attack", "flow-ball"], "there are no usual radii in flow-linf: give --radius"),
    (["evaluate", "--attack", "stadv", "--norm", "l2"], "stadv works in flow, not in l2"),
    (["evaluate", "--targets", "worst"], "targets must be a class or one of random, least-likely, second, all"),
    (["evaluate", "--targets", "11"], "the target class must be from 0 to 9, got 11"),
    (["evaluate", "--part", "3"], "--part must be i/n, such as 1/4, got '3'"),
    (["evaluate", "--budget", "1"], "Budget.forwards must be at least 2, got 1"),
    (["evaluate", "--config", "none.toml"], "the configuration 'none.toml' cannot be read"),
    (["evaluate", "--normalisation", "mars"], "mars"),
    (["evaluate", "--mean", "0.5"], "normalisation needs mean and std as values, or one name as mean"),
    (["evaluate", "--device", "cuda:7"], "device 'cuda:7' cannot be used here"),
    (["evaluate", "--weights", "no.pt"], "no.pt"),
    (["attack", "pgd", "--radius", "2"], "PGD.radius 2"),
    (["show", "nowhere"], "there is no run at 'nowhere'"),
    (["export", "."], "'.' is not a run"),
]


@pytest.mark.parametrize(
    ("words", "sentence"), SENTENCES, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_a_mistake_is_one_sentence(
    here: Path, capsys: pytest.CaptureFixture[str], words: list[str], sentence: str
) -> None:
    given = GIVEN if words[0] in ("evaluate", "attack") else []
    before = {str(file) for file in here.rglob("*")}
    assert run(*words, *given) == 2
    captured = capsys.readouterr()
    assert sentence in captured.err
    assert "Traceback" not in captured.err
    assert len(captured.err.strip().splitlines()) == 1
    runs = {str(file) for file in here.rglob("*")} - before
    assert not [file for file in runs if "cache" not in file and "__pycache__" not in file]


@pytest.mark.parametrize(
    "model", ["nope", "gone.safetensors", "net.py:nothing", "torchvision:resnet9000", "empty.onnx"]
)
def test_a_model_that_cannot_be_had_is_one_sentence(here: Path, capsys: pytest.CaptureFixture[str], model: str) -> None:
    Path("empty.onnx").write_bytes(b"")
    assert run("evaluate", "--model", model, "--data", "data.npz") == 2
    error = capsys.readouterr().err
    assert model.rpartition(":")[2] in error
    assert len(error.strip().splitlines()) == 1


def test_missing_data_says_what_to_do(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("evaluate", "--model", "net.py:net", "--data", "mnist") == 2
    error = capsys.readouterr().err
    assert "BLINDSPOTS_DATA" in error
    assert "--data-dir" in error


def test_unknown_flags_and_commands_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("evaluate", "--radios", "0.1") == 2
    assert "--radius" in capsys.readouterr().err
    assert run("evaluat") == 2
    assert "evaluate" in capsys.readouterr().err


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out.strip() == f"blindspots {bs.__version__}"
