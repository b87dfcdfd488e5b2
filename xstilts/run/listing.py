"""List what is below a folder of runs, in one walk that follows symbolic links and stops at cycles."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Listing:
    """The contents of the folders below `root`.

    Attributes:
        names: {folder: names in it}.
        problems: sentences about folders that could not be read or were reached twice.
    """

    root: Path
    names: dict[str, list[str]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def named(self, name: str) -> list[Path]:
        """Return every path below the root that ends in `name`, sorted; not only files."""
        return sorted(Path(folder, name) for folder, names in self.names.items() if name in names)


def look(root: str | os.PathLike) -> Listing:
    """Return what is below `root`.

    Checkpoints of a running training and hidden folders are left out. Folders reached without a link come first, then
    the target of each link. A link to a folder that was visited already is reported as a problem and not followed.
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
            status = os.stat(folder)
        except OSError:  # a running process has removed it
            below.clear()
            continue
        identity = status.st_dev, status.st_ino
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
        for name in files:  # the reader of a results.json reports a missing one itself
            if (
                not name.endswith(".json")
                and os.path.islink(path := os.path.join(folder, name))
                and not os.path.exists(path)
            ):
                found.problems.append(f"{path} leads to {os.readlink(path)}, which is not there.")
    return links


def _unreadable(error: OSError) -> str:
    return f"{error.filename} cannot be looked into ({error.strerror}): what it holds is not counted."
