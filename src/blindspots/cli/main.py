"""`blindspots`: reads the command, runs it, and turns mistakes into one sentence."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any, Union

import tyro
from rich.console import Console

from ..errors import BlindspotsError
from . import attack, evaluate, fit, listing, reproduce, runs, train
from .options import Command

COMMANDS: dict[str, type[Command]] = {
    "evaluate": evaluate.Evaluate,
    "attack": attack.Attack,
    "fit": fit.Fit,
    "train": train.Train,
    "reproduce": reproduce.Reproduce,
    "show": runs.Show,
    "report": runs.Report,
    "export": runs.Export,
    "list": listing.List,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; the exit status is 0, 2 after a mistake of the user, 130 after Ctrl-C."""
    # Threads that spin while they wait make a busy machine many times slower; this must be said before torch starts.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    arguments = list(sys.argv[1:] if argv is None else argv)
    errors = Console(stderr=True, soft_wrap=True, highlight=False)
    try:
        command = _parse(arguments)
        command.run(Console(highlight=False))
    except BlindspotsError as error:
        errors.print(f"[bold red]error:[/] {_escaped(str(error))}")
        return 2
    except KeyboardInterrupt:
        errors.print("stopped; the same command goes on where it was")
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    return 0


def _parse(arguments: list[str]) -> Command:
    defaults: dict[str, Any] = {}
    if arguments[:1] == ["evaluate"]:
        arguments, configured = evaluate.with_config(arguments)
        if configured is not None:
            defaults["evaluate"] = configured
    if arguments[:1] == ["train"]:
        arguments, defaults["train"] = train.with_preset(arguments)
    if arguments in (["--version"], ["-V"]):
        from .. import __version__

        Console(highlight=False).print(f"blindspots {__version__}")
        raise SystemExit(0)
    kinds: Any = Union[  # noqa: UP007  the members are known at run time only
        tuple(
            Annotated[
                kind,
                tyro.conf.subcommand(
                    name,
                    description=inspect.cleandoc(kind.__doc__ or ""),
                    **({"default": defaults[name]} if name in defaults else {}),
                ),
            ]
            for name, kind in COMMANDS.items()
        )
    ]
    command: Command = tyro.cli(
        kinds,
        prog="blindspots",
        description="Find, measure, explain and close the blind spots of image classifiers.",
        args=arguments or ["--help"],
        config=(
            tyro.conf.OmitArgPrefixes,
            tyro.conf.OmitSubcommandPrefixes,
            tyro.conf.CascadeSubcommandArgs,
        ),
    )
    return command


def _escaped(text: str) -> str:
    return text.replace("[", r"\[")
