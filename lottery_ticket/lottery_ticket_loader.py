"""Loads a registered ticket, also where the lottery-ticket lab is not installed: a copy of this file is in the model.

Beside it, in `shipped`, is the code of the version that registered the ticket. An installed one goes before it.
"""

import sys
from pathlib import Path
from typing import Any


def _load_pyfunc(path: str, model_config: dict[str, Any] | None = None) -> Any:
    """What `mlflow.pyfunc.load_model` calls."""
    shipped = str(Path(__file__).with_name("shipped"))
    if shipped not in sys.path:
        sys.path.append(shipped)
    from lottery_ticket import serving

    return serving._load_pyfunc(path, model_config)
