"""Two hosts and a bad line between them, on one machine: network namespaces. Needs root."""

import contextlib
import fcntl
import heapq
import itertools
import os
import random
import select
import shutil
import struct
import subprocess
import threading
import time

import pytest

_TUNSETIFF, _TAP, _NO_HEADER = 0x400454CA, 0x0002, 0x1000


class BadLine:
    """Two hosts, `there` and `here`, and the line between them; use as a context manager.

    What one sends the other goes through this process, frame by frame.

    Args:
        delay: of each frame, s.
        loss: fraction of the frames lost.
        seed: of which are lost.

    Attributes:
        cut: while it is true, nothing gets through.
        frames: how many were carried, and how many lost.

    """

    def __init__(self, delay=0.05, loss=0.01, seed=0):
        self.addresses = {"there": "10.77.0.1", "here": "10.77.0.2"}
        self.delay, self.loss, self.cut, self.frames = delay, loss, False, [0, 0]
        self._rng, self._ended = random.Random(seed), threading.Event()
        self._carrier, self._ends = threading.Thread(target=self._carry), []
        self._hosts = contextlib.ExitStack()

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            if shutil.which("ip") is None:
                pytest.skip("NOT TESTED: there is no ip command here")
            for host, address in self.addresses.items():
                made = self._ip("netns", "add", self._name(host))
                if made.returncode:
                    pytest.skip(f"NOT TESTED: no second host can be made here ({made.stderr})")
                stack.callback(self._ip, "netns", "del", self._name(host))
                try:
                    end = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
                    stack.callback(os.close, end)
                    card = struct.pack("16sH", self._name(host).encode(), _TAP | _NO_HEADER)
                    fcntl.ioctl(end, _TUNSETIFF, card)
                except OSError as error:
                    pytest.skip(f"NOT TESTED: no network card can be made here ({error})")
                self._ends.append(end)
                card = self._name(host)
                self._ip("link", "set", card, "netns", card, check=True)
                self._ip("-n", card, "addr", "add", f"{address}/24", "dev", card, check=True)
                self._ip("-n", card, "link", "set", "lo", "up", check=True)
                self.plug(host, "up")
            self._hosts = stack.pop_all()
        self._carrier.start()
        return self

    def __exit__(self, *exception):
        self._ended.set()
        self._carrier.join()
        self._hosts.close()

    def inside(self, host):
        """The words before a command that runs it on a host."""
        return ["ip", "netns", "exec", self._name(host)]

    def plug(self, host, way):
        """Set a host's network card `up` or `down`, as a cable pulled at that end would."""
        self._ip("-n", self._name(host), "link", "set", self._name(host), way, check=True)

    @staticmethod
    def _name(host):
        return f"{host}{os.getpid()}"

    @staticmethod
    def _ip(*words, check=False):
        return subprocess.run(["ip", *words], check=check, capture_output=True, text=True)

    def _carry(self):
        under_way, order = [], itertools.count()
        while not self._ended.is_set():
            wait = under_way[0][0] - time.monotonic() if under_way else 0.2
            for end in select.select(self._ends, [], [], min(max(wait, 0), 0.2))[0]:
                with contextlib.suppress(OSError):  # a card that is down
                    frame, other = os.read(end, 65536), self._ends[1 - self._ends.index(end)]
                    lost = self.cut or self._rng.random() < self.loss
                    self.frames[lost] += 1
                    if not lost:
                        due = time.monotonic() + self.delay
                        heapq.heappush(under_way, (due, next(order), other, frame))
            while under_way and under_way[0][0] <= time.monotonic():
                _, _, other, frame = heapq.heappop(under_way)
                with contextlib.suppress(OSError):
                    os.write(other, frame)
