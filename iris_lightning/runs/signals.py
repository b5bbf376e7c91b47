"""Signals that ask a command to stop. Needs no Lightning."""

import signal
import threading
from typing import Any


class Stopped(BaseException):
    """A signal, whose number it holds, has asked the command to stop.

    Like `KeyboardInterrupt`, it is no `Exception`: only the command line is to catch it.

    Attributes:
        remedy: How to go on, for the message.
    """

    def __init__(self, number: int, remedy: str = "") -> None:
        super().__init__(number)
        self.number = number
        self.remedy = remedy


SIGNALS = (signal.SIGINT, signal.SIGTERM)  # Ctrl+C, and what a system sends


def stop(number: int, frame: Any) -> None:
    """Handles a signal by raising `Stopped` at once."""
    raise Stopped(number)


def set_handlers(handlers: dict[int, Any]) -> dict[int, Any]:
    """Sets handlers of signals, in the main thread only, and returns those before."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {number: signal.signal(number, handler) for number, handler in handlers.items()}
