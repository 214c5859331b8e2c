"""Whether the seeds of a run find the same tickets: the overlap of their masks against chance, round by round."""

from itertools import combinations
from typing import Any

from lottery_ticket.analysis.compare import mask_overlap
from lottery_ticket.analysis.plots import BLUE, log_percent, style, subplots
from lottery_ticket.analysis.stored_run import Analysis, Finding, StoredRun
from lottery_ticket.errors import InputError


def _overlap(run: StoredRun) -> Finding:
    """Intersection over union of the survivors of every two seeds of the arm `winning`, and what chance gives."""
    seeds = sorted({record.seed for record in run.records if record.arm == "winning"})
    if len(seeds) < 2:
        raise InputError("RUN", run.run_id, f"has {len(seeds)} seed(s) of the arm winning; allowed: two or more")
    rows: list[dict[str, Any]] = []
    for first, second in combinations(seeds, 2):
        shared = set(run.rounds("winning", first)) & set(run.rounds("winning", second))
        for r in sorted(shared - {0}):
            here = [record for record in run.records if (record.arm, record.round) == ("winning", r)]
            iou, chance = mask_overlap(run.mask("winning", first, r), run.mask("winning", second, r))
            told = {"round": r, "pct_left": here[0].weights_remaining_pct, "iou": iou, "by_chance": chance}
            rows.append({"seeds": f"{first}, {second}", **told})
    if not rows:
        raise InputError("RUN", run.run_id, "has no round after round 0 that two seeds share; allowed: more --rounds")
    with style():
        figure, axes = subplots(figsize=(6, 4))
        axes.plot([row["pct_left"] for row in rows], [100 * row["iou"] for row in rows], "o", color=BLUE, label="seeds")
        by_chance = sorted({(row["pct_left"], 100 * row["by_chance"]) for row in rows})
        axes.plot(*zip(*by_chance, strict=True), color="0.4", linestyle="--", label="chance")
        log_percent(axes, "x", [row["pct_left"] for row in rows])
        axes.set(ylabel="survivors shared by two seeds (% of those of either)", title=run.name, ylim=(0, 100))
        axes.legend()
    last = rows[-1]
    says = f"At {last['pct_left']:.3g} % left two seeds share {100 * last['iou']:.2f} % of the survivors of either; "
    return Finding([f"{says}chance gives {100 * last['by_chance']:.2f} %."], rows, {"overlap": figure})


overlap = Analysis(_overlap)
