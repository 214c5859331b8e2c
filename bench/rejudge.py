"""The committed reproductions judged by today's rules, from their stored rounds and without training.

    python bench/rejudge.py [NAME …]

Reads results/reproduce/NAME/rounds.csv, judges every claim with the reproduction of that name at scale quick, and
writes claims.csv, the table of claims in report.md, the figures, and report.html. Prints the answers that are not what
they were. Which seeds diverged does not stand in files of before 0.4; rounds that are missing show.
"""

import argparse
import csv
import re
from pathlib import Path
from typing import Any, cast

from lottery_ticket.record import Record
from lottery_ticket.reproduction.claims import Experiment, attribute, decide
from lottery_ticket.reproduction.definition import Reproduction
from lottery_ticket.reproduction.figures import draw_reproduction
from lottery_ticket.reproduction.jobs import Job, Reproduced, experiment_of
from lottery_ticket.reproduction.keep import claims_csv
from lottery_ticket.reproduction.parse import load_reproduction
from lottery_ticket.reproduction.records import sources_of
from lottery_ticket.reproduction.report import claims_section, cost_of_claims, to_html

FOLDER = Path(__file__).parents[1] / "results" / "reproduce"
NAMES = ("shu",)
SCALE = "quick"


def main() -> None:
    """Judge each anew."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=NAMES, metavar="NAME", help=", ".join(NAMES))
    for name in parser.parse_args().names:
        rejudge(name, FOLDER / name)


def rejudge(name: str, folder: Path) -> None:
    """Judge a reproduction anew from the rounds in its folder, write the outcome there and draw its figures again."""
    told, _ = load_reproduction(name)
    experiments = read_experiments(folder / "rounds.csv", told)
    outcomes = decide(told, experiments)
    done = Reproduced(told, name, SCALE, experiments, {}, outcomes, [], 0.0, cast(Any, None))  # no store is asked
    with (folder / "claims.csv").open(encoding="utf-8") as file:
        before = list(csv.DictReader(file))
    (folder / "claims.csv").write_text(claims_csv(outcomes), encoding="utf-8")
    with (folder / "claims.csv").open(encoding="utf-8") as file:
        after = list(csv.DictReader(file))
    for was, now in zip(before, after, strict=True):
        if (was["outcome"], was["answer"]) != (now["outcome"], now["answer"]):
            print(
                f"{name} {now['claim']} {now['variant']}, {now['part']}: {was['answer']} → {now['answer']} "
                f"(claim: {was['outcome']} → {now['outcome']})"
            )
    page = (folder / "report.md").read_text(encoding="utf-8")
    head, _, rest = page.partition("## Which claims hold\n")
    variants = rest[rest.index("\n- **") :]  # what stands below the table stays
    page = head + "\n".join(claims_section(done)).rstrip() + "\n" + variants
    for line in cost_of_claims(done):  # in the section on cost
        asked = re.escape(line.partition("? ")[0])
        page = re.sub(rf"^{asked}\? .*$", lambda _, line=line: line, page, flags=re.MULTILINE)
    (folder / "report.md").write_text(page, encoding="utf-8")
    taken_apart = [attribute(each, told, experiments) for each in told.attributions]
    drawn = draw_reproduction(told, experiments, taken_apart, folder / "figures")
    figures = {figure: path.relative_to(folder).as_posix() for figure, path in drawn.items()}
    (folder / "report.html").write_text(to_html(page, told.title, figures, folder), encoding="utf-8")


def read_experiments(path: Path, told: Reproduction) -> dict[tuple[str, str], Experiment]:
    """(setup, variant) → its experiment, from a reproduction's rounds.csv."""
    rounds: dict[tuple[str, str], list[Record]] = {}
    with path.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            rounds.setdefault((row["setup"], row["variant"]), []).append(_record(row))
    made = {}
    for (setup, variant), records in rounds.items():
        job = Job(told.settings(setup, variant, SCALE)[0], "", [(setup, variant)])
        job.found = sources_of(job.settings, "", "", {}, "", records)
        made[setup, variant] = experiment_of([job], told, (setup, variant), SCALE)
    return made


def _record(row: dict[str, str]) -> Record:
    """A round as far as claims ask; its accuracy is as the variant reads it, in whatever way that is."""
    accuracy = float(row["test_accuracy"])
    return Record(
        arm=row["arm"],
        seed=int(row["seed"]),
        round=int(row["round"]),
        density=float(row["weights_remaining_pct"]) / 100,
        densities={},
        survivors={},
        iterations=int(row["iterations"]),
        train_loss=None,
        validation_loss=None,
        test_loss=None,
        test_accuracy=accuracy,
        test_loss_best=None,
        test_accuracy_best=accuracy,
        best_epoch=None,
        early_stop_iteration=int(row["early_stop_iteration"]) if row["early_stop_iteration"] else None,
        test_loss_early_stop=None,
        test_accuracy_early_stop=accuracy,
        seconds=float(row["seconds"]),
        finished_at=0,
        diverged=row.get("diverged") == "True",
        test_size=0,
        correct="",
        curve=[],
    )


if __name__ == "__main__":
    main()
