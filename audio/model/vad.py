"""Speech or not: the Silero model that faster-whisper ships, with one small state per session.

This is the only importer of onnxruntime. The model takes frames of 512 samples with the 64 before them and carries an
LSTM state; fed frame by frame it returns exactly what it returns for the whole file (measured: bit for bit), in 80 to
100 us a frame. Its batch dimension is fixed at one, so sessions cannot share a call, but frames of one session can.
"""

from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from audio.model.transcriber import Samples

FRAME = 512
"""Number of samples that one speech probability is about: 32 ms."""
CONTEXT = 64
"""Number of samples before a frame that the model looks at, too."""


class SpeechDetector(Protocol):
    """A model that tells speech from everything else."""

    def run(self, frames: Samples, state: "VadState") -> npt.NDArray[np.float32]:
        """Returns the probability of speech in each row of `frames`, which has CONTEXT samples before the frame.

        Moves `state` on.
        """
        ...


class Silero:
    """The detector that all sessions of a process share."""

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
    """The detector's state after the frames of one stream so far."""

    __slots__ = ("c", "context", "h")

    def __init__(self) -> None:
        self.h = np.zeros((1, 1, 128), np.float32)
        self.c = np.zeros((1, 1, 128), np.float32)
        self.context = np.zeros(CONTEXT, np.float32)


class Ear:
    """Cuts the samples of one session into frames, and finds out how likely each of them is speech."""

    __slots__ = ("_detector", "_remainder", "_state")

    def __init__(self, detector: SpeechDetector) -> None:
        self._detector = detector
        self._state = VadState()
        self._remainder: Samples = np.zeros(0, np.float32)

    def feed(self, samples: Samples) -> tuple[Samples, list[float]]:
        """Returns the frames that are whole now, with their probabilities; the remainder waits for the next samples."""
        if len(self._remainder):
            samples = np.concatenate((self._remainder, samples))
        count = len(samples) // FRAME
        whole, self._remainder = samples[: count * FRAME], samples[count * FRAME :].copy()
        if not count:
            return whole, []
        return whole, self._probabilities(whole, count)

    @property
    def pending(self) -> int:
        """Returns the number of samples that are no whole frame yet."""
        return len(self._remainder)

    def flush(self) -> tuple[Samples, list[float]]:
        """Returns the last frame, filled up with silence; nothing when no sample is pending."""
        missing = -len(self._remainder) % FRAME
        return self.feed(np.zeros(missing, np.float32))

    def _probabilities(self, whole: Samples, count: int) -> list[float]:
        state = self._state
        frames = np.empty((count, CONTEXT + FRAME), np.float32)
        frames[:, CONTEXT:] = whole.reshape(count, FRAME)
        frames[0, :CONTEXT] = state.context
        frames[1:, :CONTEXT] = frames[:-1, -CONTEXT:]
        state.context = frames[-1, -CONTEXT:].copy()
        return self._detector.run(frames, state).tolist()
