"""The trained network of a ticket as a file for other programs: written, read back, and checked on the test set."""

import copy
import importlib
import io
import json
import logging
import os
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from lottery_ticket.chain import describe_layer, load_compact
from lottery_ticket.compact import Compact, LayerSize
from lottery_ticket.compact import compact as make_compact
from lottery_ticket.data import DataInfo, channels_first
from lottery_ticket.errors import InputError, LotteryTicketError, one_line, unknown
from lottery_ticket.folder import must_be_new
from lottery_ticket.images import Images
from lottery_ticket.ticket import Ticket, under_torch_masks

FORMATS = {"onnx": ".onnx", "state-dict": ".safetensors", "torch-prune": "-torch-prune.safetensors"}
"""What a trained ticket is exported as → the ending of such files."""

SAME_SCORE = 1e-5
"""Scores of an image that differ by no more, relative to the largest, are a tie, which rounding may decide."""

_BATCH = 500
_REPETITIONS, _LONG = 7, 30.0  # measured so often; after so many seconds, three times are enough

Scores = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Comparison:
    """What compaction brought, each before and after.

    Attributes:
        layers, parameters: see `Compact`.
        bytes: of the file.
        seconds: to classify the test set on one thread; median.
    """

    layers: tuple[LayerSize, ...]
    parameters: tuple[int, int]
    bytes: tuple[int, int]
    seconds: tuple[float, float]


@dataclass(frozen=True)
class Exported:
    """An exported file.

    Attributes:
        path, format, bytes: the file.
        runtime: what read it back for the check: onnxruntime or torch.
        images: how many test images it was checked on.
        ties: those of them on which it and the ticket decide a tie differently (see `SAME_SCORE`).
        accuracy: the file's, on them, 0–1.
        compact: what compaction brought; None where it was not asked for.
    """

    path: Path
    format: str
    bytes: int
    runtime: str
    images: int
    ties: int
    accuracy: float
    compact: Comparison | None


def export(
    ticket: Ticket,
    dest: Path,
    format: str = "onnx",
    compact: bool = False,
    images: Images | None = None,
    model: str | None = None,
) -> Exported:
    """Write the trained network of a ticket; the file appears once it predicts what the network does, or not at all.

    - `onnx`: input `images`, N×C×H×W (or N×D) float32, pixels as the data set keeps them; output `scores`, N×classes.
    - `state-dict`: safetensors, for `load_state_dict` of the ticket's module, or for `load_compact`.
    - `torch-prune`: the same of the module under the masks of `torch.nn.utils.prune`.

    The last two are of modules that take standardised images. Run id, data set, its mean and standard deviation,
    classes and density stand in the metadata of each.

    Args:
        ticket: with trained weights.
        dest: the file, where nothing is yet.
        format: one of `FORMATS`.
        compact: make the network small first (see `lottery_ticket.compact`) and measure what that brings.
        images: the ticket's data set; by default it is loaded by its name.
        model: see `Ticket.network`.

    Raises:
        InputError: no trained weights, another data set, no such format or the packages for it are missing, something
            is at `dest`, or the network cannot be made small.
        LotteryTicketError: the file predicts something else, or cannot be written.
    """
    if format not in FORMATS:
        raise unknown("--format", format, FORMATS)
    must_be_new(dest)
    if format == "onnx":
        _need_onnx()
    if ticket.trained is None:
        allowed = "allowed: one that has, such as `lt pull --trained` brings"
        raise InputError("TICKET", ticket.name, f"has no trained weights; {allowed}")
    images = ticket.images() if images is None else images
    if images.digest != ticket.data.digest:
        raise InputError("images", images.digest, f"is not the ticket's data; allowed: digest {ticket.data.digest}")
    whole = ticket.module(trained=True, model=model).eval()
    x = channels_first(images.x_test)
    expected = _over(whole, ticket.data.standardise(x))
    small = make_compact(whole, ticket.mask, ticket.data.input_shape) if compact else None
    try:
        dest.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{dest.name[:60]}-", dir=dest.parent) as work, _one_thread():
            made = Path(work, "made")
            scores = _write(ticket, format, made, whole, small, model)
            inputs = x if format == "onnx" else ticket.data.standardise(x)
            found = _over(scores, inputs)
            ties = _check(expected, found)
            comparison = None
            if small:
                before = Path(work, "before")
                seconds = _seconds(_write(ticket, format, before, whole, None, model), scores, inputs)
                sizes = (before.stat().st_size, made.stat().st_size)
                comparison = Comparison(small.layers, small.parameters, sizes, seconds)
            must_be_new(dest)
            os.rename(made, dest)
    except OSError as error:
        raise LotteryTicketError(f"{dest} cannot be written: {one_line(error)}") from None
    right = found.argmax(1) == torch.from_numpy(images.y_test)
    runtime = "onnxruntime" if format == "onnx" else "torch"
    accuracy = right.double().mean().item()
    return Exported(dest, format, dest.stat().st_size, runtime, len(x), ties, accuracy, comparison)


def _write(
    ticket: Ticket, format: str, path: Path, whole: nn.Module, small: Compact | None, model: str | None
) -> Scores:
    """Write the file and read it back, as its users do."""
    module, mask = (small.module, small.mask) if small else (whole, ticket.mask)
    metadata = {
        "run_id": ticket.origin.run_id or "",
        "dataset": ticket.data.name,
        "mean": json.dumps(ticket.data.mean),
        "std": json.dumps(ticket.data.std),
        "classes": str(ticket.data.classes),
        "density": f"{ticket.density:.6g}",
    }
    if format == "onnx":
        _write_onnx(_Raw(module, ticket.data), ticket.data.input_shape, path, metadata)
        return _onnx_scores(path)
    if small:
        metadata["layers"] = json.dumps([describe_layer(name, layer) for name, layer in module.named_children()])
    if format == "torch-prune":
        module = under_torch_masks(copy.deepcopy(module), mask)
    path.write_bytes(
        save(
            {name: value.clone(memory_format=torch.contiguous_format) for name, value in module.state_dict().items()},
            metadata,
        )
    )
    if small:
        return load_compact(path)
    fresh = ticket.to_prune(model=model) if format == "torch-prune" else ticket.module(model=model)
    fresh.load_state_dict(load_file(path))
    return fresh.eval()


class _Raw(nn.Module):
    """A network that takes pixels as the data set keeps them."""

    def __init__(self, module: nn.Module, data: DataInfo):
        super().__init__()
        self.module, self.data = module, data

    def forward(self, images: Tensor) -> Tensor:
        return self.module(self.data.standardise(images))


def _need_onnx() -> None:
    try:
        for package in ("onnx", "onnxruntime", "onnxscript"):
            importlib.import_module(package)
    except ImportError:
        why = "needs the packages onnx, onnxruntime and onnxscript (pip install onnx onnxruntime onnxscript)"
        raise InputError("--format", "onnx", f"{why}; allowed without them: state-dict, torch-prune") from None


def _write_onnx(module: nn.Module, input_shape: tuple[int, ...], path: Path, metadata: dict[str, str]) -> None:
    import onnx_ir.passes.common as passes

    try:
        with _silence():
            program = torch.onnx.export(
                module.eval(),
                (torch.zeros(2, *input_shape),),
                dynamo=True,
                verbose=False,
                input_names=["images"],
                output_names=["scores"],
                dynamic_shapes=({0: "N"},),
            )
            assert program is not None
            passes.ClearMetadataAndDocStringPass()(program.model)  # tracebacks with the paths of this machine
            program.model.metadata_props.update(metadata)
            program.save(path, external_data=False)
    except OSError:
        raise
    except Exception as error:  # whatever a user's network makes of being traced
        raise LotteryTicketError(f"the network cannot be exported as ONNX: {one_line(error)}") from error


def _onnx_scores(path: Path) -> Scores:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(["scores"], {"images": images.numpy()})[0])


@contextmanager
def _silence() -> Iterator[None]:
    """Keep the exporter's chatter from the terminal."""
    before = logging.root.manager.disable
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.disable(logging.ERROR)
        try:
            yield
        finally:
            logging.disable(before)


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _over(scores: Scores, inputs: Tensor) -> Tensor:
    """The scores of all images."""
    with torch.no_grad():
        return torch.cat([scores(part) for part in inputs.split(_BATCH)])


def _check(expected: Tensor, found: Tensor) -> int:
    """The ties that were decided differently; LotteryTicketError where more than ties were."""
    chosen = found.argmax(1, keepdim=True)
    margin = expected.amax(1) - expected.gather(1, chosen).squeeze(1)
    differs = expected.argmax(1) != chosen.squeeze(1)
    wrong = int((differs & ~(margin <= SAME_SCORE * expected.abs().amax(1))).sum())
    if wrong:
        told = f"{wrong:,} of {len(expected):,} test images are classified differently by the exported file"
        raise LotteryTicketError(f"{told}; nothing was written")
    return int(differs.sum())


def _seconds(before: Scores, after: Scores, inputs: Tensor) -> tuple[float, float]:
    """Medians of the time over all images, the two measured in turn; neither for the first time."""
    taken: tuple[list[float], list[float]] = ([], [])
    _over(before, inputs[:_BATCH])
    start = time.perf_counter()
    while len(taken[0]) < 3 or (len(taken[0]) < _REPETITIONS and time.perf_counter() - start < _LONG):
        for scores, times in zip((before, after), taken, strict=True):
            begun = time.perf_counter()
            _over(scores, inputs)
            times.append(time.perf_counter() - begun)
    return statistics.median(taken[0]), statistics.median(taken[1])
