"""Turns of a benchmark are fair: nothing but the two that are compared is timed."""

import pytest

from benchmarks import rows


def test_what_clears_away_before_a_turn_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("benchmarks.rows.time.perf_counter", lambda: clock[0])
    monkeypatch.setattr("benchmarks.rows.time.process_time", lambda: clock[0])
    done = []

    def take(name: str, seconds: float) -> None:
        done.append(name)
        clock[0] += seconds

    (ours, plain), detail = rows.compare(
        lambda: take("ours", 2),
        lambda: take("plain", 3),
        turns=2,
        before=lambda: take("clear", 50),
    )
    assert (ours, plain) == (2, 3)
    assert detail["seconds"] == [[2, 3], [2, 3]] and detail["median_ratio"] == 1.5
    # once to warm up, then in alternating order
    assert done == ["clear", "ours", "plain"] * 2 + ["clear", "plain", "ours"]
