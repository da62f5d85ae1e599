"""The way to a Dask cluster: its address, its workers, functions run there by name.

A function is named by module and name and must be importable on the workers; no code and no data
of the user's go over it.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import queue
import re
import threading
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self, TypeAlias

from tiltcli.errors import UserError

CONNECT_SECONDS = 6.0
ANSWER_SECONDS = 5.0
SILENCE_SECONDS = 30.0
"""Time after which a scheduler that does not answer, though connected, counts as lost."""

LOG_LINES = 6
TOPIC = "tiltcli"

Future: TypeAlias = Any
"""A `distributed.Future`; the library is loaded only when a cluster is used."""

_ADDRESS = re.compile(r"(tcp|tls|ws|wss|ucx)://(\[[0-9a-fA-F:]+\]|[\w.-]+):(\d{1,5})")


def check_address(address: str) -> str:
    """Return a scheduler's address; refuse what is none."""
    match = _ADDRESS.fullmatch(address)
    if match and 0 < int(match[3]) < 65536:
        return address
    hint = ""
    if "://" not in address:
        guess = f"tcp://{address}" if ":" in address else f"tcp://{address}:8786"
        hint = f"; did you mean {guess}?" if _ADDRESS.fullmatch(guess) else ""
    raise UserError(
        f"--cluster: got {address!r}; allowed: the scheduler's address, such as "
        f"tcp://host:8786, as dask scheduler prints it{hint}"
    )


class SchedulerLost(Exception):
    """The scheduler does not answer any more."""


class Connection:
    """A connection to a Dask scheduler; use as a context manager.

    Leaving it takes back what was submitted through it, and nothing else: the cluster stays up.
    Whatever asks the scheduler raises `SchedulerLost` if it does not answer any more.

    Raises:
        UserError: on entry, if the library is not installed, the address is none, or nobody
            answers there.

    """

    def __init__(self, address: str, timeout: float = CONNECT_SECONDS) -> None:
        self.address = check_address(address)
        self.token = uuid.uuid4().hex
        self._timeout = timeout
        self._client: Any
        self._number = 0

    def __enter__(self) -> Self:
        """Connect."""
        if importlib.util.find_spec("distributed") is None:
            raise UserError(
                "--cluster needs Dask's distributed, which is not installed: "
                "pip install 'tiltcli[cluster]'"
            )
        from distributed import Client

        self._quiet = contextlib.ExitStack()
        self._quiet.enter_context(_silent())
        try:
            _greet(self.address, self._timeout)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # versions are compared by our own handshake
                self._client = Client(
                    self.address, timeout=self._timeout, name="tiltcli", set_as_default=False
                )
        except Exception as error:  # whatever the libraries make of what is at that port
            self._quiet.close()
            reason = str(error).strip().splitlines()[0] if str(error).strip() else "no answer"
            raise UserError(
                f"--cluster {self.address}: no Dask scheduler answered within "
                f"{self._timeout:g} s ({reason[:150]}); is dask scheduler running there?"
            ) from None
        return self

    def __exit__(self, *exception: object) -> None:
        """Take back what is left, and disconnect."""
        with self._quiet, contextlib.suppress(Exception, asyncio.CancelledError):
            self._client.close(timeout=ANSWER_SECONDS)

    @property
    def alive(self) -> bool:
        """Whether the scheduler is still there."""
        return bool(self._client.status == "running")

    def workers(self) -> dict[str, int]:
        """Return the threads of each worker, by its address."""
        if not self.alive:
            raise SchedulerLost
        try:
            found: dict[str, int] = self._client.sync(
                self._client.scheduler.ncores, workers=None, callback_timeout=SILENCE_SECONDS
            )
        except (Exception, asyncio.CancelledError) as error:
            raise SchedulerLost from error
        return found

    def submit(self, function: Callable[..., Any], *arguments: Any, worker: str) -> Future:
        """Return the future of a function on one worker, and on no other should it be lost."""
        self._number += 1
        with self._asking():
            return self._client.submit(
                function,
                *arguments,
                key=f"tiltcli-{self.token}-{self._number}",
                workers=[worker],
                allow_other_workers=False,
                pure=False,
            )

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        """What goes wrong once the scheduler is gone comes of that; raises `SchedulerLost`."""
        try:
            yield
        except Exception as error:
            if self.alive:
                raise
            raise SchedulerLost from error

    def ask(self, function: Callable[..., Any], *arguments: Any, worker: str) -> Future:
        """Return the future of a coroutine on a worker, whatever its threads are busy with."""

        async def answer() -> Any:
            run = self._client._run
            return (await run(function, *arguments, workers=[worker]))[worker]

        return asyncio.run_coroutine_threadsafe(answer(), self._client.loop.asyncio_loop)

    def cancel(self, futures: list[Future]) -> None:
        """Take back what was submitted."""
        with contextlib.suppress(Exception):
            self._client.cancel(futures)

    def tell(self, function: Callable[..., Any], *arguments: Any, workers: list[str]) -> None:
        """Run a function on workers at once, whatever they are busy with; nobody waits long."""
        run = self._client._run(function, *arguments, workers=workers, on_error="ignore")
        with contextlib.suppress(Exception):
            told = asyncio.run_coroutine_threadsafe(run, self._client.loop.asyncio_loop)
            told.result(ANSWER_SECONDS)

    def listen(self, hear: Callable[[Mapping[str, Any]], None]) -> None:
        """Call `hear` with each message that workers log under `TOPIC` with our token."""

        def handle(event: tuple[float, Any]) -> None:
            message = event[1]
            if isinstance(message, dict) and message.get("token") == self.token:
                hear(message)

        with self._asking():
            self._client.subscribe_topic(TOPIC, handle)

    def log_of(self, nanny: str | None) -> list[str]:
        """Last lines of a nanny's log, which outlives its worker; empty if there are none."""
        if nanny is None:
            return []
        from distributed.core import rpc

        async def ask() -> Any:
            async with rpc(nanny, connection_args=self._client.connection_args) as there:
                return await there.get_logs(n=LOG_LINES)

        try:
            lines = self._client.sync(ask, callback_timeout=ANSWER_SECONDS)
        except (Exception, asyncio.CancelledError):
            return []
        return [str(line[-1]) for line in reversed(lines)]


def _greet(address: str, seconds: float) -> None:
    """Ask who is there, in a thread that is left behind if it does not come to an end."""
    # A client of Dask would wait for ever at a port that says nothing, or no word of Dask's.
    from distributed.comm import connect
    from distributed.security import Security

    async def ask() -> Any:
        how = Security().get_connection_args("client")
        comm = await connect(address, timeout=seconds, **how)
        try:
            await comm.write({"op": "identity", "reply": True})
            return await comm.read()
        finally:
            comm.abort()

    answer: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def run() -> None:
        try:
            answer.put(asyncio.run(asyncio.wait_for(ask(), seconds)))
        except BaseException as error:
            answer.put(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        found = answer.get(timeout=seconds + 1)
    except queue.Empty:
        raise TimeoutError("no answer") from None
    if isinstance(found, BaseException):
        raise found
    if not isinstance(found, dict) or found.get("type") != "Scheduler":
        kind = found.get("type", "") if isinstance(found, dict) else ""
        raise ValueError(f"there is another service: {kind or 'not one of Dask'}")


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keep what the library logs off the terminal; what matters is said by our own messages.

    Several of its loggers have levels of their own, so that of their parent is not enough.
    """
    loggers = [
        logging.getLogger(name)
        for name in list(logging.root.manager.loggerDict)
        if name.partition(".")[0] in ("distributed", "tornado")
    ]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
