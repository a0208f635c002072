"""Batches for a framework. Each framework is imported only when its function is called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from shardkit.adapters.keras import KerasDataset
    from shardkit.adapters.resume import ResumeCallback
    from shardkit.adapters.webdataset import WebDatasetSamples
    from shardkit.loader import Loader

__all__ = ["Resume", "to_keras", "to_tf", "to_webdataset"]


def to_keras(loader: Loader, *, repeat: bool = False) -> KerasDataset:
    """A loader as Keras takes it: straight into ``fit``, ``evaluate`` and ``predict``, on any Keras backend.

    ``fit(shuffle=True)``, Keras's default, changes nothing: the loader's own order is kept. With several ranks where
    batches are padded, rows carry sample weights; count with ``weighted_metrics`` then.

    Args:
        loader: The loader.
        repeat: Whether the data never end: for ``fit(steps_per_epoch=...)`` where an epoch of Keras is not an epoch
            of the data. Keras then needs ``steps_per_epoch``.

    Returns:
        A ``keras.utils.PyDataset``. Each time Keras has used up an epoch, the next one follows.

    Raises:
        ImportError: Keras is not installed.
    """
    try:
        from shardkit.adapters.keras import KerasDataset
    except ImportError as exc:
        raise _missing("Keras", exc) from exc
    return KerasDataset(loader, repeat=repeat)


def Resume(  # noqa: N802
    loader: Loader,
    directory: str | os.PathLike[str],
    *,
    every: float | None = 60.0,
    storage_options: Mapping[str, str] | None = None,
) -> ResumeCallback:
    """A Keras callback that makes a stopped run go on at the very next batch when the same script is started again.

    Saves, atomically together: all variables of model, optimizer and metrics with the seed states of random layers, the
    other callbacks' counters, the position in the data (batches trained on, not those read ahead), and Keras's own
    epoch and step.

    Args:
        loader: The loader that ``fit`` trains from, through `to_keras`.
        directory: Where the save lies, a folder or a URL of a bucket; ranks share it, and rank 0 writes.
        every: Seconds between saves within an epoch; ``None`` saves at epochs only. Each epoch is saved when it begins
            and before its validation.
        storage_options: For a bucket: as the loader's.

    Returns:
        The callback, for ``fit(callbacks=[...])``.

    Raises:
        ImportError: Keras is not installed.
        ConfigError: ``every`` is negative.
        StateError: When training begins: the save is of another data set, order or model.
    """
    try:
        from shardkit.adapters.resume import ResumeCallback
    except ImportError as exc:
        raise _missing("Keras", exc) from exc
    return ResumeCallback(loader, directory, every=every, storage_options=storage_options)


def to_tf(loader: Loader) -> Any:
    """A loader as a ``tf.data.Dataset`` of whole batches, with a declared signature and a known number of batches.

    Args:
        loader: The loader.

    Returns:
        The data set. Each time it is iterated, the loader's next epoch follows.

    Raises:
        ImportError: TensorFlow is not installed.
    """
    try:
        from shardkit.adapters.tensorflow import dataset_of
    except ImportError as exc:
        raise _missing("TensorFlow", exc) from exc
    return dataset_of(loader)


def to_webdataset(loader: Loader) -> WebDatasetSamples:
    """The samples of a loader, encoded and in its order, as the dictionaries that webdataset's stages take.

    Args:
        loader: The loader.

    Returns:
        Something to iterate: ``wds.DataPipeline(shardkit.to_webdataset(loader), wds.decode("pil"), ...)``. Each time
        it is iterated, the next epoch follows.
    """
    from shardkit.adapters.webdataset import WebDatasetSamples

    return WebDatasetSamples(loader)


def _missing(name: str, exc: ImportError) -> ImportError:
    return ImportError(f"{name} is not installed: pip install 'shardkit[tensorflow]' ({exc})")
