"""Batches for a framework. Each framework is imported only when its function is called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shardkit.errors import ConfigError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping

    from shardkit.adapters.keras.dataset import KerasDataset
    from shardkit.adapters.keras.resume import ResumeCallback
    from shardkit.adapters.webdataset import WebDatasetSamples
    from shardkit.loader import Loader

__all__ = ["Resume", "to_keras", "to_tf", "to_webdataset"]


def to_keras(loader: Loader, *, repeat: bool = False, map: Callable[..., Any] | None = None) -> KerasDataset:  # noqa: A002
    """Turn a loader into a data set for Keras's ``fit``, ``evaluate`` and ``predict``, on any Keras backend.

    Keras reads the batches in the loader's order: ``fit(shuffle=True)``, its default, changes nothing. Each whole pass
    of Keras takes the next epoch, except passes within another call that reads the same data. Python may read the data
    set at any time, even while Keras does: ``for x, y in data`` iterates over the epoch that is served, and ``data[i]``
    is its batch ``i``. Neither moves the epoch; set ``data.epoch`` for that, or iterate over the loader.

    With several ranks where batches are padded, rows carry sample weights; use ``weighted_metrics`` then.

    Args:
        loader: The loader.
        repeat: Whether the data never end: for ``fit(steps_per_epoch=...)`` where an epoch of Keras is not an epoch
            of the data. Keras then needs ``steps_per_epoch``. Defaults to ``False``.
        map: Turns each batch into what the model takes: ``map(images, labels)`` returns inputs, ``(inputs, targets)``
            or ``(inputs, targets, sample_weights)``, each an array or a structure of arrays. It must depend on nothing
            except the batch. Runs once for each batch, in the thread that trains; work on single images belongs in the
            loader's ``augment``.

    Returns:
        The data set. It has ``len()``, ``class_names`` and ``epoch``, and can be pickled if the loader can.

    Raises:
        ImportError: Keras is not installed.
        ConfigError: ``loader`` is no `Loader`, Keras is older than 3.7, or ``map`` is not a function.
    """
    try:
        from shardkit.adapters.keras.dataset import KerasDataset
    except ImportError as exc:
        raise _missing("Keras", exc) from exc
    _check_loader(loader)
    return KerasDataset(loader, repeat=repeat, map=map)


def Resume(  # noqa: N802
    loader: Loader,
    directory: str | os.PathLike[str],
    *,
    every: float | None = 60.0,
    storage_options: Mapping[str, str] | None = None,
) -> ResumeCallback:
    """A Keras callback that resumes a stopped run at the very next batch when the same script is started again.

    It saves, atomically together: the position in the data (batches trained on, not those read ahead); Keras's own
    epoch and step; everything in the model that training changes (variables of layers, of all optimizers and metrics,
    random generators), on whatever attribute it is; the random generators of Python, numpy, Keras, TensorFlow and
    PyTorch; and what the other callbacks have counted: Keras's own, and those that list attributes in a class attribute
    ``resume_attributes``. A `ShardkitWarning` names what changes and is not saved.

    While `fit` runs, rank 0 holds a lock on the directory.

    Args:
        loader: The loader that ``fit`` trains from, through `to_keras`. It must be the same object.
        directory: Where the run is saved, a folder or a URL of a bucket. Ranks share it, and rank 0 writes.
        every: Seconds between saves within an epoch; ``None`` saves at epochs only. Each epoch is saved when it begins
            and before its validation. Defaults to ``60.0``.
        storage_options: For a bucket: as the loader's.

    Returns:
        The callback, for ``fit(callbacks=[...])``. `copy.deepcopy` of it has the same loader.

    Raises:
        ImportError: Keras is not installed.
        ConfigError: ``loader`` is no `Loader`, or ``every`` is negative. When training begins: ``fit`` trains from
            other data than the loader's, another run trains with the directory, a new run would begin within an epoch,
            or ``resume_attributes`` of a callback is no tuple of names. At a save: one of these attributes holds
            something else than numbers, texts and arrays.
        StateError: When training begins: the save is of another data set, order, model or backend, is damaged, or sets
            what no callback declares.
        StorageError: When training begins, or at a save: the directory cannot be read, written or locked.
    """
    try:
        from shardkit.adapters.keras.resume import ResumeCallback
    except ImportError as exc:
        raise _missing("Keras", exc) from exc
    _check_loader(loader)
    return ResumeCallback(loader, directory, every=every, storage_options=storage_options)


def to_tf(loader: Loader) -> Any:
    """A loader as a ``tf.data.Dataset`` of whole batches, with a declared signature and a known number of batches.

    Args:
        loader: The loader.

    Returns:
        The data set. Each time it is iterated, the loader's next epoch follows.

    Raises:
        ImportError: TensorFlow is not installed.
        ConfigError: ``loader`` is no `Loader`.
    """
    try:
        from shardkit.adapters.tensorflow import dataset_of
    except ImportError as exc:
        raise _missing("TensorFlow", exc) from exc
    _check_loader(loader)
    return dataset_of(loader)


def to_webdataset(loader: Loader) -> WebDatasetSamples:
    """The samples of a loader, encoded and in its order, as the dictionaries that webdataset's stages take.

    Args:
        loader: The loader.

    Returns:
        Something to iterate: ``wds.DataPipeline(shardkit.to_webdataset(loader), wds.decode("pil"), ...)``. Each time
        it is iterated, the next epoch follows.

    Raises:
        ConfigError: ``loader`` is no `Loader`.
    """
    from shardkit.adapters.webdataset import WebDatasetSamples

    _check_loader(loader)
    return WebDatasetSamples(loader)


def _check_loader(loader: object) -> None:
    from shardkit.loader import Loader

    if not isinstance(loader, Loader):
        raise ConfigError(
            "loader must be a shardkit.Loader", setting="loader", value=loader,
            advice="Make one with shardkit.Loader(location, ...)",
        )  # fmt: skip


def _missing(name: str, exc: ImportError) -> ImportError:
    return ImportError(f"{name} is not installed: pip install 'shardkit[tensorflow]' ({exc})")
