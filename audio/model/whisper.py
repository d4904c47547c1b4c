"""Implements `Transcriber` with faster-whisper. This is the only importer of it, and of CTranslate2.

It departs from `WhisperModel.transcribe` on purpose. That encodes 30 s of audio, most of it silence, whatever it is
given; here the window is as short as the speech allows, which makes a partial four to five times cheaper at the same
error rate (tiny.en, 610 s of read speech: .051 against .053). The rules, each measured: silence is put behind the
*waveform*, never less than a second, up to a multiple of 1000 mel frames, in partials of 500; an answer that looks
like a loop is not believed and is decoded again on the full window.
"""

import asyncio
import itertools
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ctranslate2 as untyped_ctranslate2  # pyright: ignore[reportMissingTypeStubs]
import numpy as np
from faster_whisper import WhisperModel  # pyright: ignore[reportMissingTypeStubs]
from faster_whisper import transcribe as untyped_transcribe  # pyright: ignore[reportMissingTypeStubs]
from faster_whisper.tokenizer import Tokenizer  # pyright: ignore[reportMissingTypeStubs]

from audio.model.guess import LEAST_PROBABLE, Guess
from audio.model.repeats import are_said, said_of
from audio.model.tongues import ENGLISH, Tongue, doubted
from audio.model.transcriber import SAMPLE_RATE, Samples, Transcription, TranscriptionTask, Word
from audio.model.weights import ModelFiles
from audio.model.word_times import joined, with_lengths, without_echo
from gateway.errors import ConfigurationError

ctranslate2: Any = untyped_ctranslate2
transcribe: Any = untyped_transcribe

HOP = 160
"""Number of samples in one mel frame."""
WINDOW = 1000
"""Mel frames in the smallest window of a final, of 10 s, which the others are a multiple of."""
QUICK_WINDOW, QUICK_STEP = 700, 500
"""Mel frames in the smallest window of a partial, and in what the others are a multiple of.

Of 84 beginnings of telephone speech 9 are no words but a loop with 500, 4 with 700, and 3 with 1000.
"""
FULL = 3000
"""Number of mel frames in the largest window, of 30 s."""
EDGE = 4
"""Mel frames after the last one of the audio until all that is in one is silence."""
FLOOR, RANGE = -1.5, 2.0
"""The mel value of silence, and how far below the loudest one any is at the least."""
PAD = SAMPLE_RATE
"""Minimum samples of silence behind the speech in a window."""
BEAM = 5
"""Number of hypotheses that the decode of a final goes on with. A partial's goes on with one, as soon as it can."""
TOKENS_PER_S = 8
SPARE_TOKENS = 24
FALLBACKS = (0, 4)
"""The decodes on the full window that replace a doubtful answer, by the length of the runs that may not come twice.

0 allows any run. No decode is sampled, so the same audio is always the same text, in whichever process.
"""
WITHOUT_SPACES = frozenset(("zh", "ja", "th", "lo", "my", "yue"))
"""The languages whose words are written without spaces between them, by their codes."""
PREPENDED, APPENDED = "\"'“¿([{-", "\"'.。,，!！?？:：”)]}、"  # noqa: RUF001 - punctuation as Whisper writes it


class Whisper:
    """One model for all sessions: on CPU with a worker per core of one thread each, on CUDA with one and batches."""

    def __init__(
        self, model: ModelFiles, *, device: str = "cpu", compute: str = "int8", workers: int = 1, batch: int = 1
    ):
        self.workers = workers
        self.batch = batch
        self._files = model
        self._device = device
        self._compute = compute
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="whisper")
        self._tokenizers: dict[tuple[str, bool], Tokenizer] = {}

    async def open(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._threads, self._load)

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    @property
    def is_multilingual(self) -> bool:
        return bool(self._model.is_multilingual)

    def supports(self, language: str) -> bool:
        return language in self._whisper.supported_languages

    def transcribe(self, tasks: Sequence[TranscriptionTask]) -> asyncio.Future[list[Transcription]]:
        return asyncio.get_running_loop().run_in_executor(self._threads, self._transcribe, list(tasks))

    # In a worker's thread

    def _load(self) -> None:
        files: Any = self._files.read()
        try:
            self._whisper: Any = WhisperModel(
                str(self._files.folder),
                files=files,
                device=self._device,
                compute_type=self._compute,
                cpu_threads=1,
                num_workers=self.workers,
                local_files_only=True,
            )
        except (RuntimeError, ValueError, OSError) as err:
            raise ConfigurationError(
                f"the speech model {self._files.name} in {self._files.folder} cannot be loaded on {self._device} "
                f"({self._compute}): {err}; see TRILANE_WHISPER_MODEL"
            ) from err
        self._model: Any = self._whisper.model
        self._suppressed = list(transcribe.get_suppressed_tokens(self._tokenizer("en"), [-1]))

    def _tokenizer(self, language: str, translates: bool = False) -> Tokenizer:
        tokenizer = self._tokenizers.get((language, translates))
        if tokenizer is None:
            task = "translate" if translates else "transcribe"
            tokenizer = Tokenizer(self._whisper.hf_tokenizer, self.is_multilingual, task=task, language=language)
            self._tokenizers[language, translates] = tokenizer
        return tokenizer

    def _transcribe(self, tasks: list[TranscriptionTask]) -> list[Transcription]:
        if len(tasks) == 1:
            return self._alike(tasks)
        answers: dict[int, Transcription] = {}
        keyed = sorted((self._likeness(task), at) for at, task in enumerate(tasks))
        for _, group in itertools.groupby(keyed, key=lambda pair: pair[0]):
            places = [at for _, at in group]
            answers |= zip(places, self._alike([tasks[at] for at in places]), strict=True)
        return [answers[at] for at in range(len(tasks))]

    def _likeness(self, task: TranscriptionTask) -> tuple[str, bool, int, int, int]:
        """Returns what tasks of one decode share: CTranslate2 needs them to begin at the same token.

        Windows of one length waste nothing.
        """
        tokenizer = self._tokenizer("en")
        known, prompt = len(_known(task, tokenizer)), len(self._prompt(task, tokenizer))
        return task.language or "", task.translates, prompt - known, known, window(task)

    def _alike(self, tasks: list[TranscriptionTask]) -> list[Transcription]:
        """Transcribes tasks that can be decoded together."""
        encoded = self._encode([task.audio for task in tasks], max(window(task) for task in tasks))
        tongues = self._tongues(tasks, encoded)
        tokenizers = [self._tokenizer(tongue.language, tasks[0].translates) for tongue in tongues]
        prompts = [self._prompt(task, tokenizer) for task, tokenizer in zip(tasks, tokenizers, strict=True)]
        is_final = tasks[0].is_final
        guesses = self._generate(encoded, prompts, tokenizers, tasks, BEAM if is_final else 1)
        answers: list[Transcription] = []
        for at, (task, guess) in enumerate(zip(tasks, guesses, strict=True)):
            seconds = task.seconds
            own = encoded
            if not is_final and (not guess.is_presentable(seconds) or guess.repeats):
                answers.append(Transcription(text="", language=tongues[at].language))
                continue
            is_doubtful = not guess.is_credible(seconds) or guess.repeats
            if is_final and is_doubtful and not self._is_said(task, guess, encoded, at, len(tasks), tokenizers[at]):
                if task.known_samples:
                    answers += self._alike([task.alone()])
                    continue
                guess, own = self._again(task, prompts[at], tokenizers[at], guess)
            answer = self._answer(task, guess, own, at if own is encoded else 0, len(tasks), tokenizers[at])
            answers.append(doubted(answer, guess.log_probability, tongues[at]))
        return answers

    def _is_said(
        self, task: TranscriptionTask, guess: Guess, encoded: Any, at: int, of: int, tokenizer: Tokenizer
    ) -> bool:
        """Tells whether a doubtful guess only repeats what somebody repeats, too."""
        if not (guess.text and guess.is_speech and guess.log_probability > LEAST_PROBABLE):
            return False
        return are_said(self._words(task, guess, encoded, at, of, tokenizer))

    def _again(
        self, task: TranscriptionTask, prompt: list[int], tokenizer: Tokenizer, first: Guess
    ) -> tuple[Guess, Any]:
        """Decodes a task on the full window. Returns the best guess when none is credible."""
        seconds = len(task.audio) / SAMPLE_RATE
        encoded = self._encode([task.audio], FULL)
        guesses = [first]
        for no_repeat_length in FALLBACKS:
            guess = self._generate(encoded, [prompt], [tokenizer], [task], BEAM, no_repeat_length)[0]
            if guess.is_credible(seconds) or not guess.is_speech:
                return guess, encoded
            guesses.append(guess)
        sane = [guess for guess in guesses if not guess.is_loop(seconds)]
        if not sane:
            return first._replace(text="", tokens=[]), encoded
        return max(sane, key=lambda guess: guess.log_probability), encoded

    def _encode(self, audios: list[Samples], frames: int) -> Any:
        """Runs the mel spectrograms of the padded waveforms, of so many frames, through the encoder."""
        mel = np.stack([self._spectrogram(audio, frames) for audio in audios])
        view = ctranslate2.StorageView.from_array(np.ascontiguousarray(mel))
        return self._model.encode(view, to_cpu=False)

    def _spectrogram(self, audio: Samples, frames: int) -> Samples:
        """Returns the mel frames of audio and the silence behind it, of which only the first ones are computed."""
        heard = min(frames, len(audio) // HOP + EDGE)
        padded = np.zeros(heard * HOP, np.float32)
        padded[: len(audio)] = audio[: len(padded)]
        spectrum = self._whisper.feature_extractor(padded, padding=0)
        silent = max(FLOOR, float(spectrum.max()) - RANGE)
        return np.pad(spectrum, ((0, 0), (0, frames - heard)), constant_values=silent)

    def _tongues(self, tasks: list[TranscriptionTask], encoded: Any) -> list[Tongue]:
        if not self.is_multilingual:
            return [ENGLISH] * len(tasks)
        if all(task.language for task in tasks):
            return [Tongue(task.language or "en", 1.0) for task in tasks]
        rankings = self._model.detect_language(encoded)
        return [
            Tongue(task.language, 1.0) if task.language else Tongue(ranking[0][0][2:-2], ranking[0][1])
            for task, ranking in zip(tasks, rankings, strict=True)
        ]

    def _prompt(self, task: TranscriptionTask, tokenizer: Tokenizer) -> list[int]:
        previous: list[int] = []
        if task.prompt:
            room = self._whisper.max_length // 2 - 1
            previous = [tokenizer.sot_prev, *tokenizer.encode(" " + task.prompt.strip())[-room:]]
        return [*previous, *tokenizer.sot_sequence, tokenizer.no_timestamps, *_known(task, tokenizer)]

    def _generate(
        self,
        encoded: Any,
        prompts: list[list[int]],
        tokenizers: list[Tokenizer],
        tasks: list[TranscriptionTask],
        beam: int,
        no_repeat_length: int = 0,
    ) -> list[Guess]:
        longest_s = max(len(task.audio) for task in tasks) / SAMPLE_RATE
        limit = 2 * (len(prompts[0]) + int(TOKENS_PER_S * longest_s) + SPARE_TOKENS)  # CTranslate2 halves it
        results = self._model.generate(
            encoded,
            prompts,
            beam_size=beam,
            no_repeat_ngram_size=no_repeat_length,
            max_length=min(self._whisper.max_length, limit),
            return_scores=True,
            return_no_speech_prob=True,
            return_logits_vocab=beam == 1,
            suppress_tokens=self._suppressed,
        )
        return [
            _guess(result, tokenizer, len(_known(task, tokenizer)))
            for result, tokenizer, task in zip(results, tokenizers, tasks, strict=True)
        ]

    def _answer(
        self, task: TranscriptionTask, guess: Guess, encoded: Any, at: int, of: int, tokenizer: Tokenizer
    ) -> Transcription:
        text = guess.text if guess.is_speech else ""
        confidence = math.exp(min(0.0, guess.log_probability))
        words: list[Word] = []
        if text and task.words:
            aligned = self._words(task, guess, encoded, at, of, tokenizer)
            is_doubtful = guess.repeats or guess.is_loop(task.seconds)
            said = without_echo(said_of(aligned) if is_doubtful else aligned)
            if len(said) < len(aligned):
                text = " ".join(word.text for word in said)
            words = with_lengths(said, task.seconds)
        elif text and not task.is_final:
            words = _words_without_times(guess, tokenizer)
        return Transcription(
            text=text,
            words=words,
            confidence=confidence,
            no_speech_prob=guess.no_speech,
            language=tokenizer.language_code,
        )

    def _words(
        self, task: TranscriptionTask, guess: Guess, encoded: Any, at: int, of: int, tokenizer: Tokenizer
    ) -> list[Word]:
        if of > 1:
            whole = np.asarray(encoded.to_device(ctranslate2.Device.cpu), np.float32)
            encoded = ctranslate2.StorageView.from_array(np.ascontiguousarray(whole[at : at + 1]))
        frames = len(task.audio) // HOP
        known, known_s = _known(task, tokenizer), task.known_samples / SAMPLE_RATE
        alignment = self._whisper.find_alignment(tokenizer, [[*known, *guess.tokens]], encoded, frames)[0]
        before = len(tokenizer.decode(known))
        while before > 0:
            before -= len(alignment.pop(0)["word"])
        return _joined(alignment, known_s, tokenizer)


def window(task: TranscriptionTask) -> int:
    """Returns the mel frames of the window for a task: PAD and more behind its audio, where there is room."""
    frames = (len(task.audio) + PAD) / HOP
    if frames <= QUICK_WINDOW and not task.is_final:
        return QUICK_WINDOW
    step = WINDOW if task.is_final else QUICK_STEP
    return min(FULL, step * math.ceil(frames / step))


def _known(task: TranscriptionTask, tokenizer: Tokenizer) -> list[int]:
    """Returns the words of a task's context, which the decode begins with."""
    return tokenizer.encode(f" {task.known_text}") if task.known_text else []


def _guess(result: Any, tokenizer: Tokenizer, known: int) -> Guess:
    """Returns what follows the known tokens."""
    tokens: list[int] = list(result.sequences_ids[0])
    mean = result.scores[0] * len(tokens) / (len(tokens) - known + 1)  # its score is without the token that ends it
    probabilities = _probabilities(tokens, result.logits[0])[known:] if result.logits else ()
    return Guess(tokenizer.decode(tokens[known:]).strip(), tokens[known:], mean, result.no_speech_prob, probabilities)


def _probabilities(tokens: Sequence[int], logits: Sequence[Any]) -> list[float]:
    """Returns the probability of each token, of the logits of each step."""
    result: list[float] = []
    for token, step in zip(tokens, logits, strict=False):  # the last step is the token that ends it
        scores = np.asarray(step, np.float32).reshape(-1)
        result.append(float(1 / np.exp(scores - scores[token]).sum()))
    return result


def _words_without_times(guess: Guess, tokenizer: Tokenizer) -> list[Word]:
    """Returns the words of a guess with their probabilities, which cost a third less than with their times."""
    pieces: list[dict[str, Any]] = []
    end = 0
    for text, tokens in zip(*tokenizer.split_to_word_tokens([*guess.tokens, tokenizer.eot]), strict=True):
        start, end = end, end + len(tokens)
        if own := guess.probabilities[start:end]:
            pieces.append({"word": text, "tokens": tokens, "start": 0, "end": 0, "probability": sum(own) / len(own)})
    return _joined(pieces, 0.0, tokenizer)


def _joined(pieces: list[dict[str, Any]], offset_s: float, tokenizer: Tokenizer) -> list[Word]:
    """Returns the words of the pieces of an alignment, with times that begin at `offset_s`."""
    transcribe.merge_punctuations(pieces, PREPENDED, APPENDED)
    words = [
        Word(one["word"], one["start"] - offset_s, one["end"] - offset_s, round(float(one["probability"]), 3))
        for one in pieces
    ]
    return joined(words, has_spaces=tokenizer.language_code not in WITHOUT_SPACES)
