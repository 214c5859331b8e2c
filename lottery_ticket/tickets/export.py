"""The trained network of a ticket as a file for other programs: written, read back, and checked on the test set."""

import copy
import importlib
import io
import json
import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn.utils import prune

from lottery_ticket.data.images import Images
from lottery_ticket.data.prepared import DataInfo, channels_first
from lottery_ticket.engine.sparse.module import SurvivorsAlone
from lottery_ticket.errors import InputError, LotteryTicketError, one_line, unknown
from lottery_ticket.models.cost import Uncounted, multiply_adds
from lottery_ticket.models.network import Network
from lottery_ticket.models.tensors import as_state
from lottery_ticket.randomness import derive, forked
from lottery_ticket.tickets.accuracy import Scores, accuracy, check_accuracy, inputs_of, scores_of
from lottery_ticket.tickets.compact import Compact, LayerSize
from lottery_ticket.tickets.compact import compact as make_compact
from lottery_ticket.tickets.formats import FORMATS
from lottery_ticket.tickets.graph import describe_layers, load_compact
from lottery_ticket.tickets.ticket import Ticket
from lottery_ticket.tickets.timing import Times, times
from lottery_ticket.tickets.torch_masks import put_under_masks
from lottery_ticket.untrusted import must_be_new

SAME_SCORE = 1e-5
"""Scores that differ by no more, relative to the largest of all, are the same."""


@dataclass(frozen=True)
class Comparison:
    """What compaction brought, each before and after.

    Attributes:
        layers, parameters: see `Compact`.
        multiply_adds: of an image; None where they cannot be counted.
        bytes: of the file.
    """

    layers: tuple[LayerSize, ...]
    parameters: tuple[int, int]
    multiply_adds: tuple[int, int] | None
    bytes: tuple[int, int]


@dataclass(frozen=True)
class Exported:
    """An exported file.

    Attributes:
        path, format, bytes: the file.
        runtime: what read it back for the check: onnxruntime or torch.
        images: how many test images it was checked on.
        ties: those of them on which it and the ticket decide a tie differently (scores that are the same).
        accuracy: the file's, on them, 0–1.
        compact: what compaction brought; None where it was not asked for.
        times: how long an image takes: `dense`, `compact` where it is one that can be made so, `sparse` (survivors
            alone) where the engine knows the network, by torch; `onnx`, the file, by onnxruntime.
        without_mask: tensors that stand in a torch-prune file as they are, their pruned weights zero.
    """

    path: Path
    format: str
    bytes: int
    runtime: str
    images: int
    ties: int
    accuracy: float
    compact: Comparison | None
    times: Times
    without_mask: tuple[str, ...] = ()


def export(
    ticket: Ticket,
    dest: Path | str | None = None,
    format: str = "onnx",
    compact: bool = False,
    images: Images | None = None,
    model: str | None = None,
) -> Exported:
    """Write the trained network of a ticket; the file appears once it gives the scores of the network, or not at all.

    - `onnx`: input `images`, N×C×H×W (or N×D) float32, pixels as the data set keeps them; output `scores`, N×classes.
    - `state-dict`: safetensors, for `load_state_dict` of the ticket's module, or for `load_compact`.
    - `torch-prune`: the same of the module under the masks of `torch.nn.utils.prune`: give each tensor that has a
      `_mask` there a `prune.identity`, then load it. Those that are read past these (see `torch_masks`) have none.

    The network must have the accuracy that was logged of the ticket. The file is read back as whoever gets it would: by
    onnxruntime, or by torch into a module that the factory has made anew. It must give the same scores of the test set.

    The last two are of modules that take standardised images. Run id, data set, its mean and standard deviation,
    classes and density stand in the metadata of each.

    Args:
        ticket: with trained weights.
        dest: the file, where nothing is yet; default: in `exports`, named after the ticket.
        format: one of `FORMATS`.
        compact: make the network small first (see `lottery_ticket.tickets.compact`) and measure what that brings.
        images: the ticket's data set; by default it is loaded by its name.
        model: see `Ticket.network`.

    Raises:
        InputError: no trained weights, another data set, no such format or the packages for it are missing, something
            is at `dest`, or the network cannot be made small.
        LotteryTicketError: the network is not the one that was measured, the file gives other scores, or it cannot be
            written.

    Example:
        >>> exported = lottery_ticket.export(lottery_ticket.Ticket.load(f"{run_id}:1"), "ticket.onnx")
        >>> exported.path.name, exported.runtime, exported.images, exported.ties
        ('ticket.onnx', 'onnxruntime', 400, 0)
    """
    if format not in FORMATS:
        raise unknown("--format", format, FORMATS)
    dest = Path(dest) if dest else Path("exports", ticket.name + ("-compact" if compact else "") + FORMATS[format])
    must_be_new(dest)
    if format == "onnx":
        _need_onnx()
    if ticket.trained is None:
        allowed = "allowed: one that has, such as `lt pull --trained` brings"
        raise InputError("TICKET", ticket.name, f"has no trained weights; {allowed}")
    whole, data = ticket.module(trained=True, model=model).eval(), ticket.data
    small = make_compact(whole, ticket.mask, data.input_shape) if compact else None
    images = ticket.images() if images is None else images
    if images.digest != data.digest:
        raise InputError("images", images.digest, f"is not the ticket's data; allowed: digest {data.digest}")
    if ticket.metrics.test_accuracy is not None:
        check_accuracy(whole, ticket.metrics.test_accuracy, ticket.settings, data, images)
    raw, standardised = channels_first(images.x_test), inputs_of(images, data)
    expected = scores_of(whole, standardised)
    past = ticket.read_past_hooks(model) if format == "torch-prune" and not small else {}
    try:
        dest.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{dest.name[:60]}-", dir=dest.parent) as work, _one_thread():
            made = Path(work, "made")
            scores = _write(ticket, format, made, whole, small, past, model)
            inputs = raw if format == "onnx" else standardised
            found = scores_of(scores, inputs)
            ties = _check(whole, standardised, expected, found)
            comparison = None
            if small:
                before = Path(work, "before")
                _write(ticket, format, before, whole, None, past, model)
                sizes = (before.stat().st_size, made.stat().st_size)
                counted = _multiply_adds(ticket.network(model), small)
                comparison = Comparison(small.layers, small.parameters, counted, sizes)
            taken = _times(ticket, whole, small, standardised, {"onnx": (scores, raw)} if format == "onnx" else {})
            must_be_new(dest)
            os.rename(made, dest)
    except OSError as error:
        raise LotteryTicketError(f"{dest} cannot be written: {one_line(error)}") from None
    runtime, right = "onnxruntime" if format == "onnx" else "torch", accuracy(found, images)
    size = dest.stat().st_size
    return Exported(dest, format, size, runtime, len(found), ties, right, comparison, taken, tuple(past))


def _multiply_adds(network: Network, small: Compact) -> tuple[int, int] | None:
    counted = network.multiply_adds
    if isinstance(counted, Uncounted):
        return None
    return counted.image, multiply_adds(copy.deepcopy(small.module), network.input_shape or ()).image


def _write(
    ticket: Ticket,
    format: str,
    path: Path,
    whole: nn.Module,
    small: Compact | None,
    past: Mapping[str, str],
    model: str | None,
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
        metadata["layers"] = json.dumps(describe_layers(module))
    if format == "torch-prune":
        kept = {name: kept for name, kept in mask.items() if name not in past}
        module = put_under_masks(copy.deepcopy(module), kept)
    state = {name: value.clone(memory_format=torch.contiguous_format) for name, value in module.state_dict().items()}
    path.write_bytes(save(state, metadata))
    if small:
        return load_compact(path)
    with forked(derive(0, "export")):  # what it draws itself is not what the ticket's module drew
        fresh = ticket.network(model).build()
    state = load_file(path)
    for name in state if format == "torch-prune" else ():
        if name.endswith("_mask") and f"{name.removesuffix('_mask')}_orig" in state:
            where, _, parameter = name.removesuffix("_mask").rpartition(".")
            if parameter in (layer := fresh.get_submodule(where))._parameters:  # else it stands at two places
                prune.identity(layer, parameter)
    fresh.load_state_dict(as_state(fresh, state))
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


def _check(whole: nn.Module, inputs: Tensor, expected: Tensor, found: Tensor) -> int:
    """The ties that were decided differently; LotteryTicketError where the scores are not the same."""
    largest, apart = expected.abs().amax(), (found - expected).abs().amax()
    if not apart <= SAME_SCORE * largest:  # NaN is not
        told = f"the file's scores of the {len(expected):,} test images differ from the ticket's"
        why = f"{told} by up to {apart / largest:.1e} of the largest; nothing was written"
        try:
            exact = scores_of(copy.deepcopy(whole).double(), inputs.double())
        except RuntimeError:  # a network for float32 alone
            raise LotteryTicketError(why) from None
        rounding = (expected - exact).abs().amax()  # the network's own, which is larger where it is deep
        chance = not torch.equal(scores_of(whole, inputs), expected)
        if chance or not (found - exact).abs().amax() <= min(4 * rounding, 1e-3 * largest):
            raise LotteryTicketError(why)
    return int((expected.argmax(1) != found.argmax(1)).sum())


def _times(
    ticket: Ticket,
    whole: nn.Module,
    small: Compact | None,
    standardised: Tensor,
    others: Mapping[str, tuple[Scores, Tensor]],
) -> Times:
    """How long an image takes the network in each of its forms that there are."""
    forms: dict[str, tuple[Scores, Tensor]] = {"dense": (whole, standardised)}
    with suppress(InputError):
        compacted = small or make_compact(whole, ticket.mask, ticket.data.input_shape)
        forms["compact"] = compacted.module, standardised
    with suppress(InputError):
        forms["sparse"] = SurvivorsAlone(whole, ticket.mask, ticket.data.input_shape).eval(), standardised
    forms |= others
    return times({name: form for name, (form, _) in forms.items()}, {name: x for name, (_, x) in forms.items()})
