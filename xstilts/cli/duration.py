"""A duration as text. Apart from `xstilts.cli.progress`, which needs tqdm: each script imports it."""


def span(seconds: float) -> str:
    """Return a duration as text: 12 s, 3.5 min or 7.1 h."""
    return (
        f"{seconds:.0f} s"
        if seconds < 100
        else f"{seconds / 60:.1f} min"
        if seconds < 6000
        else f"{seconds / 3600:.1f} h"
    )
