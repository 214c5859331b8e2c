"""An analysis."""

from lottery_ticket.analysis import Analysis, Finding, StoredRun


def _signs_kept(run: StoredRun) -> Finding:
    """How many survivors have in the end the sign that they started with. Zhou et al. 2019, section 4."""
    rows = []
    for seed in sorted({record.seed for record in run.records}):
        start = run.initial(seed)
        for r in run.rounds("winning", seed):
            mask, trained = run.mask("winning", seed, r), run.trained("winning", seed, r)
            same = sum(int((trained[n][kept].sign() == start[n][kept].sign()).sum()) for n, kept in mask.items())
            rows.append({"seed": seed, "round": r, "same_sign": same / sum(int(kept.sum()) for kept in mask.values())})
    return Finding([f"In the last round {100 * rows[-1]['same_sign']:.1f} % have kept their sign."], rows)


signs_kept = Analysis(_signs_kept)
