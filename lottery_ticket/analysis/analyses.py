"""Analyses by name: ours and guests'."""

from lottery_ticket import plugins
from lottery_ticket.analysis.overlap import overlap
from lottery_ticket.analysis.stored_run import Analysis

ANALYSES = {"overlap": overlap}


def analysis_named(name: str) -> Analysis:
    """The analysis of that name; InputError where there is none."""
    found = plugins.named("analyses", name, ANALYSES, "ANALYSIS")
    if not isinstance(found, Analysis):
        raise plugins.unfit("ANALYSIS", name, found, "a lottery_ticket.analysis.Analysis")
    return found
