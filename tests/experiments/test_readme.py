"""README quotes results that are committed beside it."""

from __future__ import annotations

import re

from tests.conftest import REPOSITORY


def test_the_fidelity_table_is_the_bench_s() -> None:
    readme = (REPOSITORY / "README.md").read_text()
    measured = (REPOSITORY / "experiments" / "results" / "links" / "links.md").read_text()
    table = measured.partition("## All links")[2].partition("## ")[0].strip()
    assert len(table.splitlines()) > 30
    assert table in readme
    passed = re.search(r"(\d+) checks passed, 0 missed", measured)
    assert passed is not None
    assert re.search(rf"{int(passed[1]):,}\s+checks passed", readme)
