"""What lies below a folder of runs, found in one walk that follows symbolic links and ends on a cycle of them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Listing:
    """The names in each folder below `root`, and sentences on what could not be looked into or was met twice."""

    root: Path
    names: dict[str, list[str]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def named(self, name: str) -> list[Path]:
        """Return every path below the root that ends in `name`, sorted; be it a file or not."""
        return sorted(Path(folder, name) for folder, names in self.names.items() if name in names)


def look(root: str | os.PathLike) -> Listing:
    """Return what lies below `root`.

    Checkpoints of a training under way and hidden folders are left out. Folders that need no link come first; then
    what each link leads to. A link to one of those folders, or to where it has been on its way, is noted and ends
    there.
    """
    found = Listing(Path(root))
    here: dict[tuple[int, int], str] = {}
    for link in sorted(_walk(os.fspath(root), here, found)):
        been, waiting = dict(here), [link]
        while waiting:
            waiting += _walk(waiting.pop(), been, found)
    return found


def _walk(start: str, been: dict[tuple[int, int], str], found: Listing) -> list[str]:
    """Add the folders below `start` to `found`, and to `been` as {identity: path}; return the links to folders among
    them."""
    links = []
    for folder, below, files in os.walk(start, onerror=lambda error: found.problems.append(_unreadable(error))):
        try:
            identity = os.stat(folder)
        except OSError:  # removed since, by a run at work
            below.clear()
            continue
        identity = identity.st_dev, identity.st_ino
        if identity in been:
            found.problems.append(
                f"{folder} leads to {been[identity]}, which was read already: what it holds counts once."
            )
            below.clear()
            continue
        been[identity] = folder
        found.names[folder] = [*below, *files]
        below[:] = sorted(part for part in below if not part.startswith((".", "checkpoint-")))
        links += [path for part in below if os.path.islink(path := os.path.join(folder, part))]
        for name in files:  # a missing results.json is named by who reads it
            if (
                not name.endswith(".json")
                and os.path.islink(path := os.path.join(folder, name))
                and not os.path.exists(path)
            ):
                found.problems.append(f"{path} leads to {os.readlink(path)}, which is not there.")
    return links


def _unreadable(error: OSError) -> str:
    return f"{error.filename} cannot be looked into ({error.strerror}): what it holds is not counted."
