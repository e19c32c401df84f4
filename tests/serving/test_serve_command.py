"""`defectnet serve` as a person uses it: started, asked, stopped with Ctrl-C."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from support.processes import descendants

from serving.proxy import free_port


def alive(pids: set[int]) -> set[int]:
    """Those that still run; a zombie that nobody has waited for does not."""
    running = set()
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if state != "Z":
            running.add(pid)
    return running


def ask_much(port: int, sent: threading.Event, answered: list[int]) -> None:
    """Ask about 512 spectra, which takes a second; notes when all is sent, and how many were answered."""
    axis = [0.1 + 0.1 * point for point in range(150)]
    item = {"host": "Si", "unit": "THz", "frequency": axis, "dos": [1.0] * len(axis)}
    url = f"http://127.0.0.1:{port}/v1/predict"

    def body() -> Iterator[bytes]:
        yield json.dumps({"spectra": [item] * 512}).encode()
        sent.set()

    headers = {"content-type": "application/json"}
    answer = httpx.post(url, content=body(), headers=headers, timeout=60, trust_env=False)
    answered.append(len(answer.json()["predictions"]))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads Linux's list of processes")
@pytest.mark.timeout(240)
@pytest.mark.parametrize("how", ["SIGTERM", "Ctrl-C"])
def test_stopped_it_answers_what_is_under_way_and_leaves_nothing_running(artifact: Path, tmp_path: Path, how: str):
    port = free_port()
    command = [sys.executable, "-c", "from defectnet.cli.main import main; main()"]
    log = tmp_path / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [*command, "serve", "--port", str(port), "--model", str(artifact)],
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=tmp_path,
            start_new_session=True,
        )
        started: set[int] = set()
        sent, answered = threading.Event(), []
        try:
            url = f"http://127.0.0.1:{port}/v2/health/ready"
            while process.poll() is None:
                try:
                    if httpx.get(url, trust_env=False).status_code == httpx.codes.OK:
                        break
                except httpx.HTTPError:
                    time.sleep(0.2)
            assert process.poll() is None, log.read_text()
            while "Ctrl-C stops it" not in log.read_text():
                time.sleep(0.1)
            started = set(descendants(process.pid))
            assert started
            under_way = threading.Thread(target=ask_much, args=(port, sent, answered))
            under_way.start()
            assert sent.wait(60)
            time.sleep(0.3)  # from the proxy to the replica
            if how == "Ctrl-C":  # a terminal sends it to every process of the group
                os.killpg(process.pid, signal.SIGINT)
            else:
                process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=60) == 0
            under_way.join()
            assert answered == [512], "what was under way is answered before it stops"
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    deadline = time.monotonic() + 10
    while alive(started) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not alive(started)
    assert "Traceback" not in log.read_text()


def test_a_wrong_setting_is_one_sentence_and_exit_code_2(monkeypatch: pytest.MonkeyPatch, capsys):
    from defectnet.cli import main

    monkeypatch.setattr("sys.argv", ["defectnet", "serve", "--host", "0.0.0.0"])
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "refusing to listen on 0.0.0.0 without a token" in said
    assert "Traceback" not in said
