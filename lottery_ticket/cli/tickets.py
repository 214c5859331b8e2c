"""`lt tickets`, `lt pull`, `lt register`: what tickets a store has; one as a folder, or in the Model Registry."""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lottery_ticket.cli.early import check_ticket
from lottery_ticket.cli.options import Json, TrackingUri, output
from lottery_ticket.cli.say import say
from lottery_ticket.errors import InputError, unknown
from lottery_ticket.store.summary import in_words, longer_in_words
from lottery_ticket.tickets.reference import in_store

if TYPE_CHECKING:
    from lottery_ticket.store.listing import Listed
    from lottery_ticket.tickets.ticket import Ticket

Trained = Annotated[bool, typer.Option("--trained", help="Bring the trained weights along.")]
TicketReference = Annotated[
    str,
    typer.Argument(
        metavar="TICKET",
        help="A ticket's folder, RUN[:ROUND][:ARM-seedN] (default: the smallest winning one) or models:/NAME@ALIAS.",
    ),
]
ChangedModel = Annotated[
    bool,
    typer.Option(
        "--changed-model",
        help="The network may be another now than the one that was trained, as long as its tensors are the same.",
    ),
]
ModelCode = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="PACKAGE.MODULE:FACTORY",
        help="Allow a ticket of this model of yours, which runs its code.",
        show_default=False,
    ),
]

_SORTS = ("newest", "density", "accuracy", "gain")


def tickets(
    dataset: Annotated[str | None, typer.Option("--dataset", help="Only those found on it.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="Only those of this network.")] = None,
    arm: Annotated[str | None, typer.Option("--arm", help="Only those of this arm.")] = None,
    max_density: Annotated[float | None, typer.Option("--max-density", help="At most this density, 0-1.")] = None,
    min_accuracy: Annotated[
        float | None, typer.Option("--min-accuracy", help="At least this accuracy, 0 to 1 (0.97 = 97 %).")
    ] = None,
    winning: Annotated[bool, typer.Option("--winning", help="Only those that win.")] = False,
    sort: Annotated[
        str,
        typer.Option(
            "--sort",
            help="newest run first; density: smallest first; accuracy: best first; gain: over dense, largest first.",
        ),
    ] = "newest",
    limit: Annotated[
        int | None, typer.Option("--limit", help="At most so many. Default: 50 in the table, all with --json.")
    ] = None,
    tracking_uri: TrackingUri = None,
    as_json: Json = False,
) -> None:
    """List the tickets of all runs in the store: where they are, how small, how good, and whether they win."""
    for option, fraction in (("--max-density", max_density), ("--min-accuracy", min_accuracy)):
        if fraction is not None and not 0 <= fraction <= 1:
            raise InputError(option, fraction, "is not allowed; allowed: a number from 0 to 1")
    if limit is not None and limit < 1:
        raise InputError("--limit", limit, "is not allowed; allowed: a whole number from 1")
    if sort not in _SORTS:
        raise unknown("--sort", sort, _SORTS)

    from lottery_ticket.store import reach
    from lottery_ticket.store.listing import list_tickets

    reach.must_be_usable(tracking_uri, create=False)
    found = list_tickets(tracking_uri)
    for option, value, known in (
        ("--dataset", dataset, {each.dataset for each in found}),
        ("--model", model, {each.model for each in found}),
        ("--arm", arm, {each.arm for each in found}),
    ):
        if value is not None and found and value not in known:
            raise unknown(option, value, sorted(known))
    chosen = [
        each
        for each in found
        if dataset in (None, each.dataset)
        and model in (None, each.model)
        and arm in (None, each.arm)
        and (max_density is None or each.density <= max_density)
        and (min_accuracy is None or each.test_accuracy >= min_accuracy)
        and (not winning or each.winning == "yes")
    ]
    if sort == "density":
        chosen.sort(key=lambda each: each.density)
    elif sort == "accuracy":
        chosen.sort(key=lambda each: -each.test_accuracy)
    elif sort == "gain":
        chosen.sort(key=lambda each: (each.dense_accuracy is None, (each.dense_accuracy or 0.0) - each.test_accuracy))
    if as_json:
        rows = [vars(each) | {"verdict": each.verdict} for each in chosen[:limit]]
        say(json.dumps(rows))
        return

    _print(chosen, limit or 50, len(found))


def pull(
    source: Annotated[
        str,
        typer.Argument(
            metavar="TICKET",
            help="RUN[:ROUND][:ARM-seedN] (default: the smallest winning one), models:/NAME@ALIAS or …/VERSION.",
        ),
    ],
    dest: Annotated[
        Path | None,
        typer.Argument(help="The folder to write. Default: in tickets, named after the ticket.", show_default=False),
    ] = None,
    trained: Trained = False,
    model: ModelCode = None,
    changed_model: ChangedModel = False,
    tracking_uri: TrackingUri = None,
    as_json: Json = False,
) -> None:
    """Bring a ticket from the store into a folder: mask, start values and where it came from."""
    from lottery_ticket.untrusted import must_be_new

    if dest is not None:
        must_be_new(dest)
    if in_store(source):
        check_ticket(source, tracking_uri)

    from lottery_ticket.store.find import find

    ticket = find(source, tracking_uri=tracking_uri, trained=trained, model=model, changed_model=changed_model)
    if trained and (unchecked := ticket.check(model)):
        say(f"lt: not compared with the logged accuracy: {unchecked}", err=True)
    name = re.sub(r"[@/]", "-", source.removeprefix("models:/")) if source.startswith("models:/") else ticket.name
    folder = ticket.save(dest or Path("tickets", name))
    if as_json:
        say(json.dumps({"folder": str(folder), "density": ticket.density, **ticket.origin.model_dump()}))
    else:
        say(f"{folder}: {describe(ticket)}")


def register(
    source: Annotated[
        str, typer.Argument(metavar="RUN", help="RUN[:ROUND][:ARM-seedN] (default: the smallest winning ticket).")
    ],
    name: Annotated[str, typer.Option("--name", help="The registered model; made if need be.")],
    alias: Annotated[str, typer.Option("--alias", help="The alias that the new version gets.")] = "smallest",
    model: ModelCode = None,
    changed_model: ChangedModel = False,
    tracking_uri: TrackingUri = None,
    as_json: Json = False,
) -> None:
    """Put a trained ticket into the MLflow Model Registry, ready for `mlflow models serve` and `lt pull`."""
    if source.startswith("models:") or not in_store(source):
        raise InputError("RUN", source, "is no run; allowed: RUN or RUN:ROUND, as `lt tickets` lists them")
    check_ticket(source, tracking_uri, "RUN")

    from lottery_ticket.store import connection, model_registry
    from lottery_ticket.store.find import find

    model_registry.check_names(name, alias)
    ticket = find(
        source, tracking_uri=tracking_uri, trained=True, model=model, option="RUN", changed_model=changed_model
    )
    ticket.network(model)
    made = model_registry.register(connection.connect(tracking_uri, create=False), ticket, name, alias)
    if as_json:
        say(json.dumps(asdict(made)))
    else:
        say(f"{made.uri} is version {made.version}: {describe(ticket)}")


def describe(ticket: "Ticket") -> str:
    """A ticket in a few words."""
    measured = ticket.metrics
    found_on = ticket.found_on.name if ticket.found_on else ticket.settings.dataset
    words = [f"{ticket.settings.model} on {found_on}, {100 * ticket.density:.3g} % of the weights left"]
    if measured.test_accuracy is not None:
        words.append(f"test accuracy {100 * measured.test_accuracy:.2f} %")
    if measured.dense_accuracy is not None:
        words.append(f"dense {100 * measured.dense_accuracy:.2f} %")
    if measured.winning is not None:
        words.append(f"verdict: {in_words(measured.matching, measured.winning)}")
    if more := ticket.settings.more_than_dense:
        words.append(longer_in_words(more))
    return ", ".join(words)


def _print(tickets: "Sequence[Listed]", limit: int, of: int) -> None:
    """The first tickets of a list, below their runs."""
    console = output()
    if not of:
        console.print("There are no tickets in this store yet; `lt run` finds some. (Those of lt 0.1 are not listed.)")
        return
    shown = tickets[:limit]
    places = [f":{each.round}:{each.arm}-seed{each.seed}" for each in shown]
    width = max(map(len, places), default=0)
    run = ""
    console.print(f"  {'':{width}}  {'% left':>6}  {'accuracy':>8}  {'dense':>6}  verdict")
    for each, place in zip(shown, places, strict=True):
        if each.run_id != run:  # on a line of its own: whole, and to be copied at any width
            run = each.run_id
            console.print(f"{run}  {each.model} on {each.dataset}", soft_wrap=True)
        dense = "–" if each.dense_accuracy is None else f"{100 * each.dense_accuracy:.2f}"
        numbers = f"{100 * each.density:>6.3g}  {100 * each.test_accuracy:>8.2f}  {dense:>6}"
        style = "bold" if each.winning == "yes" else None
        console.print(f"  {place:<{width}}  {numbers}  {each.verdict}", style=style, soft_wrap=True)
    console.print("Accuracies in % on the test set; the verdict is on the round, over all seeds of the run.")
    if any(each.more_than_dense for each in shown):
        console.print(f"(+N iterations): {longer_in_words('N')}.", soft_wrap=True)
    if shown:
        console.print(f"Bring one here with: lt pull {shown[0].run_id}{places[0]}", soft_wrap=True)
    filtered = "" if len(tickets) == of else f" that fit, of {of:,}"
    console.print(
        f"{len(shown):,} of {len(tickets):,} tickets{filtered}."
        + (" --limit shows more." if len(shown) < len(tickets) else "")
    )
