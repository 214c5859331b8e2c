"""`lt train`: train a ticket once more, perhaps on other data, next to its controls."""

import json
from typing import Annotated, Any

import typer

from lottery_ticket import process
from lottery_ticket.cli.early import check_ticket
from lottery_ticket.cli.options import Json, TrackingUri, with_settings
from lottery_ticket.cli.say import say
from lottery_ticket.cli.tickets import ChangedModel, ModelCode, TicketReference
from lottery_ticket.config import OF_A_TICKET, Settings


def _train(
    ticket: TicketReference,
    dense: Annotated[bool, typer.Option("--dense/--no-dense", help="Train the dense network too.")] = True,
    model: ModelCode = None,
    changed_model: ChangedModel = False,
    experiment: Annotated[str, typer.Option("--experiment", help="MLflow experiment.")] = "lottery-ticket",
    tracking_uri: TrackingUri = None,
    as_json: Json = False,
    **settings: Any,
) -> None:
    """Train a ticket with its own or changed settings, next to the controls reinit and dense.

    `--dataset` asks whether it wins on other data too: the images must have the ticket's shape; where the number of
    classes differs, the output layer is drawn anew and not pruned. In MLflow the ticket is the arm `winning` at the
    round it was found in, and round 0 is the dense control.
    """
    from lottery_ticket.runs.known import check_settings
    from lottery_ticket.store import reach

    check_settings(settings)
    check_ticket(ticket, tracking_uri)
    reach.must_be_usable(tracking_uri, experiment=experiment)

    from lottery_ticket.cli.display import Display, print_result, ui_command
    from lottery_ticket.runs.retrain import train_ticket
    from lottery_ticket.tickets.ticket import Ticket

    loaded = Ticket.load(ticket, tracking_uri=tracking_uri, trained=False, model=model, changed_model=changed_model)
    try:
        with Display() as display:
            result = train_ticket(
                loaded,
                dense=dense,
                model=model,
                tracking_uri=tracking_uri,
                experiment=experiment,
                listener=display,
                begun=process.began(),
                **settings,
            )
    except KeyboardInterrupt:
        say("\nInterrupted; the same command trains the ticket from its start.", err=True)
        raise
    if as_json:
        say(json.dumps(result.to_json()))
    else:
        print_result(result, ui_command(experiment, tracking_uri))


train = with_settings(_train, [name for name in Settings.model_fields if name not in OF_A_TICKET], "the ticket's")
