"""A reproduction as a page to read: report.md, the same as one self-contained report.html, the data as CSV."""

import base64
import html
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

from lottery_ticket.analysis.cost import costs, in_short
from lottery_ticket.config import differences, load_preset
from lottery_ticket.record import Record
from lottery_ticket.reproduction.claims import Estimate, Experiment, Finding, Share, steady_seconds
from lottery_ticket.reproduction.definition import Attribution, Part, Scale
from lottery_ticket.reproduction.facts import DataFacts
from lottery_ticket.reproduction.jobs import Reproduced, but_arms
from lottery_ticket.reproduction.records import Source
from lottery_ticket.runs.listener import clock
from lottery_ticket.untrusted import prose

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a; }
h1, h2, h3 { line-height: 1.2; margin-top: 2em; } h1 { margin-top: 0; }
table { border-collapse: collapse; margin: 1em 0; font-size: .92rem; display: block; overflow-x: auto; }
th, td { padding: .35em .7em; border-bottom: 1px solid #ddd; text-align: left; vertical-align: top; }
th { border-bottom: 2px solid #888; } img { max-width: 100%; } code { font-size: .88em; background: #f3f3f3; }
pre { background: #f3f3f3; padding: .8em; overflow-x: auto; }
"""


def to_markdown(done: Reproduced, figures: Mapping[str, str], command: str) -> str:
    """The report; `figures` are their names → links."""
    told = done.reproduction
    variants = list(dict.fromkeys(variant for _, variant in done.experiments))
    lines = [f"# {prose(told.title)}", "", prose(told.about), "", f"Source: {prose(told.source)}.", ""]
    lines += [f"To make it again: `{command}`. Made with {_where(done)}", ""]
    lines += [line for facts in done.away for line in (_away(facts), "")]
    lines += claims_section(done)
    lines += [f"- **{name}**: {prose(told.variants[name].says)}." for name in variants] + [""]
    if told.drawings:
        lines += ["## The figures, drawn again", ""]
        lines += ["Each seed thin, their mean thick, the band from the lowest to the highest seed.", ""]
        for drawing in (each for each in told.drawings if each.name in figures):
            lines += [f"![{_label(drawing.title)}]({figures[drawing.name]})", ""]
    for attribution, shares in zip(told.attributions, done.attributions, strict=True):
        if shares:
            lines += [f"## {prose(attribution.title)}", "", *_attribution(shares, attribution)]
            lines += [f"![{_label(attribution.title)}]({figures[attribution.name]})", ""]
    lines += _cost(done)
    lines += _runs(done)
    if told.remarks:
        lines += ["## Remarks", "", *(line for remark in told.remarks for line in (f"- {prose(remark)}", "")), ""]
    return "\n".join(lines).rstrip() + "\n"


def to_html(text: str, title: str, figures: Mapping[str, str], folder: Path) -> str:
    """The report's Markdown as one page that needs nothing else: with its figures, and no other image."""

    def image(_: object, tokens: Sequence[Token], index: int, *__: object) -> str:
        source, label = str(tokens[index].attrs["src"]), html.escape(tokens[index].content)
        if source not in figures.values():  # whatever else the report's file asks for
            return label
        data = base64.b64encode((folder / source).read_bytes()).decode()
        return f'<img src="data:image/png;base64,{data}" alt="{label}">'

    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    markdown.add_render_rule("image", image)
    body = markdown.render(text)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
    )


def in_numbers(finding: Finding) -> str:
    """A measured value with its interval and unit, and what was left out or cut off."""
    part, found, lost = finding.part, finding.estimate, finding.lost
    if found is None:
        return f"not measured ({_whole_seeds(0, lost)})" if lost else "not measured"
    unit, digits, sign = _unit(part)
    value, low, high = (f"{each:{sign}.{digits}f}" for each in found[:3])
    if part.measure == "winning_streak":
        told = [f"shown {low} to {high}"] if found.low < found.high else []
    elif math.isfinite(found.low) and math.isfinite(found.high):
        told = [f"{low} to {high}"] if found.low < found.high else []
    elif math.isfinite(found.low) or math.isfinite(found.high):
        told = [f"at least {low}" if math.isfinite(found.low) else f"at most {high}"]
    elif len(found.values) == 1:
        told = ["one seed, no interval"]
    else:
        told = ["no interval"] if found.censored[0] else ["all seeds the same, no interval"]
    if found.censored[0]:
        told.append("{} of {} stops never came before the end".format(*found.censored))
    if lost:
        told.append(_whole_seeds(len(found.values), lost))
    return f"{value}{unit}" + (f" ({'; '.join(told)})" if told else "")


def _whole_seeds(counted: int, lost: int) -> str:
    return f"{counted} of {counted + lost} seeds, the others diverged or ended before"


def _unit(part: Part) -> tuple[str, int, str]:
    if part.over:
        return " ×", 2, ""
    if part.measure == "accuracy":
        return (" points", 2, "+") if part.minus else (" %", 2, "")
    units = {"early_stop": " iterations", "fluctuation": " points", "hours": " h", "winning_streak": " round(s)"}
    digits = 0 if part.measure in ("early_stop", "winning_streak") else 2
    return units[part.measure], digits, "+" if part.minus else ""


def _asked(part: Part) -> str:
    unit = _unit(part)[0]
    if part.above is not None and part.below is not None:
        return f"{part.above:g} to {part.below:g}{unit}"
    return f"above {part.above:g}{unit}" if part.above is not None else f"below {part.below:g}{unit}"


def claims_section(done: Reproduced) -> list[str]:
    """Each claim with what became of it, and below it what was measured of its parts."""
    told = done.reproduction
    judged = list(dict.fromkeys(outcome.variant for outcome in done.outcomes))
    others = any(_others(part) for claim in told.claims for part in claim.parts)
    rows = []
    for claim in told.claims:
        mine = {outcome.variant: outcome for outcome in done.outcomes if outcome.claim.id == claim.id}
        words = [f"**{mine[variant].word}**" if variant in mine else "" for variant in judged]
        rows.append([f"**{claim.id}**", f"**{claim.says}** {claim.figure}. {claim.note}", *[""] * (1 + others), *words])
        for index, part in enumerate(claim.parts):
            found = [_value(mine[variant].findings[index]) if variant in mine else "" for variant in judged]
            rows.append(["", f"– {part.says}", _asked(part), *([_others(part)] if others else []), *found])
    lines = [
        "## Which claims hold",
        "",
        *_table(["", "claim", "asked", *(["found elsewhere"] if others else []), *judged], rows),
    ]
    tolerances: dict[float, list[str]] = {}
    for (setup, _), experiment in done.experiments.items():
        tolerances.setdefault(100 * experiment.tolerance, []).append(setup)
    tolerance = "; ".join(
        f"{points:g} points" + (f" ({', '.join(dict.fromkeys(setups))})" if len(tolerances) > 1 else "")
        for points, setups in tolerances.items()
    )
    lines += [
        f"Means over seeds with {100 * told.level:.10g}% t-intervals, of the paired differences where two sides are "
        "compared and of their ratios on the log scale. "
        "A part is decided where its interval lies wholly where it has to (yes) or wholly elsewhere (no); an answer is "
        f"wrong in at most {100 * (1 - told.level):.3g} % of cases. A seed that diverged or ended before, on either "
        "side, is left out of both, and the part is undecided; so is one whose seeds all give the same, but for hours, "
        "which networks trained as one stack share. An early stop "
        "at the end of training is censored: it would have come later, and its interval is open there. Rounds that win "
        f"match the dense network to {tolerance} and beat their control, by the same intervals; a streak goes from the "
        "rounds that are shown to win to those that are not shown not to, each among all rounds (Holm 1979). A claim "
        "holds where all its parts do, and in part where some do and some do not.",
        "",
        *_looks(done),
        "The variants:",
        "",
    ]
    return lines


def _looks(done: Reproduced) -> list[str]:
    """How many seeds it took, where they were added until all was decided."""
    grown = {pair: each for pair, each in done.experiments.items() if each.looks}
    if not grown:
        return []
    level = done.reproduction.level
    most = max(each.looks[-1] for each in grown.values())
    lines = [
        f"Seeds were added until each claim was decided, at most {most}. At each look intervals have the level that "
        f"makes all looks together hold at {100 * level:.10g}%: what may err is spent in proportion to the seeds "
        "(Kim & DeMets 1987), looks are added up by the union bound.",
        "",
    ]
    rows = [
        [
            setup,
            variant,
            str(each.seeds),
            f"{_look(each)} of at most {len(each.looks)}",
            f"{100 * each.level(level):.2f} %",
        ]
        for (setup, variant), each in grown.items()
    ]
    return [*lines, *_table(["setup", "variant", "seeds", "look", "level of its intervals"], rows)]


def _look(experiment: Experiment) -> int:
    return sum(seeds < experiment.seeds for seeds in experiment.looks) + 1


def _value(finding: Finding) -> str:
    if finding.estimate is None:
        return in_numbers(finding)
    told = f"{in_numbers(finding)}{_where_measured(finding)}: {finding.answer}"
    return f"{told} ({still_needed(finding)})" if finding.answer == "undecided" and finding.more is not None else told


def still_needed(finding: Finding) -> str:
    """Of a part that is undecided: what could have been shown, and how many more seeds would decide it."""
    part, found = finding.part, finding.estimate
    assert found is not None
    unit, digits, _ = _unit(part)
    least = math.sqrt(found.high / found.low) if part.over else (found.high - found.low) / 2
    shown = f"a factor of {least:.2f}" if part.over else f"{least:.{digits}f}{unit}"
    more = f"about {finding.more} more seed{'s' * (finding.more != 1)}"
    return f"{shown} could have been shown; {more}, if it stays as it is"


def _others(part: Part) -> str:
    """What the source and others found of a part."""
    unit, digits, sign = _unit(part)
    told = [] if part.reported is None else [f"the source {part.reported:{sign}.{digits}f}{unit}"]
    for each in part.replications:
        spread = (
            ""
            if each.low is None or each.high is None
            else f"{each.low:{sign}.{digits}f} to {each.high:{sign}.{digits}f}"
        )
        within = "; ".join([*([spread] if spread else []), *([f"n = {each.n}"] if each.n else [])])
        told.append(f"{each.who} {each.value:{sign}.{digits}f}{unit}" + (f" ({within})" if within else ""))
    return "; ".join(told)


def _where_measured(finding: Finding) -> str:
    """At how many percent left, where these are not the ones that the part names."""
    part, told = finding.part, ""
    asked = (part.at_pct, part.at_pct) if part.at_pct is not None else (part.from_pct, part.to_pct)
    if (at := finding.at) and not _as_asked(at, asked):
        told = f" at {at[0]:.3g} % left" if part.at_pct is not None else f" from {at[0]:.3g} to {at[1]:.3g} % left"
    if (at := finding.other_at) and not _as_asked(at, (part.other_at_pct, part.other_at_pct)):
        told += f" (the other at {at[0]:.3g} %)"
    return told


def _as_asked(at: tuple[float, float], asked: tuple[float | None, float | None]) -> bool:
    return all(abs(there / pct - 1) < 0.01 for pct, there in zip(asked, at, strict=True) if pct)


def _attribution(shares: Sequence[Share], attribution: Attribution) -> list[str]:
    (first, *others), minus = shares, attribution.minus
    rows = [
        [
            share.variant + (f" ({_whole_seeds(len(share.seeds), share.lost)})" if share.lost else ""),
            f"{share.winning.mean:.2f}",
            f"{share.other.mean:.2f}",
            _interval(share.gap),
            _interval(share.more) if share.more else "",
            _interval(share.on),
            _interval(share.more_on) if share.more_on else "",
        ]
        for share in shares
    ]
    more = f"more than {first.variant}"
    head = ["variant", "winning (%)", f"{minus} (%)", f"winning − {minus} (points)", more]
    changes = [(share.variant, share.more_on) for share in others if share.more_on]
    told = {
        "clearly larger": [name for name, more in changes if more.low > 0],
        "clearly smaller": [name for name, more in changes if more.high < 0],
        "not clearly different": [name for name, more in changes if more.low <= 0 <= more.high],
    }
    said = "; ".join(f"{how} in {', '.join(names)}" for how, names in told.items() if names)
    absent = [name for name in attribution.variants if name not in {share.variant for share in shares}]
    left_out = f" Not there: {', '.join(absent)}, of which no seed has all rounds." if absent else ""
    return [
        *_table([*head, "from there on, mean over rounds", more], rows),
        f"From there on, the gap is {said or 'not compared'}, against {first.variant}.{left_out}",
        "",
    ]


def _interval(found: Estimate) -> str:
    if not math.isfinite(found.low):
        return f"{found.mean:+.2f}"
    return f"{found.mean:+.2f} ({found.low:+.2f} to {found.high:+.2f})"


def _cost(done: Reproduced) -> list[str]:
    rows, total = [], 0.0
    for (setup, variant), sources in _trained_for(done).items():
        records = [record for source in sources for record in source.rounds]
        seconds, computed = sum(record.seconds for record in records), sum(cost.computed for cost in costs(records))
        networks = sum(len(_by_arm(source)) for source in sources)
        hours = _hours_at_report_scale(done, (setup, variant), sources) / networks
        spent = [in_short(computed) if computed else "–", f"{seconds:.0f}", f"{hours:.2f}"]
        rows.append([setup, variant, str(networks), *spent])
        total += seconds
    columns = ["setup", "variant", "trajectories", "multiply-adds", "seconds", "hours a trajectory at report scale"]
    lines = ["## Cost", "", *cost_of_claims(done)]
    lines += ["", *_table(columns, rows)]
    lines += [f"{total:.0f} seconds of training in all (of each process, where several train side by side).", ""]
    return lines + _missing(done)


def _missing(done: Reproduced) -> list[str]:
    """How long it is to scale report, and the seeds that are not there."""
    hours, fewer, unknown = 0.0, [], []
    for setup, variant in _each_job_once(done):
        sources = _sources(done, (setup, variant))
        wanted, at_report = (_wanted(done, setup, variant, scale) for scale in (done.scale, "report"))
        missing = max(0, at_report - len(sources)) if done.scale == "report" else at_report
        if (each := _hours_of_a_seed(done, setup, variant)) is None:
            unknown.append(f"{setup} {variant}")
        else:
            hours += each * missing
        if len(sources) < wanted:
            fewer.append(f"{setup} {variant} ({len(sources)} of {wanted})")
    lines = []
    if hours:
        what = "What is missing here of scale report" if done.scale == "report" else "All of this at scale report"
        besides = f", besides {', '.join(unknown)}, of which there is nothing yet" if unknown else ""
        lines += [f"{what} takes about {clock(3600 * hours)} (h:mm:ss) of such a process{besides}.", ""]
    if fewer:
        lines += [f"Seeds that are not there yet, and counted nowhere: {', '.join(fewer)}.", ""]
    return lines


def _hours_of_a_seed(done: Reproduced, setup: str, variant: str) -> float | None:
    """At report scale, of all networks trained with it; of what is not there by another variant's of its setup."""
    if own := _sources(done, (setup, variant)):
        return _hours_at_report_scale(done, (setup, variant), own) / len(own)
    for pair in done.sources:
        if pair[0] == setup and (sources := _sources(done, pair)):
            networks = sum(len(_by_arm(source)) for source in sources)
            mine = [len(settings.arms) for settings in done.reproduction.settings(setup, variant, done.scale)]
            return _hours_at_report_scale(done, pair, sources) / networks * sum(mine) / len(mine)
    return None


def _hours_at_report_scale(done: Reproduced, pair: tuple[str, str], sources: Sequence[Source]) -> float:
    """What these take there, by the median round of each network."""
    seconds = sum(steady_seconds(rounds) for source in sources for rounds in _by_arm(source))
    return seconds / done.experiments[pair].part / 3600


def _by_arm(source: Source) -> list[list[Record]]:
    """The rounds of each of its networks."""
    each = [[record for record in source.rounds if record.arm == arm] for arm in source.settings.arms]
    return [rounds for rounds in each if rounds]


def _trained_for(done: Reproduced) -> dict[tuple[str, str], list[Source]]:
    """What was trained for each experiment: an arm that serves several where most of it does; others are left out."""
    owners: dict[tuple[str, int, str], tuple[int, tuple[str, str]]] = {}
    for pair in sorted(done.sources, key=lambda pair: -sum(len(source.rounds) for source in _sources(done, pair))):
        for source in _sources(done, pair):
            for rounds in _by_arm(source):
                arm = (source.run_id, source.seed, rounds[0].arm)
                if arm not in owners or len(rounds) > owners[arm][0]:
                    owners[arm] = (len(rounds), pair)
    found: dict[tuple[str, str], list[Source]] = {}
    for pair in done.sources:
        for source in _sources(done, pair):
            own = [each for each in source.rounds if owners[source.run_id, source.seed, each.arm][1] == pair]
            if own:
                found.setdefault(pair, []).append(source.model_copy(update={"rounds": own}))
    return found


def _sources(done: Reproduced, pair: tuple[str, str]) -> list[Source]:
    """Those of an experiment, of all its settings."""
    return [source for each in done.sources[pair] for source in each]


def _each_job_once(done: Reproduced) -> list[tuple[str, str]]:
    """The experiments, of those that share their runs the first."""
    jobs = {
        pair: str([but_arms(settings) for settings in done.reproduction.settings(*pair, done.scale)])
        for pair in done.sources
    }
    return [pair for pair, job in jobs.items() if next(each for each in jobs if jobs[each] == job) == pair]


def _wanted(done: Reproduced, setup: str, variant: str, scale: Scale) -> int:
    """Seeds that an experiment begins with at a scale, those of each of its settings."""
    return sum(len(settings.seeds) for settings in done.reproduction.settings(setup, variant, scale))


def cost_of_claims(done: Reproduced) -> list[str]:
    """What claims on hours came to, a line each."""
    return [
        f"- {outcome.claim.id}, {outcome.variant}: {prose(finding.part.says)}? {_value(finding)}."
        for outcome in done.outcomes
        for finding in outcome.findings
        if finding.part.measure == "hours"
    ]


def _runs(done: Reproduced) -> list[str]:
    lines = ["## Settings and runs", ""]
    rows = []
    for (setup, variant), all_of in done.sources.items():
        preset = done.reproduction.setups[setup].preset
        for settings, sources in zip(done.reproduction.settings(setup, variant, done.scale), all_of, strict=True):
            runs: dict[str, list[int]] = {}
            for source in sources:
                runs.setdefault(source.run_id, []).append(source.seed)
            where = [
                f"`{run}`" + (f" (seeds {_counted(seeds)})" if len(runs) > 1 else "") for run, seeds in runs.items()
            ]
            changed = f"`{' '.join(differences(settings, load_preset(preset)))}`"
            rows.append([setup, variant, preset, changed, ", ".join(where) or "–"])
    return [*lines, *_table(["setup", "variant", "preset", "and", "MLflow run"], rows)]


def _counted(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))


def _where(done: Reproduced) -> str:
    """Versions and hardware, as the sources tell of themselves."""
    sources = [source for pair in done.sources for source in _sources(done, pair)]
    version, torch, hardware = (
        sorted({getattr(each, key) for each in sources}) for key in ("version", "torch", "hardware")
    )
    return f"lt {', '.join(version)}, torch {', '.join(torch)}, {'; '.join(hardware)}."


def _away(facts: DataFacts) -> str:
    """That a data set was not there, and what was taken for it."""
    trained = "" if facts.train_size is None else f"{facts.train_size} for training, "
    return (
        f"The data set {prose(facts.name)} was not on the machine that made this page. What is said of it is what the "
        f"records tell, which agree: {trained}{facts.test_size} images for testing, digest {prose(facts.digest)}."
    )


def _label(title: str) -> str:
    """What is read out for a figure."""
    return prose(title).replace("[", "(").replace("]", ")")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    cells = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(prose(each).replace('|', '/') for each in row)} |" for row in cells] + [""]
