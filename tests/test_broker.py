"""A service beside a real broker, killed while rows come; see benchmarks/broker.py."""

import pytest
from scripts import script

from madcluster.detectors import Mahalanobis


@pytest.fixture(scope="module")
def broker():
    pytest.importorskip("paho.mqtt", reason="streams through a broker need: pip install paho-mqtt")
    if script("broker").found_broker() is None:
        pytest.skip("streams through a broker need: apt-get install mosquitto")
    return script("broker")


def test_killed_beside_a_broker_nothing_is_lost_and_nothing_comes_twice(
    broker, tmp_path, monkeypatch
):
    monkeypatch.setattr(broker, "CHANNELS", 4)
    detector = Mahalanobis(window=5, aggregate="last").fit(broker.plant(2000, 0, faults=False))
    found = broker.tried(detector, broker.plant(8000, 1), tmp_path / "service", kills=2)
    assert found["rows"] == 8000
    assert found["alarms"] > 5
    assert (found["lost"], found["twice"], found["as the batch"]) == (0, 0, True)
    assert 0 < found["rows since the last start"] < 8000  # it did not begin anew
