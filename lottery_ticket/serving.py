"""A ticket as an MLflow pyfunc model: images as kept on disk in, class probabilities out.

`mlflow.pyfunc.load_model` comes here by `lottery_ticket_loader`, which stands in the model with a copy of this package
(in models of 0.3.0 the name of this module does); nothing is pickled.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from lottery_ticket.data.prepared import channels_first
from lottery_ticket.tickets.folder import read_folder
from lottery_ticket.tickets.ticket import Ticket


class Classifier:
    """The trained network of a ticket."""

    def __init__(self, ticket: Ticket, model: str | None):
        self._data = ticket.data
        self._module = ticket.module(trained=True, model=model).eval()

    def predict(self, images: np.ndarray, params: dict[str, Any] | None = None) -> np.ndarray:
        """Class probabilities, N × classes float32, of images N×H×W, N×H×W×C or N×D as the data set keeps them."""
        x = self._data.standardise(channels_first(np.asarray(images)))
        with torch.no_grad():
            return np.concatenate([self._module(part).softmax(1).numpy() for part in x.split(2000)])


def _load_pyfunc(path: str, model_config: dict[str, Any] | None = None) -> Classifier:
    return Classifier(read_folder(Path(path), "model"), (model_config or {}).get("model"))
