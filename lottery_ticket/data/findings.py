"""What to know of a data set before anything is trained on it: copies, missing classes, values on another scale."""

from collections.abc import Collection, Sequence

import numpy as np
import torch
from torch import Tensor

from lottery_ticket.config import Settings
from lottery_ticket.data.images import Images
from lottery_ticket.data.prepared import Data, split
from lottery_ticket.data.streamed import Streamed
from lottery_ticket.errors import InputError

FEW = 100
"""Held-out images below which it is told that early stops rest on them: one image is a point of accuracy."""

LOOKED_AT = 5000
"""Images that are looked at at a time, and of those for testing at all where they are not in memory."""

FAR = 100.0
"""Standard deviations from training's mean; further ones are told."""

_ANOTHER_SCALE = 10.0
"""Root mean square, in standard deviations, that half of the test images exceed; of training's at most 1 of 100 can."""

_NARROW = 0.05
"""Of training's standard deviation; what varies less is told."""


def examine(settings: Settings, images: Images, data: Data) -> tuple[list[str], list[InputError]]:
    """What the user should know, each a line, and what must not be trained on.

    Args:
        settings: of the run; faults name its options.
        images: the data set.
        data: the same as the run takes it, split and standardised.
    """
    low, high = _range(data.train.x)
    test = _flat(data.test.x if isinstance(data.test.x, Tensor) else data.test.x[:LOOKED_AT])
    notes = [*_copies(images, data), *_values(low, high, test, len(data.train)), *_held_out(data)]
    if len(test) < len(data.test):
        notes.append(f"the values of {len(test):,} of {len(data.test):,} test images were looked at")
    faults = [*_scale(low, high, test, settings)]
    if len(data.validation) == 1:
        why = "holds one image out, on which early stops would rest; allowed: more, or 0 for none"
        faults.append(InputError("--validation-size", 1, why))
    trained, held, tested = (set(part.y.unique().tolist()) for part in (data.train, data.validation, data.test))
    if len(trained) == 1:
        why = f"has training images of {_classes(trained)} alone; allowed: two classes or more"
        faults.append(InputError("--dataset", settings.dataset, why))
    if settings.batch_size > len(data.train):
        notes.append(f"a batch of {settings.batch_size:,} takes all {len(data.train):,} training images")
    if unknown := tested - trained - held:
        why = f"has test images of {_classes(unknown)} and no training images; allowed: classes that are trained on"
        faults.append(InputError("--dataset", settings.dataset, why))
    if all_held := held - trained:
        why = f"holds out all training images of {_classes(all_held)}; allowed: fewer"
        faults.append(InputError("--validation-size", settings.validation_size, why))
    if nowhere := set(range(data.classes)) - trained - held - tested:
        notes.append(f"no image is of {_classes(nowhere)}")
    if untested := (trained | held) - tested:
        notes.append(f"no test image is of {_classes(untested)}")
    return notes, faults


def _copies(images: Images, data: Data) -> list[str]:
    """Images that are the same in every value, by a hash of each."""
    train, test = _hashes(images.x_train), _hashes(images.x_test)
    kept, held = split(images, len(data.validation))
    what = "rows" if images.x_train.ndim == 2 else "images"
    counts = {
        f"{len(test):,} test {what} are copies of training {what}": np.isin(test, train).sum(),
        f"{len(held):,} held-out {what} are copies of others trained on": np.isin(train[held], train[kept]).sum(),
        f"{len(train):,} training {what} are copies of others": len(train) - len(np.unique(train)),
        f"{len(test):,} test {what} are copies of others": len(test) - len(np.unique(test)),
    }
    return [f"{count:,} of {told}" for told, count in counts.items() if count]


def _hashes(x: np.ndarray) -> np.ndarray:
    rows = np.ascontiguousarray(x).reshape(len(x), -1)
    return np.fromiter((hash(row.tobytes()) for row in rows), np.int64, len(rows))


def _held_out(data: Data) -> list[str]:
    """What early stops rest on, where that is little."""
    count = len(data.validation)
    lacking = set(data.train.y.unique().tolist()) - set(data.validation.y.unique().tolist())
    if not count or (count >= FEW and not lacking):
        return []
    return [f"early stops rest on {count:,} held-out images" + (f", none of {_classes(lacking)}" if lacking else "")]


def _values(low: Tensor, high: Tensor, test: Tensor, trained_on: int) -> list[str]:
    """Test values (N × channels × pixels) unlike those of training, which lie in low … high (channels × 1)."""
    notes, total, constant = [], len(test), low == high
    changed = constant & (test != low)
    if count := _images(changed):
        which = _some("column" if test.shape[2] == 1 else "channel", changed.any(2).any(0).nonzero().flatten().tolist())
        notes.append(f"{which}: constant in training, but {count:,} of {total:,} test images differ there")
    if count := _images(~constant & (test.abs() > FAR)):
        notes.append(f"{count:,} of {total:,} test images lie over {FAR:g} standard deviations from training's mean")
    outside = (~constant & ((test < low) | (test > high))).double().mean().item()
    if outside > 0.01 + 10 / trained_on:
        notes.append(f"{outside:.0%} of the test values lie outside the range of training's; are both on one scale?")
    spread = test.std((0, 2), correction=0)[~constant.flatten()].tolist()
    if spread and total >= 10 and max(spread) < _NARROW:
        notes.append(f"test values vary by {max(spread):.2g} of what training's do; are both on one scale?")
    return notes


def _scale(low: Tensor, high: Tensor, test: Tensor, settings: Settings) -> list[InputError]:
    """Whether test images are on another scale than those of training, or values on one that float32 does not hold."""
    varies = low < high
    typical = (test * varies).square().mean((1, 2)).div(varies.double().mean().clamp_min(1e-9)).sqrt().median().item()
    why = ""
    if not all(bool(values.isfinite().all()) for values in (low, high, test)):
        why = "has values too large for float32 once they are standardised; allowed: smaller ones"
    elif typical > _ANOTHER_SCALE:
        told = (
            f"has test images on another scale: half of them are {typical:.3g} standard deviations from training's mean"
        )
        why = f"{told}; allowed: both on one"
    return [InputError("--dataset", settings.dataset, why)] if why else []


def _range(x: Tensor | Streamed) -> tuple[Tensor, Tensor]:
    """The least and the largest value of each channel or column, ×1."""
    parts = [_flat(part) for part in x.split(LOOKED_AT)]
    low, high = ([getattr(part, which)((0, 2)) for part in parts] for which in ("amin", "amax"))
    return torch.stack(low).amin(0).unsqueeze(1), torch.stack(high).amax(0).unsqueeze(1)


def _flat(x: Tensor) -> Tensor:
    """N×C×H×W or N×D as N × channels (or columns) × pixels."""
    return x.flatten(2) if x.ndim > 2 else x.unsqueeze(2)


def _images(which: Tensor) -> int:
    """How many images have a value of those."""
    return int(which.flatten(1).any(1).sum())


def _classes(labels: Collection[int]) -> str:
    return _some("class", sorted(labels))


def _some(noun: str, numbers: Sequence[int]) -> str:
    """`class 3`, `class 3, 7`, or the first eight and how many more."""
    more = f" and {len(numbers) - 8:,} more" if len(numbers) > 8 else ""
    return f"{noun} {', '.join(map(str, numbers[:8]))}{more}"
