"""Keras: a loader as `fit` takes it, and a callback that makes a stopped run resume."""
