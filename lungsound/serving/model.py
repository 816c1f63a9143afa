"""The model that MLflow serves: MLflow runs this file (its "models from code").

A request has the recording itself, in base64, and never a path: no request reads a file of the
server.
"""

import tempfile
from base64 import b64decode
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import soundfile
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel

from lungsound.data.sound import open_sound
from lungsound.ensemble import HOP_SECONDS, WINDOW_SECONDS, Ensemble, check_seconds
from lungsound.errors import LungsoundError

MAX_BYTES = 64 * 2**20  # of one recording: 12 minutes of 44.1 kHz in 16 bits
MAX_WINDOWS = 3600  # of one recording: an hour, with the default hop
EXPECTED = "a recording (wav, flac, ogg, mp3, aiff) in base64"


class BadRequestError(MlflowException):
    """A 400 whose message is one sentence: MLflow would put the whole request before it."""

    def __init__(self, sentence: str) -> None:
        self.sentence = sentence
        super().__init__(sentence, error_code=INVALID_PARAMETER_VALUE)

    def serialize_as_json(self) -> str:
        """Return the body of the answer."""
        self.message = self.sentence
        return str(super().serialize_as_json())  # type: ignore[no-untyped-call,unused-ignore]


class ServedEnsemble(PythonModel):  # type: ignore[misc,unused-ignore]
    """Ensemble.predict for recordings that a request brings along."""

    def load_context(self, context: Any) -> None:
        """Load the run that the model has as its artifact."""
        self.ensemble = Ensemble.load(context.artifacts["run"])

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Return the table of `Ensemble.predict` for each row's `audio`, numbered from 0.

        `params`: window and hop in seconds. Raises BadRequestError with the row and its fault.
        """
        given = {name: value for name, value in (params or {}).items() if value is not None}
        window = given.get("window", WINDOW_SECONDS)
        hop = given.get("hop", HOP_SECONDS)
        tables = []
        for row, audio in enumerate(model_input["audio"]):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "audio"
                try:
                    path.write_bytes(decode(audio))
                    tables.append(self._predict_file(path, window, hop))
                except (LungsoundError, ValueError) as error:
                    reason = str(error).replace(f"{path}: ", "")
                    raise BadRequestError(f"audio of row {row}: {reason}") from error
            tables[-1].insert(0, "recording", row)
        if not tables:
            raise BadRequestError(f"audio: expected {EXPECTED}, but the request has no row")
        return pd.concat(tables, ignore_index=True)

    def _predict_file(self, path: Path, window: float, hop: float) -> pd.DataFrame:
        check_seconds("hop", hop, self.ensemble.features.sample_rate)
        with suppress(soundfile.LibsndfileError):  # of which open_sound has a sentence
            seconds = soundfile.info(path).duration  # of the header: nothing is decoded yet
            if seconds > MAX_WINDOWS * min(hop, HOP_SECONDS):
                raise ValueError(
                    f"expected at most {MAX_WINDOWS} s and {MAX_WINDOWS} windows, but it lasts "
                    f"{seconds:.0f} s, with a window every {hop:g} s: send it in parts"
                )
        return self.ensemble.predict(open_sound(path), window=window, hop=hop)


def decode(audio: Any) -> bytes:
    """Return the content of a file from its base64 text. Raises ValueError."""
    if not isinstance(audio, str) or not audio:
        raise ValueError(f"expected {EXPECTED}, but it is empty")
    if len(audio) > MAX_BYTES * 4 // 3:
        raise ValueError(f"expected at most {MAX_BYTES >> 20} MiB: send the recording in parts")
    try:
        return b64decode(audio, validate=True)
    except ValueError as error:
        raise ValueError(f"expected {EXPECTED}, but it is no base64: {error}") from error


set_model(ServedEnsemble())
