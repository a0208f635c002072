"""Who this process is among those that train together, for ``rank="auto"``. Nothing else reads the environment."""

from __future__ import annotations

import json
import math
import os
import sys
import warnings
from typing import TYPE_CHECKING, Any

from shardkit.errors import ConfigError, ShardkitWarning
from shardkit.loader.order import Share

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shardkit.loader.order import OrderNumbers

__all__ = ["find_rank", "share_of", "warn_of_shared_chunks"]

# What torchrun, Open MPI, MPICH and Slurm set.
_VARIABLES = (
    ("RANK", "WORLD_SIZE"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("PMI_RANK", "PMI_SIZE"),
    ("SLURM_PROCID", "SLURM_NTASKS"),
)


def find_rank(
    environment: Mapping[str, str] | None = None, modules: Mapping[str, Any] | None = None
) -> tuple[int, int]:
    """Ask JAX, TensorFlow's ``TF_CONFIG`` and the usual launchers, in this order; the first that knows wins.

    JAX is only asked where it was imported already and runs several processes.

    Args:
        environment: The environment variables; those of this process without it.
        modules: The imported modules; those of this process without it.

    Returns:
        The rank and the world size; ``(0, 1)`` where nobody knows of several processes.

    Raises:
        ConfigError: What was found makes no sense.
    """
    environment = os.environ if environment is None else environment
    jax = (sys.modules if modules is None else modules).get("jax")
    if jax is not None and jax.process_count() > 1:
        return int(jax.process_index()), int(jax.process_count())
    if "TF_CONFIG" in environment:
        return _from_tf_config(environment["TF_CONFIG"])
    for rank, world_size in _VARIABLES:
        if rank in environment and world_size in environment:
            try:
                return int(environment[rank]), int(environment[world_size])
            except ValueError as exc:
                raise ConfigError(
                    f"{rank} and {world_size} must be whole numbers", setting="rank", value=environment[rank]
                ) from exc
    return 0, 1


def _from_tf_config(text: str) -> tuple[int, int]:
    """The rank of a training task: the chief comes first, then the workers; others do not train."""
    try:
        config = json.loads(text)
        cluster, task = config.get("cluster", {}), config.get("task", {})
        tasks = [(kind, number) for kind in ("chief", "worker") for number in range(len(cluster.get(kind, ())))]
        if len(tasks) <= 1:
            return 0, 1
        return tasks.index((task["type"], int(task["index"]))), len(tasks)
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise ConfigError(
            "TF_CONFIG names no training task of its cluster", setting="rank", value=text,
            advice="Give rank and world_size as numbers",
        ) from exc  # fmt: skip


def share_of(options: Any) -> Share:
    """The rank, as given or asked for."""
    rank, world_size = options.pop("rank", 0), options.pop("world_size", None)
    if isinstance(rank, str) and rank == "auto":
        if world_size is not None:
            raise ConfigError("rank='auto' finds world_size itself", setting="world_size", value=world_size)
        rank, world_size = find_rank()
    return Share(rank=rank, world_size=1 if world_size is None else world_size)


def warn_of_shared_chunks(share: Share, order: OrderNumbers) -> None:
    """Warn where ranks read each other's chunks, and name a number of lanes with which they would not.

    Args:
        share: The rank.
        order: The order.
    """
    times = share.world_size // math.gcd(share.world_size, order.lanes)
    if order.shuffled and times > 1:
        better = -(-order.lanes // share.world_size) * share.world_size
        warnings.warn(
            f"world_size={share.world_size} does not divide lanes={order.lanes}, so each chunk is read by {times} "
            f"ranks; lanes={better} would give each rank chunks of its own (another number of lanes is another order)",
            ShardkitWarning,
            stacklevel=3,
        )
