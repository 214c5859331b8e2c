"""The papers: links lead somewhere, files that are named are there, a file that is called whole is taken."""

import re
from pathlib import Path

import pytest

from lottery_ticket.reproduction.parse import load_reproduction
from lottery_ticket.study.parse import load_study
from lottery_ticket.version import __version__

ROOT = Path(__file__).parents[2]
PAPERS = sorted({*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("bench/*.md"), *ROOT.glob("results/*/*.md")})
NAMED = re.compile(r"\b(?:bench|docs|lottery_ticket|tests)/[\w./-]*\w")


def anchors(paper: Path) -> set[str]:
    """What stands after # in links to a heading of this paper."""
    prose = re.sub(r"```.*?```", "", paper.read_text(encoding="utf-8"), flags=re.DOTALL)
    titles = re.findall(r"^#+ (.*)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("paper", PAPERS, ids=lambda paper: str(paper.relative_to(ROOT)))
def test_links_and_named_files(paper):
    text = paper.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" not in link:
            path, _, heading = link.partition("#")
            there = paper.parent / path if path else paper
            assert there.exists(), link
            assert not heading or heading in anchors(there), link
    if paper.name != "CHANGELOG.md":  # which names what was once
        for named in NAMED.findall(text):
            assert (ROOT / named).exists() or (paper.parent / named).exists(), named


def test_the_readme_is_short():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) < 250
    assert [line for line in lines if len(line) > 120] == []


def test_the_whole_report_of_the_docs_is_taken(tmp_path):
    (whole,) = re.findall(r"```toml\n(title = \"A blog.*?)```", (ROOT / "docs/reproduce.md").read_text(), re.DOTALL)
    (tmp_path / "my.toml").write_text(whole)
    report, name = load_reproduction(str(tmp_path / "my.toml"))
    assert (name, [claim.id for claim in report.claims]) == ("my", ["1"])


def test_the_whole_study_of_the_docs_is_taken(tmp_path):
    (whole,) = re.findall(r"```toml\n(preset = .*?)```", (ROOT / "docs/sweeps.md").read_text(), re.DOTALL)
    (tmp_path / "my.toml").write_text(whole)
    study = load_study(tmp_path / "my.toml")
    assert (study.name, study.trials) == ("my", 16)


def test_the_citation_is_of_this_version():
    cited = re.findall(r"^version: (.*)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    assert cited == [__version__]
