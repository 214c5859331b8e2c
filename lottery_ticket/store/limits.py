"""How long names and values may be in the databases behind MLflow, and what stands there of a longer one.

Whole, they stand in files: a run's settings in `settings.json`, a study in `study.json`, a report in its folder.
"""

NAME = 250
"""Characters of a run's name: the width of a column in PostgreSQL, MySQL and SQL Server."""

PARAM = 500
"""Characters of a param: the least that servers take. MLflow's own takes 6,000 and drops the others without a word."""

TAG = 5000
"""Characters of a tag: the least that servers take."""

_DOTS = "..."


def cut(text: str, most: int) -> str:
    """A text of at most so many characters, the last of them dots where it is longer."""
    return text if len(text) <= most else text[: most - len(_DOTS)] + _DOTS


def may_be(stored: str, whole: str) -> bool:
    """Whether what is stored can stand for the whole: it is that, or as much of it as fitted."""
    fitted = PARAM <= len(stored) < len(whole) and whole.startswith(stored.removesuffix(_DOTS))
    return stored == whole or fitted
