"""The tickets of a whole MLflow store as a list; needs no torch, so that it comes at once."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlflow import MlflowClient
from mlflow.entities import Run

from lottery_ticket import store
from lottery_ticket.summary import read_rounds, read_verdict

if TYPE_CHECKING:
    from lottery_ticket.verdict import Answer


@dataclass(frozen=True)
class Listed:
    """A ticket in the store, in numbers; accuracies 0–1. `verdict` is "" while the run has none."""

    run_id: str
    run_name: str
    trajectory: str
    model: str
    dataset: str
    arm: str
    seed: int
    round: int
    density: float
    test_accuracy: float
    dense_accuracy: float | None
    matching: "Answer | None"
    winning: "Answer | None"

    @property
    def verdict(self) -> str:
        """The verdict in words; about the arm `winning` only."""
        if self.winning is None:
            return ""
        word = {"yes": "wins", "no": "does not win", "undecided": "undecided"}[self.winning]
        return f"matches, {word}" if self.winning != "yes" and self.matching == "yes" else word


def list_tickets(client: MlflowClient) -> list[Listed]:
    """Every ticket (round 1 and later, of every arm and seed) of every run in the store, newest run first."""
    with store.telling("the list of runs"):
        experiments = [each.experiment_id for each in client.search_experiments()]
        runs = store.search(client, experiments, "tags.`lt.kind` = 'run'") if experiments else []
    return [ticket for run in runs for ticket in listed(run)]


def listed(run: Run) -> list[Listed]:
    """The tickets of a run, from its tags."""
    rounds, verdict = list(read_rounds(run.data.tags)), read_verdict(run.data.tags)
    dense = {each.seed: each.test_accuracy for each in rounds if each.round == 0 and each.arm == "winning"}
    params = run.data.params
    listed = []
    for each in rounds:
        if each.round > 0:
            judged = verdict.get(each.round) if each.arm == "winning" else None
            listed.append(
                Listed(
                    run_id=run.info.run_id,
                    run_name=run.info.run_name,
                    trajectory=each.trajectory,
                    model=params.get("model", ""),
                    dataset=params.get("dataset", ""),
                    arm=each.arm,
                    seed=each.seed,
                    round=each.round,
                    density=each.density,
                    test_accuracy=each.test_accuracy,
                    dense_accuracy=dense.get(each.seed),
                    matching=judged[0] if judged else None,
                    winning=judged[1] if judged else None,
                )
            )
    return listed
