"""TOML files of users and strangers: plain values, read within limits."""

import tomllib
from pathlib import Path
from typing import Any

from lottery_ticket.errors import InputError, one_line
from lottery_ticket.printable import unprintable

MOST_BYTES = 2**20


def read_toml(path: str | Path, option: str) -> dict[str, Any]:
    """The values in a file; InputError naming the option where it cannot be read or is too large."""

    def refuse(why: str) -> InputError:
        return InputError(option, str(path), why)

    try:
        if not Path(path).is_file():  # a pipe would wait for ever, a device may never end
            raise refuse(f"{'is no file' if Path(path).exists() else 'does not exist'}; allowed: a TOML file")
        if (size := Path(path).stat().st_size) > MOST_BYTES:
            raise refuse(f"has {size:,} bytes; allowed: a TOML file of at most {MOST_BYTES:,}")
        told = tomllib.loads(Path(path).read_text(encoding="utf-8-sig"))
        if odd := unprintable(told, allowed="\n\t"):
            raise refuse(f"has characters that do not print, in {odd!a}; allowed: plain text")
        return told
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise refuse(f"is not valid TOML ({error}); allowed: lines like lr = 0.1") from None
    except (OSError, ValueError) as error:
        raise refuse(f"cannot be read: {one_line(error)}; allowed: a TOML file") from None
