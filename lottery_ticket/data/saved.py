"""Data sets of pictures that Hugging Face's library `datasets` saved on disk (`save_to_disk`), read by Arrow alone."""

import json
from functools import partial
from pathlib import Path
from typing import Any

from lottery_ticket.data.pictures import Picture, Pictures, Refuse, divided, state_of
from lottery_ticket.errors import LotteryTicketError, one_line

_TRAIN, _TEST, _VALIDATION = "train", "test", ("validation", "val", "valid")


def saved_on_disk(folder: Path, refuse: Refuse) -> Pictures:
    """The pictures of a `DatasetDict` or `Dataset` that was saved: one column of images, one of class labels.

    `train` and `test`, or `validation` where there is no `test`; where both are there, `validation` joins `train`. Of
    one `Dataset` a fifth of each class is for testing, drawn from a fixed seed.
    """
    allowed = "allowed: a folder that datasets.save_to_disk wrote, with a column of images and one of class labels"
    try:
        if (folder / "state.json").is_file():
            pictures, classes, files = _table(folder, allowed, refuse)
            parts = divided(pictures)
            notes = ["one part: one picture of 5 of each class is for testing"]
        else:
            there = json.loads((folder / "dataset_dict.json").read_text(encoding="utf-8"))["splits"]
            held = next((name for name in _VALIDATION if name in there), None)
            tested = _TEST if _TEST in there else held
            if _TRAIN not in there or tested is None:
                raise refuse(f"has the parts {', '.join(there)}; allowed: train, and test or validation")
            joining = [held] if held and tested == _TEST else []
            read = {name: _table(folder / name, allowed, refuse) for name in (_TRAIN, tested, *joining)}
            _, classes, _ = read[_TRAIN]
            if any(other != classes for _, other, _ in read.values()):
                raise refuse("has parts of other classes; allowed: the same in each")
            files = [file for _, _, own in read.values() for file in own]
            parts = {"train": [p for name in (_TRAIN, *joining) for p in read[name][0]], "test": read[tested][0]}
            notes = [f"{tested} is what is tested on"] if tested != _TEST else []
            notes += [f"the images of {held} join the training images" for _ in joining]
    except LotteryTicketError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise refuse(f"cannot be read ({one_line(error)}); {allowed}") from None
    if not parts["train"] or not parts["test"]:
        raise refuse(f"has no pictures to train and to test on; {allowed}")
    return Pictures(parts, classes, state_of(folder, files), tuple(notes))


def _table(folder: Path, allowed: str, refuse: Refuse) -> tuple[list[Picture], tuple[str, ...], list[Path]]:
    """The pictures of one part, its classes, and its files."""
    import pyarrow as pa

    state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    features = json.loads((folder / "dataset_info.json").read_text(encoding="utf-8"))["features"]
    if state.get("_indices_data_files"):
        raise refuse("has rows in another order than they lie in; allowed: what flatten_indices() gives, saved again")
    image = _only("Image", features, refuse, allowed)
    label = _only("ClassLabel", features, refuse, allowed)
    files = [folder / Path(each["filename"]).name for each in state["_data_files"]]
    table = pa.concat_tables([pa.ipc.open_stream(pa.memory_map(str(file))).read_all() for file in files])
    encoded, labels = table.column(image), table.column(label).to_pylist()
    names = tuple(map(str, features[label]["names"]))
    if any(each is None or not 0 <= each < len(names) for each in labels):
        raise refuse(f"has rows of no class in {folder.name}; allowed: a class for each picture")
    return (
        [
            Picture(f"row {row} of {folder.name}", partial(_bytes, encoded, row), which)
            for row, which in enumerate(labels)
        ],
        names,
        files,
    )


def _only(kind: str, features: dict[str, Any], refuse: Refuse, allowed: str) -> str:
    """The one column of that kind."""
    found = [name for name, each in features.items() if isinstance(each, dict) and each.get("_type") == kind]
    if len(found) != 1:
        raise refuse(
            f"has {len(found)} columns of {kind} ({', '.join(found) or 'of ' + ', '.join(features)}); {allowed}"
        )
    return found[0]


def _bytes(encoded: Any, row: int) -> bytes:
    told = encoded[row].as_py()
    return told["bytes"] if told["bytes"] is not None else Path(told["path"]).read_bytes()
