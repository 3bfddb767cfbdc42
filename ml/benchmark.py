"""Speed of the serving path against what others run, each measured in a process of its own on the same slice.

A process of its own, because TensorFlow, once imported, keeps threads and memory that would change what is measured
after it. Medians; as many threads as ``IRA_MODEL_THREADS`` says (2 by default) for all.
"""

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from ml.errors import MlError

ROOT: Final = Path(__file__).resolve().parents[1]
SIDE_PX: Final = 224
TIME_LIMIT_S: Final = 600


class BenchmarkError(MlError):
    """A measuring process failed."""


@dataclass(frozen=True)
class Benchmark:
    """Medians in milliseconds and seconds; ``None`` where TensorFlow is not installed. Memory in megabytes (10**6).

    ``forward_ms`` and ``forward_speedup`` are of the class network at 224 x 224, the size that Keras is timed at;
    ``served_forward_ms`` is of the same file at the side that serving gives it, which is no fair match for Keras.
    """

    keras_predict_ms: float | None
    tf_function_ms: float | None
    forward_ms: float
    forward_speedup: float | None
    analyse_ms: float
    cold_start_s: float
    worker_rss_mb: float
    served_forward_ms: float
    served_side_px: int
    threads: int
    repeats: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def run_benchmark(*, repeats: int = 20, say: Callable[[str], None] = lambda line: None) -> Benchmark:
    """Measure everything, one process after the other. Raises ``BenchmarkError`` with what the process said."""
    threads = int(os.environ.get("IRA_MODEL_THREADS", "2"))
    say("cold start and memory of a worker")
    # The first start of a day also reads files from the disk; three starts and their median are what a worker sees.
    starts = [_measure("worker", repeats=1, threads=threads) for _ in range(3)]
    say("forward pass, LiteRT")
    network = _measure("forward", repeats=repeats, threads=threads)
    forward = network["ms"]
    say("whole path, file bytes to overlay")
    whole = _measure("analyse", repeats=repeats, threads=threads)["ms"]
    keras = function = None
    if importlib.util.find_spec("tensorflow") is not None:
        say("VGG16 forward pass, Keras predict and tf.function (TensorFlow takes a while to start)")
        found = _measure("keras", repeats=max(3, repeats // 2), threads=threads)
        keras, function = found["predict_ms"], found["function_ms"]
    return Benchmark(
        keras_predict_ms=keras,
        tf_function_ms=function,
        forward_ms=forward,
        forward_speedup=None if keras is None else round(keras / forward, 2),
        analyse_ms=whole,
        cold_start_s=round(statistics.median(start["cold_start_s"] for start in starts), 3),
        worker_rss_mb=round(statistics.median(start["rss_mb"] for start in starts), 1),
        served_forward_ms=network["served_ms"],
        served_side_px=int(network["served_side_px"]),
        threads=threads,
        repeats=repeats,
    )


def _measure(name: str, *, repeats: int, threads: int) -> dict[str, float]:
    environment = {
        **os.environ,
        "IRA_MODEL_THREADS": str(threads),
        "OMP_NUM_THREADS": str(threads),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "-1",
    }
    command = [sys.executable, "-m", "ml.benchmark", name, str(repeats), str(threads)]
    try:
        # Our own interpreter and module, no shell: nothing here comes from outside.
        done = subprocess.run(  # noqa: S603
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=TIME_LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise BenchmarkError(
            f"Measuring “{name}” took longer than {TIME_LIMIT_S // 60} minutes. Please try again on a quiet machine."
        ) from error
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        reason = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise BenchmarkError(f"Measuring “{name}” failed: {reason}. Please check that the model is complete.")
    return json.loads(lines[-1])


# --- what the measuring processes do ----------------------------------------------------------------------------------


def _median_ms(act: Callable[[], object], *, repeats: int) -> float:
    for _ in range(2):
        act()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        act()
        times.append((time.perf_counter() - started) * 1000)
    return round(statistics.median(times), 2)


def _sample_png() -> bytes:
    """One generated slice of 512 x 512, the size that scanners export."""
    import io

    from PIL import Image

    from ml.phantom import NoduleSpec, PhantomSpec, make_phantom

    spec = PhantomSpec(size=512, level=0.45, window="wide", nodules=(NoduleSpec(30, "spiculated", "inner", "left"),))
    stream = io.BytesIO()
    Image.fromarray(make_phantom(11, spec=spec).pixels).save(stream, format="PNG")
    return stream.getvalue()


def _measure_worker(repeats: int, threads: int) -> dict[str, float]:
    """From a bare interpreter to the first result, as a fresh worker gives it; then the memory it holds."""
    started = time.perf_counter()
    from ml.inference import analyse
    from ml.runtime import load_model

    model = load_model()
    cold_start_s = time.perf_counter() - started
    data = _sample_png()
    for _ in range(2):
        analyse(data, model=model)
    return {"cold_start_s": cold_start_s, "rss_mb": _resident_mb()}


def _resident_mb() -> float:
    """Memory that this process holds now, in megabytes."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) * 1024 / 1e6
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Kilobytes on Linux, bytes on macOS.
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def _measure_forward(repeats: int, threads: int) -> dict[str, float]:
    """The shipped class network alone: VGG16 and its head, at 224 x 224 and at the side that serving gives it."""
    import numpy as np

    from ml.runtime import Network, model_directory, read_card, read_checked

    folder = model_directory()
    card = read_card(folder)
    network = Network(read_checked(folder, card=card, name="classifier"), threads=threads)
    side = int(card["input"]["classifier_side_px"])
    large, served = (
        np.random.default_rng(0).standard_normal((1, one, one, 3)).astype(np.float32) for one in (SIDE_PX, side)
    )
    return {
        "ms": _median_ms(lambda: network(large), repeats=repeats),
        "served_ms": _median_ms(lambda: network(served), repeats=repeats),
        "served_side_px": side,
    }


def _measure_analyse(repeats: int, threads: int) -> dict[str, float]:
    """File bytes in; probabilities, outline, findings and overlay out, as the portal's worker does it."""
    from ml.images import read_slice
    from ml.inference import analyse
    from ml.overlay import draw_overlay
    from ml.runtime import load_model

    model, data = load_model(), _sample_png()

    def act() -> None:
        result = analyse(data, model=model)
        boxes = [finding.box for finding in result.findings]
        draw_overlay(read_slice(data).pixels, result.mask, boxes=boxes)

    return {"ms": _median_ms(act, repeats=repeats)}


def _measure_keras(repeats: int, threads: int) -> dict[str, float]:
    """Keras' own VGG16 at 224 x 224 with random weights: speed does not depend on their values."""
    import numpy as np
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    model = tf.keras.applications.VGG16(weights=None)
    inputs = np.random.default_rng(0).standard_normal((1, SIDE_PX, SIDE_PX, 3)).astype(np.float32)
    predict_ms = _median_ms(lambda: model.predict(inputs, verbose=0), repeats=repeats)
    function = tf.function(lambda batch: model(batch, training=False))
    tensor = tf.constant(inputs)
    return {"predict_ms": predict_ms, "function_ms": _median_ms(lambda: function(tensor).numpy(), repeats=repeats)}


_MEASURES: Final[dict[str, Callable[[int, int], dict[str, float]]]] = {
    "worker": _measure_worker,
    "forward": _measure_forward,
    "analyse": _measure_analyse,
    "keras": _measure_keras,
}

if __name__ == "__main__":
    measured = _MEASURES[sys.argv[1]](int(sys.argv[2]), int(sys.argv[3]))
    sys.stdout.write(json.dumps(measured) + "\n")
