"""Where results go is looked at before anything is measured; what spoilt them is said once."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from experiments.cli import app
from experiments.cli_common import print_invalid
from experiments.fleet import RunError
from experiments.run import make_run_dir

COMMANDS = (
    "bench links",
    "bench dilation",
    "bench transport",
    "bench codecs",
    "bench scale",
    "bench compression",
    "paper --quick",
    "sweep experiments/configs/smoke.yaml rounds=1,2",
    "trace experiments/configs/wireless.yaml",
)


def in_one_line(boxed: str) -> str:
    return " ".join(boxed.replace("│", " ").split())


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_file_is_no_folder_to_write_to(command: str, below: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    done = CliRunner().invoke(app, [*command.split(), "--output", str(tmp_path / "file" / below)])
    assert done.exit_code == 2
    assert "is not a folder" in in_one_line(done.output)
    assert (tmp_path / "file").read_text() == "kept"


def test_a_report_takes_no_folder_s_place(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["report", str(tmp_path), "--output", str(tmp_path)])
    assert done.exit_code == 2
    assert "is a folder" in in_one_line(done.output)


def test_a_run_needs_a_folder_too(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    with pytest.raises(RunError, match=r"output: no run can be kept in .*file: Not a directory") as caught:
        make_run_dir(tmp_path / "file", "smoke")
    assert caught.value.wrong_input


def test_what_invalid_links_have_in_common_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    why = "the machine woke it late"
    late = [f"dev0 {way}: the relay was late, p99 {us} us; {why}" for way, us in (("up", 301), ("down", 302))]
    print_invalid(["calibration: too slow", *late, "dev1 up: 2 s too long; dilation=2 would fit"])
    assert capsys.readouterr().out.splitlines() == [
        "INVALID: calibration: too slow",
        "INVALID: dev0 up: the relay was late, p99 301 us",
        "INVALID: dev0 down: the relay was late, p99 302 us",
        "  the machine woke it late",
        "INVALID: dev1 up: 2 s too long; dilation=2 would fit",
    ]
