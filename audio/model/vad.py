"""Speech or not: the Silero model that faster-whisper ships, with one small state per session.

This is the only importer of onnxruntime. The model takes frames of 512 samples with the 64 before them and carries an
LSTM state; fed frame by frame it returns exactly what it returns for the whole file (measured: bit for bit), in 80 to
100 us a frame. Its batch dimension is fixed at one, so sessions cannot share a call, but frames of one session can.
"""

from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from audio.model.band import FRAME as FRAME
from audio.model.band import Band
from audio.model.transcriber import Samples

CONTEXT = 64
"""Number of samples before a frame that the model looks at, too."""
SILENT = 2.0**-16
"""Loudness of a sample up to which it is digital silence: half a step of 16 bits."""
QUIET_FRAMES = 31
"""Frames of digital silence, a second of it, that the model still hears: it has forgotten the speech before by then."""


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

    __slots__ = ("_band", "_detector", "_quiet_frames", "_remainder", "_state")

    def __init__(self, detector: SpeechDetector) -> None:
        self._detector = detector
        self._state = VadState()
        self._band = Band()
        self._quiet_frames = 0
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
        is_heard = self._is_heard(frames[:, CONTEXT:])
        if all(is_heard):
            return self._run(frames).tolist()
        probabilities = np.zeros(count, np.float32)
        if any(is_heard):
            probabilities[is_heard] = self._run(frames[is_heard])
        return probabilities.tolist()

    def _run(self, frames: Samples) -> npt.NDArray[np.float32]:
        return self._band.fit(frames[:, CONTEXT:], self._detector.run(frames, self._state))

    def _is_heard(self, frames: Samples) -> list[bool]:
        """Returns for each frame whether the model hears it: no digital silence past the first QUIET_FRAMES of it.

        Hours of silence weigh next to nothing in a file, and so must cost next to nothing.
        """
        is_heard: list[bool] = []
        for loudness in np.abs(frames).max(axis=1).tolist():
            self._quiet_frames = self._quiet_frames + 1 if loudness <= SILENT else 0
            is_heard.append(self._quiet_frames <= QUIET_FRAMES)
        return is_heard
