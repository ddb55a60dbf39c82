"""Stopping by Ctrl-C."""

from __future__ import annotations


class Stopped(KeyboardInterrupt):
    """The user interrupted, and is told what that means."""
