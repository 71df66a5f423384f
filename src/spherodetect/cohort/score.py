"""`score_cohort`: `score_patients` with the fields of many patients side by side on Ray."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from spherodetect.cohort.ahead import examine_ahead
from spherodetect.cohort.cloud import is_cloud, nearby
from spherodetect.cohort.ray_cluster import LOCAL, RayCluster, require_ray
from spherodetect.detect.detector import Detector
from spherodetect.errors import SpherodetectError
from spherodetect.examined import Examined
from spherodetect.fields.field import Field
from spherodetect.pipeline.examine import examine
from spherodetect.pipeline.run import Examining, Progress, no_progress, score_patients
from spherodetect.report.results import Result


def score_cohort(
    paths: str | Path | Sequence[str | Path],
    *,
    ray: str | None = LOCAL,
    workers: int | None = None,
    cores: int = 1,
    out: str | Path | None = None,
    progress: Progress = no_progress,
    **options: Any,
) -> Result:
    """Score patients on a Ray cluster; the files are those of `score_patients`, byte for byte.

    Every worker loads the model once and examines a field at a time. A worker that ends is
    replaced, and its field is examined again. If the program itself ends, the same call goes on
    after the last finished field. Processors of one kind give the same bytes.

    Args:
        paths: as for `score_patients`, or addresses `s3://BUCKET/KEY` and `gs://BUCKET/KEY`.
        ray: the address of the cluster: HOST:PORT of its head, "auto" for the one that this machine
            belongs to, or "local" to start one on this machine, which ends with the call. None
            scores without Ray.
        workers: how many workers; by default as many as there are cores for.
        cores: cores of each worker.
        out: the folder or the address to write to. At an address nothing can be read back, so that
            `Result.tables` is empty then.
        progress: told of every field, and of every copy from or to an address.
        options: the other arguments of `score_patients`. A detector of somebody's own needs an
            attribute `identity`, and must be importable on every machine.

    Raises:
        SpherodetectError: as `score_patients`; or Ray is not installed, there is no such cluster,
            no worker starts, or a machine has another version of this package.

    >>> score_cohort("smears", out="results", workers=4)  # doctest: +SKIP
    """
    for name, value in (("workers", workers), ("cores", cores)):
        if value is not None and value < 1:
            raise SpherodetectError(f"{name}: expected a whole number above 0, got {value}")
    if ray is not None:
        require_ray()
    if isinstance(paths, str | Path):
        paths = [paths]
    with contextlib.ExitStack() as stack:
        examining: Examining = examine
        if ray is not None:
            examining = _on_ray(stack, ray, workers, cores)
        copies, folder = stack.enter_context(nearby(paths, out, progress=progress))
        result = score_patients(
            copies, out=folder, examining=examining, progress=progress, **options
        )
        if out is not None and is_cloud(out):
            result = replace(result, tables={}, report=None, key=None, cells_in_memory=result.cells)
    return result


def _on_ray(
    stack: contextlib.ExitStack, address: str, workers: int | None, cores: int
) -> Examining:
    """What examines fields on a cluster, whose connection ends with the stack."""

    def examining(
        fields: Sequence[Field], detector: Detector, **settings: Any
    ) -> Iterator[Examined]:
        cluster = RayCluster(address, detector, workers=workers, cores=cores)
        stack.enter_context(cluster)
        examined = examine_ahead(list(fields), detector, cluster=cluster, **settings)
        # An error of the run ends the workers before their cluster.
        stack.enter_context(contextlib.closing(examined))
        return examined

    return examining


__all__ = ["score_cohort"]
