"""`compare` on runs written by hand: the numbers, the page, the table, and every refusal in a sentence."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from report_run import job, write_run
from rich.console import Console

import blindspots as bs
from blindspots.cli import main
from blindspots.evaluation.run import Run
from blindspots.report.comparison import print_comparison, render, verdict

COUNT = 20
LABELS = [0, 1] * (COUNT // 2)
PGD = job("00-pgd-linf-0.1", "pgd", 0.1)
FAR = job("01-pgd-linf-0.2", "pgd", 0.2)
CW = job("02-cw-linf-0.1", "cw", 0.1, settings={"radius": "0.1", "rounds": 9})


def where(*places: int) -> list[bool]:
    return [place in places for place in range(COUNT)]


def run(path: Path, wrong: tuple[int, ...], *jobs: tuple[dict[str, Any], list[bool]], **manifest: Any) -> Path:
    """A run whose model gets these images wrong, and whose attacks fool those."""
    said = [1 - label if place in wrong else label for place, label in enumerate(LABELS)]
    return write_run(path, LABELS, said, [(entry, {"success": fooled}) for entry, fooled in jobs], **manifest)


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    first = run(tmp_path / "r1" / "plain", (0,), (PGD, where(*range(1, 13))), (FAR, where(*range(1, 18))))
    second = run(tmp_path / "r1" / "robust", (0, 1, 2), (PGD, where(3, 15)), (CW, where(16, 17)), shard=7)
    return [first, second]


def point(found: dict[str, Any], what: str, pair: int = 0) -> dict[str, Any]:
    (one,) = [one for one in found["pairs"][pair]["points"] if one["what"] == what]
    return dict(one)


def test_differences_are_counted_image_by_image(runs: list[Path]) -> None:
    found = bs.compare(runs)
    clean = point(found, "clean")
    assert (clean["first"]["count"], clean["second"]["count"]) == (19, 17)
    assert (clean["only_first"], clean["only_second"], clean["difference"]) == (2, 0, 0.1)
    assert clean["p"] == 0.5
    # Worst case at 0.1: right are 13..19 for the first; all but 0..3 and 15..17 for the second.
    worst = point(found, "worst")
    assert (worst["first"]["count"], worst["second"]["count"]) == (7, 13)
    assert (worst["only_first"], worst["only_second"]) == (3, 9)
    assert worst["difference"] == -0.3
    assert worst["p"] == pytest.approx(2 * (1 + 12 + 66 + 220) / 4096)
    # Under the one attack that both made: 16 and 17 are right for both.
    pgd = point(found, "attack")
    assert (pgd["label"], pgd["only_first"], pgd["only_second"]) == ("pgd", 1, 9)
    assert [entry["radius_text"] for entry in found["pairs"][0]["unpaired"]] == ["0.2"]
    assert [each["p_holm"] for each in found["pairs"][0]["points"]] == pytest.approx(
        [0.5, 2 * worst["p"], 3 * pgd["p"]]
    )


def test_the_order_of_runs_turns_the_sign_and_nothing_else(runs: list[Path]) -> None:
    there, back = bs.compare(runs), bs.compare(runs[::-1])
    for one, other in zip(there["pairs"][0]["points"], back["pairs"][0]["points"], strict=True):
        assert (one["difference"], one["low"], one["high"]) == (-other["difference"], -other["high"], -other["low"])
        assert one["p"] == other["p"]


def test_equal_runs_differ_by_exactly_nothing(runs: list[Path], tmp_path: Path) -> None:
    twin = run(tmp_path / "twin", (0,), (PGD, where(*range(1, 13))), (FAR, where(*range(1, 18))), shard=3)
    found = bs.compare([runs[0], twin, runs[1]])
    assert [(pair["first"], pair["second"]) for pair in found["pairs"]] == [
        ("plain", "twin"), ("plain", "robust"), ("twin", "robust"),
    ]  # fmt: skip
    for each in found["pairs"][0]["points"]:
        assert (each["difference"], each["low"], each["high"], each["p"]) == (0, 0, 0, 1)
    assert "No difference is larger" in render(found)


def test_images_are_paired_by_their_number_not_their_place(runs: list[Path], tmp_path: Path) -> None:
    """The same rows in another order within the files are the same run."""
    import pyarrow.parquet as pq

    turned = run(tmp_path / "turned", (0, 1, 2), (PGD, where(3, 15)), (CW, where(16, 17)), shard=COUNT)
    for table in turned.rglob("*.parquet"):
        pq.write_table(pq.read_table(table).take(list(range(COUNT))[::-1]), table)
    ours, theirs = bs.compare(runs), bs.compare([runs[0], turned])
    assert ours["pairs"][0]["points"] == theirs["pairs"][0]["points"]


def test_searches_for_the_smallest_change_are_compared_at_every_radius(tmp_path: Path) -> None:
    sizes = 0.01 * (np.arange(COUNT) + 1)
    fmn = job("00-fmn-linf-0.2", "fmn", 0.2, radii=["0.1", "0.2"])
    paths = [
        write_run(tmp_path / name, LABELS, LABELS, [(fmn, {"success": where(*range(COUNT)), "size_linf": size})])
        for name, size in (("near", sizes), ("far", sizes + 0.05))
    ]
    found = bs.compare(paths)
    counts = [(p["radius_text"], p["first"]["count"], p["second"]["count"]) for p in found["pairs"][0]["points"][1:]]
    assert counts == [("0.1", 10, 15), ("0.2", 0, 5)]


def test_targeted_runs_are_not_paired_with_untargeted_ones(runs: list[Path], tmp_path: Path) -> None:
    aimed = job("00-pgd-linf-0.1", "pgd", 0.1, targets="random")
    settings = {"targets": "random", "model": "net"}
    other = run(tmp_path / "aimed", (0,), (aimed, where(5)), settings=settings)
    found = bs.compare([runs[0], other])
    assert [each["what"] for each in found["pairs"][0]["points"]] == ["clean"]
    assert len(found["pairs"][0]["unpaired"]) == 3


def test_page_and_table_tell_the_same(runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["compare", *map(str, runs), "--out", str(out)]) == 0
    found = json.loads((out / "comparison.json").read_text())
    assert found == json.loads(json.dumps(bs.compare(runs)))
    page = (out / "comparison.html").read_text()
    assert page == render(found)
    printed = io.StringIO()
    print_comparison(found, Console(file=printed, width=140))
    for text in ("-30.0\u202fpp", "3 : 9", "plain against robust"):
        assert text in printed.getvalue()
    assert "-30.0\u202fpp" in page
    assert page.count("<svg") == 2
    assert "http" not in page.replace("http-equiv", "")
    assert "var(--s1)" in page
    assert "Only one of them has attacks within linf 0.2" in " ".join(printed.getvalue().split())
    assert "comparison.html" in capsys.readouterr().out


def test_the_verdict_names_what_is_more_than_chance(tmp_path: Path) -> None:
    """In the worst case if it is sure, else under a single attack; equal worst cases hide what attacks differ in."""
    paths = [
        run(tmp_path / name, (), (PGD, where(*range(pgd))), (CW, where(*range(cw))))
        for name, pgd, cw in (("a", 18, 2), ("b", 2, 18), ("c", 1, 1))
    ]
    told = [verdict(pair, 0.95) for pair in bs.compare(paths)["pairs"]]
    assert told[0].startswith("b has more right under pgd, linf 0.1, by 80.0")
    assert "a has more right under cw, linf 0.1, by 80.0" in told[0]
    assert told[1].startswith("c has more right in the worst case, linf 0.1, by 85.0")
    assert "Both attacked the same model" in told[1]


def test_names_are_escaped_and_told_apart(tmp_path: Path) -> None:
    paths = [run(tmp_path / folder / "<b>[red]", (0,), (PGD, where(1))) for folder in ("a", "b")]
    found = bs.compare(paths)
    assert [each["name"] for each in found["runs"]] == list(map(str, paths))
    assert "<b>[red]" not in render(found)
    printed = io.StringIO()
    print_comparison(found, Console(file=printed, width=400))
    assert "<b>[red]" in printed.getvalue()


def test_what_cannot_be_compared_is_refused_in_a_sentence(runs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(bs.BlindspotsError, match=r"at least two runs, got 1"):
        bs.compare(runs[:1])
    with pytest.raises(bs.BlindspotsError, match=r"plain' is given twice"):
        bs.compare([runs[0], runs[1], Run(runs[0].parent / ".." / "r1" / "plain")])
    data = {"name": "mnist", "split": "test", "count": COUNT, "limit": COUNT, "seed": 3, "fingerprint": "e" * 64}
    other = run(tmp_path / "other", (), (PGD, where(1)), data=data)
    with pytest.raises(bs.BlindspotsError, match=r"mnist test, 20 images, limit 20, seed 3\) hold different images"):
        bs.compare([runs[0], other])
    flipped = write_run(tmp_path / "labels", [0] * COUNT, [0] * COUNT, [(PGD, {"success": where(1)})])
    with pytest.raises(bs.BlindspotsError, match=r"different labels for 10 of 20 images"):
        bs.compare([runs[0], flipped])
    next((runs[1] / "jobs").rglob("*.parquet")).unlink()
    with pytest.raises(bs.BlindspotsError, match=r"robust' is not finished"):
        bs.compare(runs)
    with pytest.raises(bs.BlindspotsError, match=r"there is no run at"):
        bs.compare([runs[0], tmp_path / "nothing"])


def test_real_runs_of_two_models_are_compared(tmp_path: Path) -> None:
    """Runs as `evaluate` writes them, in shards and with carried rows: counts are those of the verdicts."""
    pixels = torch.rand(24, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    nets = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        nets.append(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3)))
    labels = nets[0](pixels).argmax(1)
    attacks = [bs.FGSM("0.05"), bs.FGSM("0.1"), bs.PGD("0.1", steps=3)]
    made = [bs.evaluate(net, (pixels, labels), attacks, out=tmp_path / str(k), batch=8) for k, net in enumerate(nets)]
    found = bs.compare(made)
    fgsm = [each for each in found["pairs"][0]["points"] if each["label"] == "fgsm"]
    for each, name in zip(fgsm, made[0].job_ids, strict=False):
        kept = [~one.verdicts(name).fooled for one in made]
        assert each["only_first"] == int((kept[0] & ~kept[1]).sum())
        assert each["only_second"] == int((kept[1] & ~kept[0]).sum())
    assert len(fgsm) == 2
