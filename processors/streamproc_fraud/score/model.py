"""What a model is to the processor, and models in ONNX."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from math import isfinite
from pathlib import Path
from typing import Any, Protocol

from streamproc import ConfigError
from streamproc_fraud.features.catalogue import CATALOGUE

__all__ = ["Model", "OnnxModel"]

Row = Sequence[float]


class Model(Protocol):
    """Turns feature values into a probability of fraud, many payments at a time.

    Attributes:
        features: names of the features that a row holds, in order; all are numbers or flags.
        digest: names the model by what it computes; part of the rule set's version.
    """

    features: Sequence[str]
    digest: str

    def scores(self, rows: Sequence[Row]) -> list[float]:
        """Return a number from 0 to 1 for each row; missing values are NaN."""
        ...

    def reasons(self, row: Row) -> list[str]:
        """Return the names of what brought a row's score about, the largest part first."""
        ...


class OnnxModel:
    """A model in ONNX that takes one matrix of floats (rows, features).

    Its last output holds the probabilities: a matrix with the positive class in its last column,
    or one value a row.

    Args:
        path: the file.
        features: what the columns are.

    Raises:
        ConfigError: ONNX Runtime is not installed, a feature is none, or the file is no such model.
    """

    def __init__(self, path: str, features: Sequence[str]) -> None:
        for name in features:
            if CATALOGUE.kind(name) not in ("number", "flag"):
                raise ConfigError(f"model {path}: {name!r} is no feature that is a number or flag")
        try:
            import numpy as np
            import onnxruntime
        except ImportError as error:
            raise ConfigError(
                f"model {path} needs ONNX Runtime: pip install 'streamproc[onnx]' ({error})"
            ) from None
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            raise ConfigError(f"model {path} cannot be read: {error.strerror}") from None
        options = onnxruntime.SessionOptions()
        # One process is one core here; a pool of threads would fight the other workers for theirs.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        try:
            self._session: Any = onnxruntime.InferenceSession(
                content, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its errors share no base class of their own
            raise ConfigError(f"model {path} is no ONNX model: {error}") from None
        self.features: Sequence[str] = list(features)
        self.digest = blake2b(content + repr(list(features)).encode(), digest_size=6).hexdigest()
        self._path = path
        self._numpy = np
        self._input = self._session.get_inputs()[0].name
        self._output = self._session.get_outputs()[-1].name
        self._try()

    def scores(self, rows: Sequence[Row]) -> list[float]:
        """See `Model.scores`."""
        matrix = self._numpy.asarray(rows, dtype=self._numpy.float32)
        (answer,) = self._session.run([self._output], {self._input: matrix})
        columns = self._numpy.asarray(answer).reshape(len(rows), -1)
        return [float(value) for value in columns[:, -1]]

    def reasons(self, row: Row) -> list[str]:
        """Return nothing: what such a model thinks it does not say."""
        return []

    def _try(self) -> None:
        try:
            (score,) = self.scores([[0.0] * len(self.features)])
        except Exception as error:
            raise ConfigError(
                f"model {self._path} does not take {len(self.features)} features: {error}"
            ) from None
        if not (isfinite(score) and 0 <= score <= 1):
            raise ConfigError(f"model {self._path}: its last output, {score}, is no probability")
