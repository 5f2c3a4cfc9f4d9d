"""Tests without a loop must not be given one behind their back."""

from __future__ import annotations

import asyncio

import pytest

from tests.servers.valkey import which

# Before Python 3.14 a plugin that merely asks for the current loop makes one, which nobody closes:
# a ResourceWarning, and so a failure, in whatever test the garbage collector happens to run. After
# this there is none to be had unless somebody sets it.
asyncio.set_event_loop(None)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which real servers the stores were tested on, and which were not to be had."""
    terminalreporter.write_line(which())
