"""Alarms from a broker of MQTT, killed in the middle: python benchmarks/broker.py   -> broker.csv

A service takes rows from a broker on this machine, and writes alarms; see `madcluster.service.loop`. It
is killed by SIGKILL while rows come and started again. Then its alarms are compared with those of the
batch: nothing may be lost, and nothing may come twice.

Each row is a message with quality of service 1, the session of the service outlives it, and it
acknowledges a row only after the state that knows it is saved. So after a kill the broker sends all
that may be lost again; what is not lost comes late and is dropped.

Measured in the service's process, from its last start on: rows over the seconds in which it had rows,
and over the seconds of the processor that it used meanwhile, one thread each. Needs mosquitto (Debian:
apt-get install mosquitto) and paho-mqtt (pip install paho-mqtt).
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from madcluster import MADCluster
from madcluster.detectors import Detector, Mahalanobis
from madcluster.service.alarms import OnlineAlarms, find_alarms
from madcluster.service.checkpoints import read
from madcluster.service.loop import serve
from madcluster.service.streams import FORMAT, KIND
from madcluster.study.results import provenance, write_result

HOST, TOPIC, NAME = "127.0.0.1", "plant/rows", "madcluster"
CHANNELS, ROWS, KILLS = 38, 40_000, 2
EVERY = 1000  # rows from save to save
MOST = 500  # rows that are taken from the broker at a time
OPTIONS = {"join": 5, "min_length": 2, "cooldown": 10}  # of the alarms


def found_broker() -> str | None:
    """Where mosquitto is, also outside of the path of those who are not root."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/local/sbin:/usr/sbin")


@contextmanager
def broker(folder: Path) -> Iterator[int]:
    """A broker of its own on a free port of this machine, ended with the block."""
    program = found_broker()
    if program is None:
        raise FileNotFoundError("there is no mosquitto here: apt-get install mosquitto")
    with socket.socket() as free:
        free.bind((HOST, 0))
        port: int = free.getsockname()[1]
    # without limits: what is not acknowledged until the next save, and what waits, are many rows
    settings = f"listener {port} {HOST}\nallow_anonymous true\npersistence false\n"
    settings += "max_inflight_messages 0\nmax_queued_messages 0\n"
    (folder / "mosquitto.conf").write_text(settings)
    with open(folder / "mosquitto.log", "w") as log:
        process = subprocess.Popen(
            [program, "-c", str(folder / "mosquitto.conf")], stdout=log, stderr=log
        )
    try:
        for _ in range(100):
            with socket.socket() as asked:
                if asked.connect_ex((HOST, port)) == 0:
                    break
            if process.poll() is not None:
                raise RuntimeError((folder / "mosquitto.log").read_text())
            time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait(10)


def client(port: int, name: str, **options: Any) -> Any:
    """Connected to the broker, with a session that outlives it."""
    from paho.mqtt.client import CallbackAPIVersion, Client

    made = Client(CallbackAPIVersion.VERSION2, name, clean_session=False, **options)
    made.max_inflight_messages_set(0)
    made.max_queued_messages_set(0)
    made.connect(HOST, port)
    return made


# --- the service ----------------------------------------------------------------------------------


class Rows:
    """Rows from the broker, in the order in which it has them."""

    def __init__(self, port: int) -> None:
        self.came: list[Any] = []
        self.open: list[int] = []  # numbers of messages that are not acknowledged
        self.client = client(port, NAME, manual_ack=True)
        self.client.on_message = lambda _client, _data, message: self.came.append(message)
        self.client.subscribe(TOPIC, qos=1)
        self.taken = 0
        self.busy = self.wall = 0.0  # seconds of the processor, and of the clock, while rows came

    def until(self, last: int) -> Iterator[tuple[Any, Any]]:
        """All that comes until the row of that time has come; (None, None) where nothing does."""
        ended = False
        while not ended:
            started, used = time.perf_counter(), time.process_time()
            self.client.loop(0.1)
            while self.came and len(self.came) < MOST:
                before = len(self.came)
                self.client.loop(0)
                if len(self.came) == before:
                    break
            messages, self.came = self.came, []
            self.open += [message.mid for message in messages]
            rows = [json.loads(message.payload) for message in messages]
            times = [row.pop("time") for row in rows]
            ended = last in times
            yield (rows, times) if rows else (None, None)
            if rows:  # here the service has scored them
                self.taken += len(rows)
                self.wall += time.perf_counter() - started
                self.busy += time.process_time() - used

    def acknowledge(self) -> None:
        """All that came: the state that knows it is saved."""
        for number in self.open:
            self.client.ack(number, 1)
        self.open = []

    def close(self) -> None:
        while self.client.want_write():
            self.client.loop(0.01)
        self.client.disconnect()


def service(port: int, folder: Path, last: int) -> None:
    """Score the rows of the broker until one of that time; a process of its own."""
    torch.set_num_threads(1)
    detector = Detector.load(folder / "detector")
    alarms = OnlineAlarms(detector.threshold_, **OPTIONS)
    rows = Rows(port)
    print("ready", flush=True)
    stream = serve(
        rows.until(last), detector, folder, every=EVERY, saved=rows.acknowledge, alarms=alarms
    )
    rows.close()
    stream.finish()
    open_alarms = [event.alarm for event in stream.events if event.kind == "ended"]
    counts = {"seen": stream.seen, "dropped": stream.dropped, "taken": rows.taken}
    times = {"wall": rows.wall, "busy": rows.busy}
    print(json.dumps({**counts, **times, "open": open_alarms}), flush=True)


# --- beside it ------------------------------------------------------------------------------------


def start(port: int, folder: Path, last: int) -> subprocess.Popen[str]:
    """The service as a process; it takes rows when this returns."""
    command = [sys.executable, __file__, "--serve", str(port), str(folder), str(last)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    if process.stdout.readline() != "ready\n":
        raise RuntimeError("the service did not start")
    return process


def publish(port: int, frame: pd.DataFrame) -> None:
    """All rows, each a message; returns when the broker has them."""
    sender = client(port, "plant")
    sender.loop_start()
    for number, row in enumerate(frame.to_dict("records")):
        sent = sender.publish(TOPIC, json.dumps({"time": number, **row}), qos=1)
        if number % 500 == 499:
            sent.wait_for_publish(60)
    sent.wait_for_publish(60)
    sender.disconnect()
    sender.loop_stop()


def saved_rows(folder: Path) -> int:
    """Rows that the saved state knows."""
    path = folder / "state"
    return read(path, KIND, version=FORMAT)[0]["seen"] if path.exists() else 0


def tried(detector: Detector, frame: pd.DataFrame, folder: Path, kills: int) -> dict[str, Any]:
    """Feed a detector's service through a broker, kill it so many times, and compare its alarms."""
    folder.mkdir()
    detector.save(folder / "detector")
    last = len(frame) - 1
    with broker(folder) as port:
        process = start(port, folder, last)
        sending = threading.Thread(target=publish, args=(port, frame))
        sending.start()
        for i in range(kills):  # at these shares of the rows, between two saves
            while process.poll() is None and saved_rows(folder) < (i + 1) * last // (kills + 2):
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
            process.communicate()
            if i == kills - 1:
                sending.join()  # so that the rest is not slowed by the sender
            process = start(port, folder, last)
        output, _ = process.communicate(timeout=300)
        sending.join()
    end = json.loads(output)
    lines = [json.loads(line) for line in (folder / "alarms.jsonl").read_text().splitlines()]
    ended = [[e["start"], e["stop"], e["peak"]] for e in lines if e["event"] == "ended"]
    ended += [alarm[:3] for alarm in end["open"]]
    began = [e["start"] for e in lines if e["event"] == "began"]
    expected = find_alarms(detector.decision_function(frame), detector.threshold_, **OPTIONS)
    return {
        "detector": type(detector).__name__,
        "channels": frame.shape[1],
        "rows": end["seen"],
        "kills": kills,
        "sent again": end["dropped"],
        "alarms": len(expected),
        "lost": len({alarm.start for alarm in expected} - set(began)),
        "twice": len(began) - len(set(began)) + len(ended) - len({first for first, _, _ in ended}),
        "as the batch": ended == [list(alarm[:3]) for alarm in expected],
        "rows since the last start": end["taken"],
        "rows/s": round(end["taken"] / end["wall"]),
        "rows/s of the processor": round(end["taken"] / end["busy"]),
    }


def plant(rows: int, seed: int, *, faults: bool = True) -> pd.DataFrame:
    """Rows of one process, with some faults."""
    process, rng = np.random.default_rng(0), np.random.default_rng(seed)
    hidden = np.sin(np.arange(rows)[:, None] / process.uniform(5, 50, size=6))
    x = hidden @ process.normal(size=(6, CHANNELS)) + 0.3 * rng.normal(size=(rows, CHANNELS))
    for first in range(500, rows - 40, 500) if faults else ():
        x[first : first + rng.integers(1, 40), rng.integers(CHANNELS)] += 9
    return pd.DataFrame(x, columns=[f"sensor {i}" for i in range(CHANNELS)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--serve", nargs=3, metavar=("PORT", "FOLDER", "LAST"))
    arguments = parser.parse_args()
    if arguments.serve:
        port, folder, last = arguments.serve
        service(int(port), Path(folder), int(last))
        return
    torch.set_num_threads(1)
    normal = plant(3000, 0, faults=False)
    detectors = (
        MADCluster("deepsvdd", epochs=1, stride=10, aggregate="last"),
        Mahalanobis(window=5, aggregate="last"),
    )
    found = []
    for detector in detectors:
        with tempfile.TemporaryDirectory() as folder:
            detector.fit(normal)
            found.append(tried(detector, plant(ROWS, 1), Path(folder) / "service", KILLS))
        print(found[-1])
    write_result(pd.DataFrame(found).assign(**provenance()), "broker")


if __name__ == "__main__":
    main()
