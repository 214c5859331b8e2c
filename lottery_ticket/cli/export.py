"""`lt export`: the trained network of a ticket as a file for other programs."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lottery_ticket.cli.early import check_ticket
from lottery_ticket.cli.options import Json, TrackingUri
from lottery_ticket.cli.say import say
from lottery_ticket.cli.tickets import ChangedModel, ModelCode, TicketReference, describe
from lottery_ticket.errors import unknown

if TYPE_CHECKING:
    from lottery_ticket.tickets.export import Comparison
    from lottery_ticket.tickets.timing import Times


def export(
    source: TicketReference,
    dest: Annotated[
        Path | None,
        typer.Argument(help="The file to write. Default: in exports, named after the ticket.", show_default=False),
    ] = None,
    format: Annotated[str, typer.Option("--format", help="onnx, state-dict or torch-prune.")] = "onnx",
    compact: Annotated[
        bool,
        typer.Option(
            "--compact",
            help="Take out the inputs, channels and units that no surviving path reaches; say how much that brings.",
        ),
    ] = False,
    model: ModelCode = None,
    changed_model: ChangedModel = False,
    tracking_uri: TrackingUri = None,
    as_json: Json = False,
) -> None:
    """Write a ticket's trained network as ONNX or safetensors and check its predictions on the whole test set.

    ONNX takes `images`, N×C×H×W float32 with pixels as the data set keeps them (MNIST: N×1×28×28, 0 to 255), and gives
    `scores`, N×classes. The safetensors are of a module that takes standardised images; mean and std stand in the
    metadata.
    """
    from lottery_ticket.tickets.formats import FORMATS
    from lottery_ticket.untrusted import must_be_new

    if format not in FORMATS:
        raise unknown("--format", format, FORMATS)
    if dest is not None:
        must_be_new(dest)
    check_ticket(source, tracking_uri)

    from lottery_ticket.tickets.export import export as write
    from lottery_ticket.tickets.ticket import Ticket

    ticket = Ticket.load(  # without a check, which exporting does
        source, tracking_uri=tracking_uri, model=model, check=False, changed_model=changed_model
    )
    done = write(ticket, dest, format, compact, model=model)
    connected = ticket.connected(model)
    if as_json:
        say(json.dumps(asdict(done) | {"path": str(done.path), "connected": connected}))
        return
    say(f"{done.path}: {describe(ticket)}")
    ties = f", but for {done.ties} ties between two classes" if done.ties else ""
    say(
        f"Checked: {done.runtime} reads it and gives the ticket's scores on all {done.images:,} test images"
        f"{ties}; {100 * done.accuracy:.2f} % of them are classed rightly. {done.bytes:,} bytes."
    )
    if done.without_mask:
        say(
            f"Without a mask, their pruned weights zero, as the network reads them past the hooks of "
            f"torch.nn.utils.prune: {', '.join(done.without_mask)}"
        )
    if not connected:
        from lottery_ticket.models.paths import NO_PATH

        say(f"Of this ticket {NO_PATH}.")
    if done.compact:
        _print(done.compact)
    _print_times(done.times)


def _print(comparison: "Comparison") -> None:
    """What compaction took out and what that brings."""
    width = max(len(each.layer) for each in comparison.layers)
    for each in comparison.layers:
        inputs, units = ("channels in", "out") if each.kind == "Conv2d" else ("inputs", "units")
        (had, left), (made, makes) = each.inputs, each.units
        say(f"  {each.layer:<{width}}  {inputs} {had:,} → {left:,}, {units} {made:,} → {makes:,}")
    compared = {"parameters": comparison.parameters, "multiply-adds of an image": comparison.multiply_adds}
    for name, both in (compared | {"bytes": comparison.bytes}).items():
        if both is None:
            continue
        before, after = both
        say(f"{name}: {before:,} → {after:,}, {after / before:.2g} ×")


def _print_times(times: "Times") -> None:
    """A row for each form of the network: microseconds an image, and how that is to the dense one."""
    say("Microseconds an image, one thread, medians, and how they are to the dense network's:")
    say(" " * 10 + "".join(f"{f'{batch} at a time':>24}" for batch in times.batches))
    for name, seconds in times.seconds.items():
        cells = zip(seconds, times.seconds["dense"], strict=True)
        say(f"  {name:<8}" + "".join(f"{1e6 * own:>15.3g}{own / dense:>7.2f} ×" for own, dense in cells))
