"""CPU and memory of named processes between two moments, and what else the machine was doing."""

from __future__ import annotations

import threading
import time

import psutil

MB = 1024 * 1024
EVERY = 0.5  # seconds


class Meter:
    """Watches processes (with their children) from `start` to `stop`."""

    def __init__(self, processes: dict[str, list[psutil.Process]]) -> None:
        self.processes = processes
        self.peak: dict[str, float] = dict.fromkeys(processes, 0.0)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def start(self) -> Meter:
        """Begin."""
        self.began, self.cpu_before, self.rss_before = time.monotonic(), self._cpu(), self._rss()
        self.busy_before = self._busy()
        self._thread.start()
        return self

    def stop(self) -> dict[str, dict[str, float]]:
        """For each name: CPU in percent of one core, memory in MB at the start, at its peak and at the end."""
        self._ended.set()
        self._thread.join()
        took, cpu, rss = time.monotonic() - self.began, self._cpu(), self._rss()
        ours = sum(cpu.values()) - sum(self.cpu_before.values())
        self.others = 100 * max(0.0, self._busy() - self.busy_before - ours) / took
        return {
            name: {
                "cpu": 100 * (cpu[name] - self.cpu_before[name]) / took,
                "start": self.rss_before[name],
                "peak": max(self.peak[name], rss[name]),
                "end": rss[name],
            }
            for name in self.processes
        }

    def _sample(self) -> None:
        while not self._ended.wait(EVERY):
            for name, rss in self._rss().items():
                self.peak[name] = max(self.peak[name], rss)

    def _busy(self) -> float:
        """Seconds of CPU that the whole machine has used."""
        times = psutil.cpu_times()
        return float(sum(times) - times.idle - getattr(times, "iowait", 0.0))

    def _cpu(self) -> dict[str, float]:
        return {name: sum(sum(process.cpu_times()[:2]) for process in found) for name, found in self.processes.items()}

    def _rss(self) -> dict[str, float]:
        return {
            name: sum(process.memory_info().rss for process in found) / MB for name, found in self.processes.items()
        }
