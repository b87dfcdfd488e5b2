"""Every architecture through every step, tiny and with random weights; docs/models.md lists the outcomes."""

import pytest

from tests import architectures


@pytest.mark.parametrize("name", architectures.ARCHITECTURES)
def test_an_architecture_does_what_the_page_says(name, tmp_path):
    lines = architectures.PAGE.read_text(encoding="utf-8").splitlines()
    for line in architectures.rows(name, architectures.outcome(name, tmp_path)):
        assert line is None or line in lines, (
            f"{line}\nis not in docs/models.md: python -m tests.architectures --write"
        )
    mentioned = [line for line in lines if line.startswith(f"| `{name}` |")]
    assert 1 <= len(mentioned) <= 2


def test_the_page_has_no_other_architecture():
    lines = architectures.PAGE.read_text(encoding="utf-8").splitlines()
    assert {line.split("`")[1] for line in lines if line.startswith("| `")} == set(architectures.ARCHITECTURES)
