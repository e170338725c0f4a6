"""What TCP is asked to be: a window from the start needs a buffer from the start."""

from __future__ import annotations

import pytest

from emulation.tcp import Tcp


@pytest.mark.parametrize(
    ("tcp", "buffers"),
    [
        (Tcp(), "4096 131072 4194304"),
        (Tcp(initial_window=20), "4096 131072 4194304"),
        (Tcp(initial_window=200), f"4096 {2 * 200 * 1460} 4194304"),
        (Tcp(initial_window=200, buffer_bytes=65536), "4096 65536 65536"),
    ],
)
def test_an_initial_window_fits_into_the_first_buffer(tcp: Tcp, buffers: str) -> None:
    settings = tcp.sysctls(largest_buffer=4 << 20)
    assert settings["net.ipv4.tcp_rmem"] == settings["net.ipv4.tcp_wmem"] == buffers
