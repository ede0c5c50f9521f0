"""Judges clocks: dedupe marks, timers and signatures depend on them."""

from __future__ import annotations

from typing import Final

from streamproc.doctor.finding import Finding, Level

__all__ = ["judge_clock"]

_WARN_SKEW_S: Final = 1.0


def judge_clock(check: str, whose: str, lead: float, most: float) -> Finding:
    """Judge how far a server's clock is from this host's, in seconds; over `most` is a failure."""
    level: Level = "ok"
    if abs(lead) > _WARN_SKEW_S:
        level = "fail" if abs(lead) > most else "warn"
    text = f"{whose} is {abs(lead):.1f} s {'ahead of' if lead > 0 else 'behind'} this host"
    return Finding(check, level, text if level == "ok" else f"{text}; synchronise clocks (NTP)")
