"""The benchmark measures in processes of its own, and says why when one of them fails."""

import importlib.util
import io
import json

import pytest
from django.core.management import CommandError, call_command

from ml import benchmark
from ml.benchmark import BenchmarkError, run_benchmark

KEYS = [
    "keras_predict_ms",
    "tf_function_ms",
    "forward_ms",
    "forward_speedup",
    "analyse_ms",
    "cold_start_s",
    "worker_rss_mb",
]


@pytest.fixture
def answers(monkeypatch):
    given = {
        "worker": {"cold_start_s": 0.41, "rss_mb": 180.0},
        "forward": {"ms": 40.0, "served_ms": 13.0, "served_side_px": 128},
        "analyse": {"ms": 140.0},
        "keras": {"predict_ms": 340.0, "function_ms": 150.0},
    }
    asked = []

    def measure(name, *, repeats, threads):
        asked.append(name)
        return given[name]

    monkeypatch.setattr(benchmark, "_measure", measure)
    return asked


def test_speedup_is_the_ratio_within_one_run(answers):
    figures = run_benchmark(repeats=4).to_json()
    assert figures["forward_speedup"] == 8.5
    assert list(figures)[:7] == KEYS
    assert (figures["served_forward_ms"], figures["served_side_px"]) == (13.0, 128)
    assert answers == ["worker"] * 3 + ["forward", "analyse", "keras"]


def test_without_tensorflow_the_keras_part_is_null(answers, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    figures = run_benchmark(repeats=4)
    assert (figures.keras_predict_ms, figures.tf_function_ms, figures.forward_speedup) == (None, None, None)
    assert "keras" not in answers


def test_command_prints_json_or_a_table(answers):
    out = io.StringIO()
    call_command("benchmark", "--json", stdout=out, stderr=io.StringIO())
    assert json.loads(out.getvalue())["analyse_ms"] == 140.0
    out = io.StringIO()
    call_command("benchmark", stdout=out, stderr=io.StringIO())
    assert "times faster than Keras predict" in out.getvalue()


def test_no_repeats_is_refused():
    with pytest.raises(CommandError, match="at least 1"):
        call_command("benchmark", "--repeats", "0", stdout=io.StringIO())


def test_a_failing_process_is_a_sentence(monkeypatch, tmp_path):
    monkeypatch.setenv("IRA_MODEL_DIR", str(tmp_path))
    with pytest.raises(BenchmarkError, match="failed"):
        run_benchmark(repeats=1)


def test_a_real_worker_starts_and_stays_small():
    found = benchmark._measure("worker", repeats=1, threads=2)
    assert found["cold_start_s"] > 0
    # A worker that had imported TensorFlow would hold twice as much.
    assert 50 < found["rss_mb"] < 400


def test_a_real_forward_pass_is_measured():
    assert 0 < benchmark._measure("forward", repeats=1, threads=2)["ms"] < 60_000
