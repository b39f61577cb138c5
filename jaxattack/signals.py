"""How a command ends when it is told to: by an interrupt, by SIGTERM, by a reader that goes away.

Nothing heavy is imported here: commands use it while they load.
"""

from __future__ import annotations

import _thread
import contextlib
import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from jaxattack.errors import UserError, printable, system_error

KEPT = "finished stages are kept, the same command goes on from there"
INTERRUPTED = f"jaxattack: interrupted; {KEPT}"

PARENT = "JAXATTACK_PARENT"  # the number of the process that started a worker
_PR_SET_PDEATHSIG = 1  # of Linux's prctl


class Terminated(BaseException):
    """The program was told to end (SIGTERM)."""


@contextlib.contextmanager
def loading(said: str = INTERRUPTED) -> Iterator[None]:
    """While libraries load, an interrupt ends the program with a line; they would show a trace."""

    def end(*_: Any) -> None:
        with contextlib.suppress(OSError):
            os.write(2, f"\n{said}\n".encode())
        os._exit(128 + signal.SIGINT)

    try:
        before = signal.getsignal(signal.SIGINT)
        if before is signal.default_int_handler:
            signal.signal(signal.SIGINT, end)
    except ValueError:  # not in the main thread
        before = None
    try:
        yield
    finally:
        if before is signal.default_int_handler:
            signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def stopped_by_sigterm(several: Callable[[], bool]) -> Iterator[None]:
    """Let SIGTERM end a lone process as an interrupt does: nothing half-written stays.

    One of several processes ends at once: it may wait for the others, and not hear of it. What is
    raised is `Terminated` or `KeyboardInterrupt`, also where Python drops it (in a callback of
    the garbage collector) or a library makes an error of its own of it.
    """
    asked: list[int] = []
    kinds: dict[int, type[BaseException]] = {
        signal.SIGTERM: Terminated,
        signal.SIGINT: KeyboardInterrupt,
    }

    def stop(number: int, _: Any) -> None:
        if number == signal.SIGTERM and several():
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        asked.append(number)
        raise kinds[number]

    def dropped(seen: Any) -> None:
        if asked and issubclass(seen.exc_type, tuple(kinds.values())):
            # Asked again when this callback is over.
            threading.Timer(0.05, _thread.interrupt_main, (asked[-1],)).start()
        else:
            hook(seen)

    before = {}
    hook = sys.unraisablehook
    try:
        before[signal.SIGTERM] = signal.signal(signal.SIGTERM, stop)
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            before[signal.SIGINT] = signal.signal(signal.SIGINT, stop)
    except ValueError:  # not in the main thread
        yield
        return
    sys.unraisablehook = dropped
    try:
        yield
    except Exception as error:
        if asked:
            raise kinds[asked[-1]] from error
        raise
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


def exit_code(program: str, kept: str, work: Callable[[], int]) -> int:
    """What a command ends with: the code of its `work`, or after a line that says why it ended.

    That is 2 for a mistake of the user's or what the system refused, 128 and a signal's number for
    what ended it; `kept` says what an ended program leaves.
    """
    try:
        return work()
    except UserError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 2
    except Terminated:
        print(f"{program}: stopped; {kept}", file=sys.stderr)
        return 128 + signal.SIGTERM
    except KeyboardInterrupt:
        print(f"\n{program}: interrupted; {kept}", file=sys.stderr)
        return 128 + signal.SIGINT
    except BrokenPipeError:  # `| head`: nobody reads what would be printed
        silence()
        return 128 + signal.SIGPIPE
    except Exception as error:
        reason = system_error(error)
        if reason is None:
            raise
        print(printable(f"{program}: {reason}"), file=sys.stderr)
        return 2


def end_with_parent() -> None:
    """Let this process be told to end when the one named by `PARENT` does, if there is one.

    However that ends: killed, too. Only Linux can; elsewhere this does nothing.
    """
    parent = os.environ.pop(PARENT, "")
    control = getattr(ctypes.CDLL(None), "prctl", None) if parent.isdecimal() else None
    if control is None:
        return
    control(_PR_SET_PDEATHSIG, signal.SIGTERM)
    try:
        os.kill(int(parent), 0)
    except ProcessLookupError:  # gone before it was asked
        os._exit(128 + signal.SIGTERM)


def silence() -> None:
    """Send what is still to be printed nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                os.dup2(nowhere, stream.fileno())
