"""All that can be named: ours, and what installed packages offer."""

from collections.abc import Sequence
from importlib import metadata
from importlib.util import find_spec
from typing import NamedTuple

from lottery_ticket import plugins
from lottery_ticket.errors import one_line
from lottery_ticket.models.libraries import LIBRARIES
from lottery_ticket.plugins import Kind
from lottery_ticket.runs.known import OURS
from lottery_ticket.version import __version__


class Plugged(NamedTuple):
    """Something that can be named.

    Attributes:
        package: that it comes from, with its version.
        fault: why it cannot be used, else empty.
    """

    kind: Kind
    name: str
    package: str
    fault: str


def plugged(kinds: Sequence[Kind] = plugins.KINDS) -> list[Plugged]:
    """All of these kinds that can be named, ours first; guests are imported, to say which cannot be."""
    found = []
    for kind in kinds:
        found += [Plugged(kind, name, f"lottery-ticket-lab {__version__}", "") for name in OURS[kind]]
        if kind == "models":
            found.append(Plugged(kind, "mlp:*", f"lottery-ticket-lab {__version__}", ""))
            found += [
                Plugged(kind, f"{library}:*", f"{library} {metadata.version(library)}", "")
                for library in LIBRARIES
                if find_spec(library)
            ]
        for name, entries in plugins.installed(kind).items():
            for entry in entries:
                fault = ""
                if name in OURS[kind]:
                    fault = "ours of this name goes before it"
                elif len(entries) > 1:
                    fault = "several packages call something so"
                else:
                    try:
                        entry.load()
                    except (Exception, SystemExit) as error:
                        fault = one_line(error)
                found.append(Plugged(kind, name, plugins.package_of(entry), fault))
    return found
