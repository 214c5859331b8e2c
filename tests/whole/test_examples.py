"""The examples in the docstrings of the public names run and print what they say, all beside one tiny run."""

import doctest
from pathlib import Path

import numpy as np
import pytest
import torch

import lottery_ticket
from lottery_ticket.data import load_images, prepare
from lottery_ticket.models import make_network

REPORT = """
title = "Originals matter"
source = "https://blog.example/originals"
about = "Whether tickets need their original values."

[setups.small]
preset = "quick"
quick = { rounds = 2, iterations = 10, seeds = 2, dataset = "my.npz" }
report = { rounds = 2, seeds = 5, dataset = "my.npz" }

[variants.paper]
says = "as it is"

[[claims]]
id = "1"
figure = "1"
says = "With other values they are within 50 points."
variants = ["paper"]

[[claims.parts]]
says = "near"
setup = "small"
minus = "reinit"
at_pct = 80
above = -50
below = 50
"""


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """What examples may speak of, in a folder with `my.npz`, `my-report.toml` and the store of a run of two seeds."""
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(tmp_path_factory.mktemp("examples"))
        patched.delenv("MLFLOW_TRACKING_URI", raising=False)
        mnist = load_images("mnist")
        train, test = slice(6000), slice(400)
        arrays = {"x_train": mnist.x_train[train], "y_train": mnist.y_train[train]}
        np.savez("my.npz", **arrays, x_test=mnist.x_test[test], y_test=mnist.y_test[test])
        Path("my-report.toml").write_text(REPORT)
        settings = lottery_ticket.load_preset(dataset="my.npz", rounds=2, iterations=20, seeds=2)
        made = {"run_id": lottery_ticket.run(settings).run_id, "lottery_ticket": lottery_ticket, "torch": torch}
        data = prepare(load_images("my.npz"), settings.validation_size, torch.device("cpu"))
        network = make_network(settings, data.input_shape, data.classes)
        yield made | {"settings": settings, "data": data, "network": network}


@pytest.mark.parametrize("name", lottery_ticket.__all__)
def test_example(name, names):
    (found,) = doctest.DocTestFinder(recurse=False).find(getattr(lottery_ticket, name), name, globs=dict(names))
    assert found.examples, "has none"
    runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    told = []
    runner.run(found, out=told.append)
    assert not runner.failures, "".join(told)
