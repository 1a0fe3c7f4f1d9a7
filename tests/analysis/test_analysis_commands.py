"""The commands: `blindspots analyze` and `blindspots style`, and their mistakes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from blindspots.cli import main
from blindspots.cli.analyze import ANALYSES

MODEL = ("--model", "small-cnn", "--data", "digits", "--limit", "120", "--batch", "16")


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("layers", ()),
        ("maps", ("--images", "4", "--shown", "2", "--attacks", "fgsm:radius=0.5")),
        ("slices", ("--images", "4", "--resolution", "5", "--shown", "1", "--attack", "pgd:radius=0.5,steps=5")),
        ("spectrum", ("--images", "5", "--slopes", "2", "--iterations", "5")),
        (
            "moments",
            (
                "--images",
                "2",
                "--shown",
                "1",
                "--draws",
                "50",
                "--sigmas",
                "0.1",
                "--curve",
                "4",
                "--points",
                "2",
                "--widest",
                "1",
                "--layer",
                "head.relu",
            ),
        ),
        ("distributional", ("--images", "2", "--draws", "20", "--steps", "2", "--layer", "head.relu")),
        ("blind", ("--pairs", "3", "--attack", "pgd:radius=0.5,steps=9")),
    ],
)
def test_each_analysis_writes_its_page_and_values(name: str, flags: tuple[str, ...], tmp_path: Path, capsys) -> None:
    if name == "maps":
        pytest.importorskip("captum")
    assert main(["analyze", name, *flags, *MODEL, "--out", str(tmp_path)]) == 0
    assert json.loads((tmp_path / f"{name}.json").read_text())
    assert str(tmp_path / f"{name}.html") in capsys.readouterr().out.replace("\n", "")


def test_mistakes_end_with_status_2_and_one_sentence(tmp_path: Path, capsys) -> None:
    assert main(["analyze", "maps", "--layer", "nought", *MODEL, "--images", "2", "--out", str(tmp_path)]) == 2
    assert "unknown layer 'nought': known: features" in capsys.readouterr().err
    assert main(["analyze", "blind", "--job", "x", "--out", str(tmp_path)]) == 2
    assert "--job names a job of a run: give --run too" in capsys.readouterr().err
    assert main(["style", "apply", str(tmp_path / "no.safetensors")]) == 2
    assert "does not exist: check the path" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_help_of_every_analysis_needs_no_torch() -> None:
    program = (
        "import sys, contextlib, io\nfrom blindspots.cli import main\n"
        f"for name in {[['analyze', name] for name in ANALYSES] + [['style', 'train'], ['style', 'apply']]!r}:\n"
        "    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n"
        "        main([*name, '--help'])\n"
        "assert 'torch' not in sys.modules, 'torch'\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
