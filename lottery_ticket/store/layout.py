"""What stands where in a run of MLflow: the paths and tags that writer, readers and lists share."""

REWOUND = "rounds/00/rewound.safetensors"
"""Where a trajectory of the arm `winning` keeps θₖ, or the start values of the ticket that `lt train` trains."""

INIT = "init.safetensors"
"""Where a trajectory keeps what its first round starts from."""

NETWORK = "network.json"
"""Where a run keeps what the network is that it trains (`Fingerprint`)."""

START = "start.safetensors"
"""What a round keeps its start values in, survivors only, where its arm cannot give them again."""

INVENTORY = "inventory.json"
"""Where a run keeps what of its network is prunable."""

ORIGIN = "lt.origin_"
"""How the tags begin that a run started from a ticket carries."""

SETTINGS, DATA = "settings.json", "data.json"
"""Artifacts of a run: its settings, and what it was trained on."""

Key = tuple[str, int]
"""A trajectory's arm and seed."""

OWN_LOOP = "find"
"""What `lt.kind` says of a run of `lottery_ticket.find`: functions of its user's trained it, on data unknown to lt."""

WHOLE = ("run", "trial", OWN_LOOP)
"""What `lt.kind` says of the parents of trajectories: a run by itself, a trial of a study, a run of a user's loop."""

SCORE = "lt.score"
"""The tag of such a run that says which number is its score, and what that is at its worst and best."""


LOOKS = "lt.looks"
"""The tag of a run to which seeds are added until it is decided: how many there are at each look, as `3,5,8`."""


def place(r: int) -> str:
    """Where the artifacts of a round lie in its run."""
    return f"rounds/{r:02}"
