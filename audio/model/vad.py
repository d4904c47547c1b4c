"""Speech or not: the Silero model that faster-whisper ships, one small state per session.

The only importer of onnxruntime. The model takes frames of 512 samples with the 64 before them and carries an LSTM
state; fed frame by frame it says exactly what it says of the whole file (measured: bit for bit), in 80 to 100 us a
frame. Its batch dimension is fixed at one, so sessions cannot share a call, but frames of one session can.
"""

from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from audio.model.transcriber import Samples
from audio.segment import FRAME

CONTEXT = 64


class SpeechDetector(Protocol):
    """Tells speech from everything else."""

    def run(self, frames: Samples, state: "VadState") -> npt.NDArray[np.float32]:
        """The probability of speech of each row of `frames`, each with CONTEXT samples before it; moves `state` on."""
        ...


class Silero:
    """The model, shared by all sessions."""

    def __init__(self) -> None:
        import onnxruntime as untyped  # pyright: ignore[reportMissingTypeStubs]
        from faster_whisper.utils import get_assets_path  # pyright: ignore[reportMissingTypeStubs]

        onnxruntime: Any = untyped
        options = onnxruntime.SessionOptions()
        options.inter_op_num_threads = options.intra_op_num_threads = 1
        options.enable_cpu_mem_arena = False
        options.log_severity_level = 4
        path = Path(get_assets_path()) / "silero_vad_v6.onnx"
        self._model: Any = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(self, frames: Samples, state: "VadState") -> npt.NDArray[np.float32]:
        speech, state.h, state.c = self._model.run(None, {"input": frames, "h": state.h, "c": state.c})
        return cast("npt.NDArray[np.float32]", speech).reshape(-1)


class VadState:
    """Where the model stands in one stream."""

    __slots__ = ("c", "context", "h")

    def __init__(self) -> None:
        self.h = np.zeros((1, 1, 128), np.float32)
        self.c = np.zeros((1, 1, 128), np.float32)
        self.context = np.zeros(CONTEXT, np.float32)


class Ear:
    """Cuts one session's samples into frames, and says of each how likely it is speech."""

    __slots__ = ("_model", "_rest", "_state")

    def __init__(self, model: SpeechDetector) -> None:
        self._model = model
        self._state = VadState()
        self._rest: Samples = np.zeros(0, np.float32)

    def hear(self, samples: Samples) -> tuple[Samples, list[float]]:
        """The whole frames there are now, and their probabilities. Keeps the rest for the next time."""
        if len(self._rest):
            samples = np.concatenate((self._rest, samples))
        count = len(samples) // FRAME
        heard, self._rest = samples[: count * FRAME], samples[count * FRAME :].copy()
        if not count:
            return heard, []
        return heard, self._probabilities(heard, count)

    @property
    def waiting(self) -> int:
        """Samples that are no whole frame yet."""
        return len(self._rest)

    def end(self) -> tuple[Samples, list[float]]:
        """The last frame, filled up with silence."""
        missing = -len(self._rest) % FRAME
        return self.hear(np.zeros(missing, np.float32))

    def _probabilities(self, heard: Samples, count: int) -> list[float]:
        state = self._state
        frames = np.empty((count, CONTEXT + FRAME), np.float32)
        frames[:, CONTEXT:] = heard.reshape(count, FRAME)
        frames[0, :CONTEXT] = state.context
        frames[1:, :CONTEXT] = frames[:-1, -CONTEXT:]
        state.context = frames[-1, -CONTEXT:].copy()
        return self._model.run(frames, state).tolist()
