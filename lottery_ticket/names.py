"""Names of tensors and arms: which may be, and how they stand where not every character or length may."""

import hashlib
import re

_OTHER = re.compile(r"[^\w.\- ]|(?<=\.)\.")
_ESCAPED = re.compile(r"(?:\.\.[0-9a-f]{2})+")

ARM = r"(?:[A-Za-z_][\w.]{0,99}:[A-Za-z_]\w{0,49}|[a-z][a-z0-9_-]{0,49})"
"""What an arm may be called: it stands in the names of runs, folders and metrics, and before `-seedN` in references."""


def is_name(name: str) -> bool:
    """Whether a tensor may be called so: it can be printed, and is no path out of a folder."""
    return name.isprintable() and ".." not in name and 0 < len(name) <= 4096 and name != "__metadata__"


def escaped(name: str) -> str:
    """A name with letters, digits, `_`, `-`, space and dots alone; one that has no others stays as it is.

    Each byte (UTF-8) of another character becomes two dots and two hexadecimal digits, which is no collision: torch
    joins what is not empty by dots. Of two dots side by side, which only names from elsewhere have, the second does.
    """
    return _OTHER.sub(
        lambda found: "".join(f"..{byte:02x}" for byte in found[0].encode("utf-8", "surrogatepass")), name
    )


def unescaped(key: str) -> str:
    """The name that `escaped` made this of. ValueError if it did not."""
    return _ESCAPED.sub(lambda found: bytes.fromhex(found[0].replace("..", "")).decode("utf-8", "surrogatepass"), key)


def shortened(text: str, most: int) -> str:
    """An escaped name of at most so many characters (over 35): the end of a longer one is replaced by its SHA-256."""
    if len(text) <= most:
        return text
    return f"{text[: most - 35]}..x{hashlib.sha256(text.encode()).hexdigest()[:32]}"
