"""The audio lane. Workers of the speech model use the cores; numpy gets one thread.

OpenBLAS would start a thread a core, and have all of them wait, busy, for each small product of a spectrogram: of 31 ms
of processor time for 10 s of sound 19 are that. It reads this when numpy is imported, so it stands before all else.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
