"""The probe: a call is timed within the time it is given, and what is kept is read back."""

import json
import time
from dataclasses import asdict

from opportune.planner import hardware, probe


def test_a_slow_call_is_made_once():
    calls = []
    seconds = probe._median(lambda: (calls.append(1), time.sleep(0.05)), 0.01)
    assert len(calls) == 1
    assert seconds >= 0.05


def test_a_quick_call_is_made_often_and_its_first_time_left_out():
    calls = []
    probe._median(lambda: calls.append(1), 0.05)
    assert len(calls) > 10


def test_what_was_measured_is_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("OPPORTUNE_CACHE", str(tmp_path))
    assert probe.kept() is None
    device = hardware.Device(probe.NAME, 0.1, 8.0, 10.0, kind="CPU", cores=2, step_factor=1.4)
    probe.place().write_text(json.dumps(asdict(device)))
    assert probe.kept() == device
    probe.place().write_text("{}")
    assert probe.kept() is None
