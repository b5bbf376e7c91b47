"""Signals that ask a command to stop. Needs no Lightning."""

import signal
import threading
from typing import Any

__all__ = ["SIGNALS", "Stopped", "set_handlers", "stop"]


class Stopped(BaseException):
    """A signal has asked the command to stop.

    `args` are its number, the checkpoint to go on from, if there is one, and maybe what to say of it in its place. No
    `Exception`, as `KeyboardInterrupt` is none: nothing on the way but the command line may catch it.
    """


SIGNALS = (signal.SIGINT, signal.SIGTERM)  # Ctrl+C, and what a system sends


def stop(number: int, frame: Any) -> None:
    """Handles a signal by raising `Stopped` at once."""
    raise Stopped(number, None)


def set_handlers(handlers: dict[int, Any]) -> dict[int, Any]:
    """Sets handlers of signals, and returns those before; in another thread than the main one, Python allows none."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {number: signal.signal(number, handler) for number, handler in handlers.items()}
