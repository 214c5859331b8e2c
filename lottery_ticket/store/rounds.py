"""A finished round as MLflow has it: its metrics, its files, and the data set that it was trained on."""

import json
from pathlib import Path

from mlflow.entities import Dataset, DatasetInput, Metric

from lottery_ticket.data.images import Images
from lottery_ticket.data.prepared import DataInfo
from lottery_ticket.method.arms import arm_named
from lottery_ticket.method.trajectory import Round
from lottery_ticket.names import escaped, shortened
from lottery_ticket.record import Cost, Record
from lottery_ticket.store.chart_view import BY_COMPRESSION, compression_step
from lottery_ticket.store.layout import INIT, REWOUND, START, place
from lottery_ticket.store.seal import seal
from lottery_ticket.tickets.files import save_mask, save_weights

LEFT = "weights_remaining_pct"
MULTIPLY_ADDS, SPARSE = "multiply_adds", "multiply_adds_sparse"

OWN_METRICS = frozenset(
    (
        *("test_accuracy", "test_accuracy_best", "test_accuracy_early_stop", "early_stop_iteration", "test_loss"),
        *("test_loss_best", "test_loss_early_stop", "train_loss", "validation_loss", "density", "sparsity", LEFT),
        *("seconds", "seeds", "epoch_test_accuracy", BY_COMPRESSION, MULTIPLY_ADDS, SPARSE),
    )
)
"""What the metrics are called that this package logs, up to the first `/`; what a user measures is called otherwise."""


def metrics_of(record: Record) -> list[Metric]:
    """The points that a finished round adds to its trajectory's metrics."""
    at, r = record.finished_at, record.round
    values = {
        "test_accuracy": record.test_accuracy,
        "test_accuracy_best": record.test_accuracy_best,
        "test_accuracy_early_stop": record.test_accuracy_early_stop,
        "early_stop_iteration": record.early_stop_iteration,
        "test_loss": record.test_loss,
        "test_loss_best": record.test_loss_best,
        "test_loss_early_stop": record.test_loss_early_stop,
        "train_loss": record.train_loss,
        "validation_loss": record.validation_loss,
        "density": record.density,
        "sparsity": record.sparsity,
        LEFT: record.weights_remaining_pct,
        "seconds": record.seconds,
    }
    values |= {f"density/{shortened(escaped(tensor), 240)}": value for tensor, value in record.densities.items()}
    values |= _multiply_adds(record.cost) if record.cost else {}
    metrics = [Metric(key, value, at, r) for key, value in values.items() if value is not None]
    metrics += [Metric(key, value, at, r) for key, value in record.measured.items() if value is not None]
    per_round = record.curve[-1].epoch or 0
    metrics += [
        Metric("epoch_test_accuracy", point.test_accuracy, at, r * per_round + point.epoch)
        for point in record.curve
        if point.epoch is not None
    ]
    metrics.append(Metric(BY_COMPRESSION, record.test_accuracy, at, compression_step(record.weights_remaining_pct)))
    return metrics


def _multiply_adds(cost: Cost) -> dict[str, float | None]:
    of_tensors = {
        f"{SPARSE}/{shortened(escaped(tensor), 225)}": float(each.sparse) for tensor, each in cost.inference.items()
    }
    return of_tensors | {
        f"{MULTIPLY_ADDS}/inference_dense": cost.an_image.dense,
        f"{MULTIPLY_ADDS}/inference_sparse": cost.an_image.sparse,
        f"{MULTIPLY_ADDS}/inference_compact": cost.compact,
        f"{MULTIPLY_ADDS}/training_dense": cost.round.dense,
        f"{MULTIPLY_ADDS}/training_sparse": cost.round.sparse,
        f"{MULTIPLY_ADDS}/computed": cost.computed,
        f"{MULTIPLY_ADDS}/to_find": cost.to_find,
    }


def write(done: Round, precision: str, first_round: bool, drawn: bool, folder: Path) -> None:
    """The artifacts of a round as they lie in the run into the folder: `first`, then `last` with its `round.json`.

    Args:
        done: the round.
        precision: of the trained weights.
        first_round: whether it is the first of its trajectory.
        drawn: whether values that were drawn are kept: where they cannot be drawn again from what the store has.
        folder: to write into.
    """
    r = done.record.round
    first, last = folder / "first", folder / "last"
    (first / place(r)).mkdir(parents=True)
    (last / place(r)).mkdir(parents=True)
    if first_round:
        save_weights(done.start, first / INIT)
    save_mask(done.mask, first / place(r) / "mask.safetensors")
    arm = arm_named(done.record.arm)
    frozen = arm.training == "pruned-frozen"
    kept = None if done.record.diverged or frozen else done.mask
    whole = arm.keep_start or frozen or arm.fixed  # its next start may depend on them, or they are θ₀
    exactly = "float32" if whole else precision
    save_weights(done.weights, first / place(r) / "weights.safetensors", kept, exactly)
    if done.next_mask is not None:
        (first / place(r + 1)).mkdir()
        save_mask(done.next_mask, first / place(r + 1) / "mask.safetensors")
    if arm.keep_start or (drawn and arm.draws):
        save_weights(done.start, first / place(r) / START, None if frozen else done.mask)
    if done.rewound is not None:
        (first / REWOUND).parent.mkdir(exist_ok=True)
        save_weights(done.rewound, first / REWOUND)
    (last / place(r) / "round.json").write_text(seal(done.record.model_dump_json()), encoding="utf-8")


def dataset_input(images: Images, info: DataInfo) -> DatasetInput:
    """A data set as the input of a run in MLflow."""
    shapes = {
        key: {"shape": list(value.shape), "dtype": str(value.dtype)}
        for key, value in vars(images).items()
        if hasattr(value, "dtype")
    }
    profile = {"num_train": len(images.y_train), "num_test": len(images.y_test), "info": info.model_dump()}
    return DatasetInput(
        Dataset(
            name=images.name[:500],
            digest=images.digest,
            source_type="local",
            source=json.dumps({"uri": Path(images.source).resolve().as_uri()}),
            schema=json.dumps({"mlflow_tensorspec": shapes}),
            profile=json.dumps(profile),
        )
    )
