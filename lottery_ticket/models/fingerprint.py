"""What a network is, kept with runs and tickets, so that another one is not taken for it."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from torch import fx, nn

from lottery_ticket.errors import InputError
from lottery_ticket.models.tensors import tensors_of
from lottery_ticket.models.usercode import sources_of

_PLAIN = (bool, int, float, str, type(None))


class Fingerprint(BaseModel):
    """What a network is, but for its values.

    Attributes:
        layers: path → type and options.
        tensors: name → shape, and type where that is not float32.
        graph: what is computed, a line a step, where torch.fx can tell.
        sources: function, class or constant of the user's own code that the network is made of → a digest of it, to
            which comments and layout do not count.
        library: that built it, with its version (`torchvision 0.29.2`), where one did; a network of another version
            that differs in nothing else is the same.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    layers: dict[str, str] = {}
    tensors: dict[str, str]
    graph: dict[str, str] = {}
    sources: dict[str, str] = {}
    library: str = ""

    def differences(self, now: "Fingerprint") -> list[str]:
        """What is otherwise in a network of today, in words: empty where nothing is.

        One that tells of tensors alone is compared by these.
        """
        found = _changes("tensor", self.tensors, now.tensors)
        if self.layers:
            found += _changes("layer", self.layers, now.layers)
            found += _changes("step", self.graph, now.graph)
            found += [f"the code of {name}" for name in sorted(_changed(self.sources, now.sources))]
        return found

    def must_be(self, now: "Fingerprint", model: str, overruling: str | None = "--changed-model") -> None:
        """InputError naming what differs where the network of today is another; `overruling` is what allows that."""
        if found := self.differences(now):
            told = "; ".join(found[:3]) + (f"; and {len(found) - 3} more" if len(found) > 3 else "")
            if self.library != now.library:
                told += f" ({self.library} -> {now.library})"
            allowed = "allowed: the network as it was" + (f", or {overruling}" if overruling else "")
            raise InputError("--model", model, f"is another network than the one that was trained: {told}; {allowed}")


def _changed(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    return [name for name in {**one, **other} if one.get(name) != other.get(name)]


def _changes(what: str, one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    return [
        f"{what} {name or 'of all'}: {one.get(name, 'none')} -> {other.get(name, 'none')}"
        for name in _changed(one, other)
    ]


def fingerprint(module: nn.Module, *code: Any, library: str = "") -> Fingerprint:
    """The fingerprint of a new instance of a network, of the factory that made it and of other code of its user's."""
    return Fingerprint(
        layers={path: _line(f"{type(layer).__name__}({_options(layer)})") for path, layer in module.named_modules()},
        tensors=shapes_of(tensors_of(module)),
        graph=dict(_steps(module)),
        sources=sources_of(module, *code),
        library=library,
    )


def shapes_of(tensors: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """Name → shape of a tensor, e.g. `300x784`."""
    return {
        name: " ".join(
            ["x".join(map(str, value.shape)) or "scalar"]
            + ([] if value.dtype == torch.float32 else [str(value.dtype).removeprefix("torch.")])
        )
        for name, value in tensors.items()
    }


def _options(layer: nn.Module) -> str:
    """The plain attributes of a layer, which are what it was made with."""
    told = []
    for key, value in sorted(vars(layer).items()):
        if key.startswith("_") or key == "training":
            continue
        if isinstance(value, _PLAIN) or (isinstance(value, tuple | list) and all(isinstance(v, _PLAIN) for v in value)):
            told.append(f"{key}={value}")
        elif not isinstance(value, nn.Module) and callable(value):
            told.append(f"{key}={getattr(value, '__name__', type(value).__name__)}")
    return ", ".join(told)


def _steps(module: nn.Module) -> Iterator[tuple[str, str]]:
    """The steps of an evaluation; none where the network's code asks for values."""
    try:
        nodes = list(fx.Tracer().trace(module.eval()).nodes)
    except Exception:  # whatever a user's code makes of torch.fx's stand-ins
        return
    for index, node in enumerate(nodes):
        target = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
        options = [f"{key}={value}" for key, value in node.kwargs.items()]
        yield str(index), _line(f"{target}({', '.join([*map(str, node.args), *options])})")


def _line(text: str) -> str:
    """On one line, without addresses in memory, printable, of at most 300 characters."""
    text = re.sub(r"0x[0-9a-f]+", "0x", " ".join(text.split()))
    return "".join(each if each.isprintable() else "?" for each in text)[:300]
