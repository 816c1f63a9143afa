"""How many metrics per second MLflow's stores take, from one run and from eight at once.

python benchmarks/stores.py ADDRESS...

Each writer is a process with a run of its own, and sends EPOCHS epochs of METRICS metrics, one
request per epoch. (A training asks the store for what it has, too.)
"""

import multiprocessing
import sys
import time
from multiprocessing.synchronize import Barrier

from lungsound.storage.places import without_secrets
from lungsound.tracking.client import open_experiment
from lungsound.tracking.state import TrackingState
from lungsound.tracking.sync import MlflowSync

WRITERS, EPOCHS, METRICS = (1, 8), 25, 8


def write(uri: str, number: int, barrier: Barrier) -> None:
    """Send the epochs of one run, once all writers are ready, and wait for the others."""
    experiment = open_experiment(uri, "benchmark")
    state = TrackingState(uri, "benchmark", f"{time.time()}-{number}", {})
    target = MlflowSync(experiment, state, "benchmark", {})
    barrier.wait()
    for epoch in range(EPOCHS):
        target.log_metrics([(f"metric-{index}", float(epoch), epoch) for index in range(METRICS)])
    barrier.wait()


def metrics_per_second(uri: str, writers: int) -> float:
    """Return what `writers` processes send in all, per second."""
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(writers + 1, timeout=300)
    processes = [context.Process(target=write, args=(uri, i, barrier)) for i in range(writers)]
    for process in processes:
        process.start()
    barrier.wait()
    start = time.perf_counter()
    barrier.wait()
    seconds = time.perf_counter() - start
    for process in processes:
        process.join()
    return writers * EPOCHS * METRICS / seconds


if __name__ == "__main__":
    for address in sys.argv[1:]:
        rates = [f"{metrics_per_second(address, writers):.0f}" for writers in WRITERS]
        print(f"| {without_secrets(address)} | {' | '.join(rates)} |", flush=True)
