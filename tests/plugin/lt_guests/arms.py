"""Two arms."""

from lottery_ticket.method import Arm, Moment, Start


def _signs(at: Moment) -> Start:
    """As our `sign-only`, but of the mean size that the survivors have. Zhou et al. 2019, section 4.1."""
    values = {
        name: value.sign() * value[at.winning[name]].abs().mean() if name in at.winning else value
        for name, value in at.rewound.items()
    }
    return Start(at.winning, values, at.rewound_at)


def _last_signs(at: Moment) -> Start:
    """θ₀ with the signs that this arm's weights had when they were trained last."""
    values = {
        name: value.abs() * at.trained[name].sign() if name in at.trained and name in at.winning else value
        for name, value in at.initial.items()
    }
    return Start(at.winning, values)


mean_signs = Arm(_signs, own_mask=False, colour="#56B4E9")
last_signs = Arm(_last_signs, own_mask=False, keep_start=True, control=True)
