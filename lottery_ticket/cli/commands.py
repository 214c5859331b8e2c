"""The commands of `lt`: a table of names and sentences, each command imported when it is called."""

from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

COMMANDS = {
    "run": "Find winning tickets: train, prune, rewind, train again, next to the control arms.",
    "reproduce": "Run what a report's claims need, judge every claim, and write report.md and report.html.",
    "tickets": "List the tickets of all runs in the store: where they are, how small, how good, and whether they win.",
    "pull": "Bring a ticket from the store into a folder: mask, start values and where it came from.",
    "diff": "Say whether two tickets are the same: overlap of masks against chance, shared signs, distance of values.",
    "export": "Write a ticket's trained network as ONNX or safetensors and check its predictions on the whole test "
    "set.",
    "register": "Put a trained ticket into the MLflow Model Registry, ready for `mlflow models serve` and `lt pull`.",
    "train": "Train a ticket with its own or changed settings, next to the controls reinit and dense.",
    "figures": "Draw the figures of a run again from what MLflow holds, and print its table.",
    "compare": "Compare arms of runs: settings that differ, accuracies at equal density and equal multiply-adds, cost.",
    "analyse": "Analyse the rounds of a run; table and figures go into a folder and into the run in MLflow.",
    "models": "List networks: weights, multiply-adds of an image, whether they stack and can be made small.",
    "plugins": "List models, arms, criteria, data sets and whatever else goes by a name: ours and installed packages'.",
    "sync": "Deliver the rounds that a run kept because the tracking store did not answer; conclude runs that are "
    "trained.",
    "ui": "Start MLflow's UI, or Optuna's dashboard, on this machine and print the address of the curves or the "
    "studies.",
    "sweep": "Map where winning tickets appear and disappear: `lt sweep lr`, `lt sweep prune-rate`, `lt sweep map`.",
    "presets": "List the presets; `lt presets show NAME` prints one.",
    "data": "List the data sets; `lt data fetch NAME` brings one into the cache.",
}
"""Command → what `lt --help` says of it: the first sentence of its own help."""

_ELSEWHERE = {"pull": "tickets", "register": "tickets"}
"""Command → the module that it stands in, where that is not called as it is."""


class Commands(TyperGroup):
    """`lt`, which knows of its commands their names and sentences, until one is called."""

    def __init__(self, **given: Any) -> None:
        named = {name: TyperCommand(name, help=sentence) for name, sentence in COMMANDS.items()}
        super().__init__(**given | {"commands": named})

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that is called, imported; InputError where the current folder has settings that it would take."""
        from lottery_ticket import here

        name, _, rest = super().resolve_command(ctx, args)
        here.must_say_nothing()
        return name, imported(str(name)), rest


def imported(name: str) -> Any:
    """The whole command of that name: a function, or the group of those below it."""
    module = import_module(f"lottery_ticket.cli.{_ELSEWHERE.get(name, name)}")
    app = typer.Typer(rich_markup_mode="rich")
    if hasattr(module, "app"):
        app.add_typer(module.app, name=name)
    else:
        app.command(name)(getattr(module, name))
        app.callback()(lambda: None)  # with which it is one command of a group
    made = get_command(app)
    assert isinstance(made, TyperGroup)
    return made.commands[name]
