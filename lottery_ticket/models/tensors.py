"""The parameters and buffers of a module by name, each once: one may stand in it at two places."""

from collections.abc import Iterable, Iterator, Mapping

from torch import Tensor, nn
from torch.func import functional_call


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """The parameters and persistent buffers, each under the first of its names; they share the module's memory."""
    state = module.state_dict(keep_vars=True)
    first = _first_names(state.items())
    return {name: state[name].detach() for name in dict.fromkeys(first.values())}


def give(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put tensors named as by `tensors_of` into a module; RuntimeError where they are not its own."""
    first = _first_names(module.state_dict(keep_vars=True).items())
    others = {name: tensors[at] for name, at in first.items() if at in tensors}
    module.load_state_dict(as_state(module, {**tensors, **others}))


def as_state(module: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors as `load_state_dict` takes them: with the versions of the layers, which some (MNASNet) ask for."""
    state = module.state_dict()
    versions = vars(state)["_metadata"]
    state = type(state)(tensors)
    vars(state)["_metadata"] = versions
    return state


def call(module: nn.Module, tensors: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """What the module makes of x with these tensors, named as by `tensors_of`, in the place of its own.

    Buffers are updated in `tensors`, also where the module puts a new one in the place of an old one.
    """
    places = {place: name for place, name in _first_names(_places(module)).items() if name in tensors}
    own = {place: tensors[name] for place, name in places.items()}
    result = functional_call(module, own, (x,), tie_weights=False)  # which takes two names of one layer for two layers
    for place, name in places.items():
        if own[place] is not tensors[name]:  # self.count = self.count + 1
            tensors[name].copy_(own[place].detach())
    return result


def _places(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Where a module and the layers in it hold a parameter or persistent buffer, each layer under its first name."""
    for path, layer in module.named_modules():
        for key, value in (*layer._parameters.items(), *layer._buffers.items()):
            if value is not None and key not in layer._non_persistent_buffers_set:
                yield f"{path}.{key}".lstrip("."), value


def _first_names(named: Iterable[tuple[str, Tensor]]) -> dict[str, str]:
    """Name → the first name of the same tensor."""
    first: dict[int, str] = {}
    return {name: first.setdefault(id(value), name) for name, value in named}
