"""From settings to the two pools of Dask workers: `ml` (training, MD) and `reference` (labels)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from aimspax_core.machine import visible_gpus
from aimspax_core.settings.settings import Settings
from flows.pools.batch import batch_pool
from flows.pools.local import local_pool
from flows.pools.pool import Pool
from flows.pools.warm_parent import common_modules, learning_modules, uses_gpu
from tasks.warm_up import build_engine, import_modules


@dataclass(frozen=True)
class Pools:
    """Both pools of a run."""

    ml: Pool
    reference: Pool

    def __iter__(self) -> Iterator[Pool]:
        """Iterate over both."""
        return iter((self.ml, self.reference))

    def follow(self, settings: Settings) -> None:
        """Have as many workers as the settings say from now on."""
        for pool in self:
            pool.follow(settings)


@contextlib.contextmanager
def pools(settings: Settings) -> Iterator[Pools]:
    """Start both pools; their workers end with the block."""
    with contextlib.ExitStack() as stack:
        reference = stack.enter_context(reference_pool(settings))
        ml = stack.enter_context(_ml_pool(settings))
        try:
            yield Pools(ml, reference)
        finally:
            for pool in (reference, ml):
                pool.dismiss()  # all at once: closing them takes a while


@contextlib.contextmanager
def reference_pool(settings: Settings) -> Iterator[Pool]:
    """Start the pool of labels alone; its workers end with the block."""
    jobs = settings.cluster.reference_jobs
    warm_up = partial(build_engine, settings.reference, settings.directory)
    if jobs is not None:
        with batch_pool("reference", jobs, settings, warm_up) as pool:
            yield pool
    else:
        with local_pool(
            "reference",
            settings.cluster.max_workers,
            wanted=lambda new: new.cluster.max_workers,
            modules=common_modules(settings),
            warm_up=warm_up,
            gpu=uses_gpu(settings),
        ) as pool:
            yield pool


@contextlib.contextmanager
def _ml_pool(settings: Settings) -> Iterator[Pool]:
    jobs = settings.cluster.ml_jobs
    warm_up = partial(import_modules, learning_modules(settings))
    if jobs is not None:
        with batch_pool("ml", jobs, settings, warm_up) as pool:
            yield pool
    else:
        gpus = visible_gpus() if settings.model.MISC.device == "cuda" else ()
        with local_pool(
            "ml",
            settings.ml_workers,
            gpus,
            modules=common_modules(settings),
            warm_up=warm_up,
            gpu=uses_gpu(settings),
        ) as pool:
            yield pool
