"""What a stranger's arrays mean: made what `Images` holds where that is certain, and said; else refused."""

from collections.abc import Callable, Mapping

import numpy as np

from lottery_ticket.data.images import Images
from lottery_ticket.errors import InputError

PARTS = ("train", "val", "test")

MOST_COLUMNS = 100_000
"""Of a table, whose mean and standard deviation in each are kept with every run: stores take 16 MB."""

_AT_ONCE = 10_000
"""Images whose values are looked at at a time."""

_IMAGES = "uint8 or float32, N×H×W, N×H×W×C or N×D"
_PRECISE = 0.01
"""The part of the standard deviation (of each column of a table) by which rounding to float32 may change a value."""


def understand(
    arrays: Mapping[str, np.ndarray],
    called: Mapping[str, str],
    name: str,
    source: str,
    refuse: Callable[[str], InputError],
) -> Images:
    """The data set that the arrays hold.

    Taken, and told in the notes: images N×C×H×W, of other types than uint8 and float32; labels N×1, one-hot, whole
    numbers of other types, from 1 instead of 0; validation images, which join the training images.

    Args:
        arrays: `x_train, y_train, x_test, y_test` and perhaps `x_val, y_val`.
        called: how the file calls each.
        name, source: as those of `Images`.
        refuse: makes an error of the end of its line.

    Raises:
        InputError: what `refuse` makes of arrays that hold no data set, or might mean two.
    """
    reading = _Reading(arrays, called, refuse)
    renamed = [key for key in arrays if called[key] != key]
    for key in renamed:
        reading.say(key, f"taken as {', '.join(renamed)}")
    parts = [part for part in PARTS if f"x_{part}" in arrays]
    x = {part: reading.images(f"x_{part}") for part in parts}
    y = {part: reading.labels(f"y_{part}") for part in parts}
    for part in parts:
        if len(x[part]) != len(y[part]) or not len(x[part]):
            raise refuse(
                f"has {len(x[part])} images and {len(y[part])} labels in {part}; allowed: equally many, at least 1"
            )
        if x[part].shape[1:] != x["train"].shape[1:]:
            raise refuse(
                f"has images of {x['train'].shape[1:]} in train and {x[part].shape[1:]} in {part}; allowed: one shape"
            )
        if (one := reading.kind("x_train")) != (other := reading.kind(f"x_{part}")):
            raise refuse(
                f"has {called['x_train']} of {one} and {called[f'x_{part}']} of {other}, which may be of two scales; "
                "allowed: both of one kind"
            )
    if len({each.dtype for each in x.values()}) > 1:
        x = {part: each.astype(np.float32) for part, each in x.items()}
    if "val" in parts:
        joining = (
            f"{len(y['val']):,} images that join the training images; --validation-size says how many are held out"
        )
        reading.say("x_val", joining)
        x["train"] = np.concatenate([x["train"], x.pop("val")])
        y["train"] = np.concatenate([y["train"], y.pop("val")])
    classes = int(y["train"].max()) + 1
    there = np.unique(y["train"])
    if min(each.min() for each in y.values()) == 1 and len(there) == classes - 1:
        reading.say("y_train", f"labels from 1 to {classes - 1}, taken as 0 to {classes - 2}")
        y, classes = {part: each - 1 for part, each in y.items()}, classes - 1
    for part, each in y.items():
        if each.min() < 0 or each.max() >= classes or classes > len(y["train"]):
            sound = 0 < classes <= len(y["train"])
            allowed = f"0 to {classes - 1}, as in training" if sound else "the classes from 0 on, one after another"
            raise refuse(f"has labels {each.min()} to {each.max()} in {part}; allowed: {allowed}")
    return Images(name, source, x["train"], y["train"], x["test"], y["test"], reading.notes)


class _Reading:
    """Array by array, and what was made of them."""

    def __init__(
        self, arrays: Mapping[str, np.ndarray], called: Mapping[str, str], refuse: Callable[[str], InputError]
    ) -> None:
        self._arrays, self._called, self._refuse = arrays, called, refuse
        self._said: dict[str, list[str]] = {}

    @property
    def notes(self) -> tuple[str, ...]:
        """A line for each thing that was made of some arrays."""
        return tuple(f"{', '.join(keys)}: {what}" for what, keys in self._said.items())

    def say(self, key: str, what: str) -> None:
        """Note what was made of an array."""
        self._said.setdefault(what, []).append(self._called[key])

    def kind(self, key: str) -> str:
        """What sort of numbers an array holds."""
        return {"b": "yes and no", "f": "fractions"}.get(self._arrays[key].dtype.kind, "whole numbers")

    def images(self, key: str) -> np.ndarray:
        """N×H×W, N×H×W×C or N×D as uint8 or float32."""
        x = self._arrays[key]
        if x.dtype.kind not in "buif" or x.ndim not in (2, 3, 4) or 0 in x.shape[1:]:
            raise self._refuse(f"has {self._called[key]} of dtype {x.dtype} and shape {x.shape}; allowed: {_IMAGES}")
        if x.ndim == 2 and x.shape[1] > MOST_COLUMNS:
            allowed = f"allowed: at most {MOST_COLUMNS:,} columns"
            raise self._refuse(f"has {self._called[key]} of {x.shape[1]:,} columns; {allowed}")
        if x.dtype.kind == "f" and not all(
            np.isfinite(x[at : at + _AT_ONCE]).all() for at in range(0, len(x), _AT_ONCE)
        ):
            raise self._refuse(f"has {self._called[key]} with values that are not finite; allowed: finite numbers")
        if x.dtype not in (np.uint8, np.float32):
            x = self._as_float32(key, x)
        return self._channels_last(key, x) if x.ndim == 4 else x

    def labels(self, key: str) -> np.ndarray:
        """N whole numbers, int64."""
        y, allowed = self._arrays[key], "allowed: N integer labels"
        if y.ndim == 2 and y.shape[1] == 1:
            self.say(key, "N×1, taken as N labels")
            y = y[:, 0]
        if y.dtype.kind in "buif" and y.ndim == 2:
            if not ((y != 0).sum(1) == 1).all() or not (y.max(1) == 1).all():
                raise self._refuse(f"has {self._called[key]} of shape {y.shape} that is not one-hot; {allowed}")
            self.say(key, f"one-hot in {y.shape[1]} columns, taken as the column of the 1")
            return y.argmax(1)
        if y.dtype.kind not in "buif" or y.ndim != 1:
            raise self._refuse(f"has {self._called[key]} of dtype {y.dtype} and shape {y.shape}; {allowed}")
        if y.dtype.kind == "f" and not ((np.abs(y) < 2**53) & (y == np.floor(y))).all():
            raise self._refuse(f"has {self._called[key]} with labels that are no whole numbers; {allowed}")
        if y.dtype.kind in "bf":
            self.say(key, f"{y.dtype}, taken as whole numbers")
        return y.astype(np.int64)

    def _as_float32(self, key: str, x: np.ndarray) -> np.ndarray:
        axis = 0 if x.ndim == 2 else None
        with np.errstate(over="ignore", invalid="ignore"):
            rounded = x.astype(np.float32)
            changed = np.abs(rounded - x.astype(np.float64)).max(axis)
            lost = (changed > _PRECISE * x.std(axis, dtype=np.float64)) & (x.max(axis) > x.min(axis))
        if lost.any() or not np.isfinite(rounded).all():
            raise self._refuse(
                f"has {self._called[key]} of {x.dtype} whose values float32 does not tell apart; "
                "allowed: numbers nearer to 0, or on another scale"
            )
        self.say(key, f"{x.dtype}, taken as float32")
        return rounded

    def _channels_last(self, key: str, x: np.ndarray) -> np.ndarray:
        """N×H×W×C. Which axes are height and width is certain where one reading alone has usual images."""
        a, b, c = x.shape[1:]
        last = a == b > 1 or (c in (1, 3, 4) and min(a, b) > c)
        first = b == c > 1 or (a in (3, 4) and min(b, c) >= 8)  # 1×64×12 may be a signal of 12 channels
        if first and not last:
            self.say(key, f"N×C×H×W ({a} channels of {b}×{c} pixels), taken as N×H×W×C")
            return x.transpose(0, 2, 3, 1)
        if first or not last:
            self.say(key, f"taken as N×H×W×C, so {a}×{b} pixels of {c} channels; transpose them if they are not")
        return x
