"""Hostile frames over real sockets to a real server, in both dialects, while honest people keep working.

Every frame is followed by a question the server always answers, so that what was processed is counted, and
not what was sent. Many frames go on one connection; one that ends it costs a new connection.

    python -m tests.fuzz.socket_fuzz 20000          # frames
"""

import asyncio
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

import psutil

from tests.faults.ledger import ZERO, Ledger
from tests.faults.victim import Victim
from tests.faults.wire import AUTH, STEP1, STEP2, SYNC, SYNC_STATUS, Dialect, Received, read_uint, sync
from tests.faults.workload import DIALECTS, Workload
from tests.fuzz.frames import FOREIGN, RATE, STAYS, Hostile, HostileFrames
from tests.fuzz.raw_socket import RawSocket, frame
from tests.fuzz.scenes import Scenes

FRAMES = 100_000
BURST = 24  # frames on their way in one connection
SOCKETS = 10  # at a time
SCENES_PAUSE_SECONDS = 0.2
ANSWER_SECONDS = 5.0  # without an answer or a close for so long: a hang
FRAMES_PER_DOCUMENT = 5_000  # what is accepted makes a document big, and every answer dearer
KIB = 1024
LIMITS = {
    "max_frame_bytes": 256 * KIB,
    "max_update_bytes": 64 * KIB,
    "auth_deadline_seconds": 4.0,
    "log_format": "json",
    "log_level": "info",
    "keep_rows_hours": 24,
    "compact_after_updates": 500,
}
FORBIDDEN = (b"EVIL", b"gap")  # of the spoofed, and of those that build on nothing
NOISE = '"event": "Invalid UTF-8 sequence received from client."'  # uvicorn's own, with a traceback
DENIED = 1
Progress = Callable[[dict[str, float]], None]


class SocketFuzz:
    """One run. ``totals`` are its figures so far."""

    def __init__(self, server: Victim, workload: Workload, seed: int) -> None:
        self.server = server
        self.workload = workload
        self.totals: Counter[str] = Counter()
        self.findings: list[str] = []
        self._random = Random(seed)
        self._frames = iter(HostileFrames(self._random, self._victim, LIMITS["max_update_bytes"]))
        self._vector = b"\x00"  # what the document holds, so that nobody is sent all of it
        self._again: list[Hostile] = []  # sent after something that ended the connection: not processed

    async def run(self, frames: int, progress: Progress) -> None:
        process = psutil.Process(self.server.pid)
        resident = 0
        while self.totals["frames"] < frames:
            await self._round(min(frames, self.totals["frames"] + FRAMES_PER_DOCUMENT), progress)
            if not self.server.alive:
                self.found("crashes", f"the server died; its log ends: {self.server.log_text()[-2000:]}")
                return
            await self.workload.rest()
            await self.look_for_refused()
            resident = resident or process.memory_info().rss
            await self.workload.new_documents()
            await self.workload.back()
            self._vector = b"\x00"
        self.totals["rss_growth_mib"] = max(0, round((process.memory_info().rss - resident) / KIB / KIB))

    async def _round(self, target: int, progress: Progress) -> None:
        """Until ``target`` frames, on the documents that are there now."""
        scenes = asyncio.create_task(self._play(Scenes(self.server, self.workload, self)))
        attackers = [asyncio.create_task(self._attack(target)) for _ in range(SOCKETS)]
        while not all(task.done() for task in attackers):
            await asyncio.wait(attackers, timeout=1)
            progress(dict(self.totals))
        scenes.cancel()
        await asyncio.gather(*attackers)

    async def _attack(self, frames: int) -> None:
        while self.totals["frames"] < frames and self.server.alive:
            await self._connection()

    async def _play(self, scenes: Scenes) -> None:
        while True:
            await scenes.next()
            await asyncio.sleep(SCENES_PAUSE_SECONDS)

    def found(self, figure: str, what: str) -> None:
        """Something is wrong."""
        self.totals[figure] += 1
        self.findings.append(f"{figure}: {what}")

    async def look_for_refused(self) -> None:
        """Nothing that must not be there is in the documents."""
        states = await self.workload.states()
        for word in FORBIDDEN:
            if any(word in state for state in states):
                self.found("refused_but_present", f"{word!r} is in a document")

    def look_into_log(self) -> None:
        for line in self.server.log.read_text(errors="replace").splitlines():
            if NOISE in line:
                self.totals["noise_logged"] += 1
            elif '"level": "error"' in line or '"level": "critical"' in line or "Traceback" in line:
                self.found("errors_logged", line[:1500])

    def figures(self, seconds: float) -> dict[str, float]:
        ledger = self.workload.ledger.figures()
        innocent = ("writes", "acked", *ZERO)
        names = (
            "frames",
            "connections",
            "scene_frames",
            "crashes",
            "hangs",
            "wrong_codes",
            "errors_logged",
            "rss_growth_mib",
        )
        figures: dict[str, float] = {name: self.totals[name] for name in names}
        figures["frames_per_second"] = round(self.totals["frames"] / seconds, 1)
        figures |= {f"innocent_{name}": ledger[name] for name in innocent}
        figures["refused_but_present"] = self.totals["refused_but_present"] + ledger["refused_but_present"]
        return figures | {name: self.totals[name] for name in sorted(self.totals) if name not in figures}

    def _victim(self) -> tuple[int, int]:
        """A client id of somebody honest, and its next clock."""
        doc = self.workload.residents[0].replica.doc
        return doc.client_id, _clocks(doc.get_state()).get(doc.client_id, 0)

    async def _connection(self) -> None:
        self.totals["connections"] += 1
        dialect = self._random.choice(DIALECTS)
        document = self.workload.documents[0]
        who = self._random.choice(("second", "second", "viewer"))
        wire = Dialect(dialect, document)
        token = self.workload.token(who)
        path = wire.address("", token)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                socket = await RawSocket.open(self.server.port, path)
        except (OSError, TimeoutError) as error:
            self.found("hangs", f"no connection: {error!r}")
            return
        burst = [self._again.pop() if self._again else next(self._frames) for _ in range(BURST)]
        try:
            await self._burst(socket, wire, token, burst)
        finally:
            await socket.close()

    async def _burst(self, socket: RawSocket, wire: Dialect, token: str, burst: list[Hostile]) -> None:
        """Greet, wait for the first answer (so that all is loaded), then everything in one write."""
        question = frame(wire.prefix + sync(STEP1, self._vector))
        socket.send(b"".join(frame(part) for part in wire.greeting(token)) + question)
        vector = await self._answer(socket, wire)
        if vector is None:
            if socket.code is not None:
                self.found("wrong_codes", f"{socket.code} to an honest greeting")
            return
        self._vector = vector
        question = frame(wire.prefix + sync(STEP1, vector))
        # A state vector is a question itself.
        socket.send(
            b"".join(
                frame(hostile.after(wire.prefix)) + (b"" if hostile.kind.startswith("state vector") else question)
                for hostile in burst
            )
        )
        for number, hostile in enumerate(burst):
            answered = await self._answer(socket, wire, asked=False)
            self._count(hostile)
            if answered is not None:
                if STAYS not in hostile.codes:
                    self.found("wrong_codes", f"no close after {hostile.kind}: {hostile.body[:80].hex()}")
                continue
            self._closed(socket.code, burst, number)
            return

    def _closed(self, code: int | None, burst: list[Hostile], number: int) -> None:
        """No answer after ``burst[number]``. It ended the connection, or one soon after it did: an answer that
        waits for a commit is not sent to who is closed meanwhile."""
        first = burst[number]
        if code is None:
            self.found("hangs", f"no answer after {first.kind}: {first.body[:80].hex()}")
            return
        self.totals[f"closed_{code}"] += 1
        if code == RATE:  # our own questions: we never answer the server's, and a hundred of those are the limit
            self._again += burst[number + 1 :]
            return
        guilty = next((n for n in range(number, len(burst)) if code in burst[n].codes), None)
        if guilty is None:
            self.found("wrong_codes", f"{code} after {first.kind}: {first.body[:80].hex()}")
            guilty = number
        for hostile in burst[number + 1 : guilty + 1]:
            self._count(hostile)
        self._again += burst[guilty + 1 :]

    def _count(self, hostile: Hostile) -> None:
        self.totals["frames"] += 1
        self.totals[f"frames_{hostile.kind.replace(' ', '_')}"] += 1

    async def _answer(self, socket: RawSocket, wire: Dialect, *, asked: bool = True) -> bytes | None:
        """Read up to the answer of our question; the server's state vector, or the answer. None: no answer."""
        vector = b""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                while (message := await socket.receive()) is not None:
                    received = wire.read(message) or Received(-1)
                    if received.kind == SYNC and received.step == STEP1:
                        vector = received.payload
                    elif received.kind == SYNC and received.step == STEP2:
                        return vector if asked else received.payload
                    elif received.kind == AUTH and received.step == DENIED:
                        socket.code = FOREIGN  # how Hocuspocus is told, whose socket may hold other documents
                        break
                    elif received.kind == SYNC_STATUS:
                        self.totals["refusals"] += 1
        except TimeoutError:
            pass
        return None


def _clocks(vector: bytes) -> dict[int, int]:
    count, at = read_uint(vector, 0)
    clocks = {}
    for _ in range(count):
        client, at = read_uint(vector, at)
        clocks[client], at = read_uint(vector, at)
    return clocks


async def fuzz(frames: int, seed: int, progress: Progress) -> tuple[dict[str, float], list[str]]:
    """The figures, and a line for everything that is wrong."""
    with tempfile.TemporaryDirectory(prefix="collab-fuzz-") as folder:
        server = Victim(Path(folder) / "data", **LIMITS)
        workload = Workload(server, Ledger(), Random(seed), per_second=5, guests=False)
        try:
            await server.start()
            await workload.prepare()
            await workload.back()
            run = SocketFuzz(server, workload, seed)
            started = time.monotonic()
            await run.run(frames, progress)
            seconds = time.monotonic() - started
            run.look_into_log()
            return run.figures(seconds), run.findings
        finally:
            await workload.stop()
            await server.http.aclose()
            await server.kill()


def run(
    frames: int = FRAMES, *, seed: int = 0, progress: Progress = lambda _: None
) -> tuple[dict[str, float], list[str]]:
    return asyncio.run(fuzz(frames, seed, progress))


if __name__ == "__main__":
    figures, findings = run(int(sys.argv[1]), seed=int(sys.argv[2]) if len(sys.argv) > 2 else 0, progress=print)
    print(figures, *findings[:40], sep="\n")
