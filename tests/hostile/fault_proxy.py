"""A TCP proxy on loopback that does to connections what bad networks do."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self

__all__ = ["Fault", "FaultProxy"]

Kind = Literal["none", "delay", "throttle", "cut", "half-open", "duplicate", "reorder", "truncate"]
_CHUNK = 4096
_PATIENCE_SECONDS = 300.0


@dataclass(frozen=True)
class Fault:
    """What happens to the bytes that a client sends, or that it is sent.

    Args:
        kind: delay and throttle last; the others happen once, to the first connection that comes so far.
        at: after how many bytes.
        downwards: whether to the bytes from the server to the client.
    """

    kind: Kind
    at: int = 0
    downwards: bool = False


class FaultProxy:
    """Forwards connections; a context manager.

    Use `add` for every address that clients are to call through it.
    """

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._servers: list[asyncio.Server] = []
        self._happened: set[Fault] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def happened(self) -> bool:
        """Whether a fault that happens once has happened."""
        return bool(self._happened)

    def add(self, port: int, fault: Fault) -> int:
        """Return a port that leads to another one of this machine, with a fault."""
        listening: int = self._run(self._listen(port, fault))
        return listening

    def _run(self, work: "Coroutine[Any, Any, Any]") -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _listen(self, port: int, fault: Fault) -> int:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._tasks.add(task)
            # asyncio reports a cancelled handler as an error.
            with contextlib.suppress(asyncio.CancelledError, OSError):
                await self._forward(port, fault, reader, writer)
            writer.close()
            self._tasks.discard(task)

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    async def _forward(
        self, port: int, fault: Fault, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return

        def cut() -> None:
            writer.transport.abort()
            up_writer.transport.abort()

        quiet = Fault("none")
        ways = (
            self._pump(reader, up_writer, quiet if fault.downwards else fault, cut),
            self._pump(up_reader, writer, fault if fault.downwards else quiet, cut),
        )
        try:
            await asyncio.gather(*ways)
        except BaseException:
            cut()
            raise
        writer.close()
        up_writer.close()

    async def _pump(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, fault: Fault, cut: Callable[[], None]
    ) -> None:
        passed = 0
        held = b""
        while data := await source.read(_CHUNK):
            if fault.kind == "delay":
                await asyncio.sleep(0.03)
            elif fault.kind == "throttle":
                await asyncio.sleep(len(data) / 200_000)
            elif held:
                data, held = data + held, b""
            elif fault.kind != "none" and passed + len(data) > fault.at and fault not in self._happened:
                self._happened.add(fault)
                match fault.kind:
                    case "cut":
                        cut()
                        return
                    case "half-open":
                        await asyncio.sleep(_PATIENCE_SECONDS)
                    case "duplicate":
                        data += data
                    case "truncate":
                        data = data[: len(data) // 2]
                    case "reorder":
                        data, held = b"", data
            passed += len(data)
            target.write(data)
            await target.drain()
        if target.can_write_eof():
            target.write_eof()

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0.05)  # what was aborted is closed by the loop's next steps
