"""What is done with, remembered in one text: `` o1/1=2 o2/1=3``, most recent last.

A stock is written as a whole with each batch that changes it. A hundred lines as objects of their
own take some twenty times as long to write as their text, since each has to be fetched into the
CPU's cache (docs/performance.md); and hardly any is ever looked at again.
"""

from __future__ import annotations

__all__ = ["enter", "entries", "look_up", "strike", "without_oldest"]


def look_up(register: str, key: str) -> str | None:
    """Return what stands under a key; None if it is not there."""
    start = register.rfind(f" {_plain(key)}=")
    if start < 0:
        return None
    end = register.find(" ", start + 1)
    entry = register[start:] if end < 0 else register[start:end]
    return entry[entry.rindex("=") + 1 :]


def enter(register: str, key: str, value: str) -> str:
    """Return a register with one more key, which it does not have yet, as the most recent.

    Args:
        register: what there is.
        key: any text.
        value: text without a space or a ``=``.
    """
    return f"{register} {_plain(key)}={value}"


def without_oldest(register: str) -> str:
    """Return a register, which is not empty, without its oldest key."""
    return _without(register, 0)


def strike(register: str, key: str) -> str:
    """Return a register without a key, which it may have."""
    start = register.rfind(f" {_plain(key)}=")
    return register if start < 0 else _without(register, start)


def entries(register: str) -> dict[str, str]:
    """Return everything by key, most recent last."""
    found = {}
    for entry in register.split(" ")[1:]:
        key, _, value = entry.partition("=")
        found[key.replace("%3D", "=").replace("%20", " ").replace("%25", "%")] = value
    return found


def _without(register: str, start: int) -> str:
    end = register.find(" ", start + 1)
    return register[:start] if end < 0 else register[:start] + register[end:]


def _plain(key: str) -> str:
    if " " in key or "=" in key or "%" in key:
        return key.replace("%", "%25").replace(" ", "%20").replace("=", "%3D")
    return key
