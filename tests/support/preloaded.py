"""Has imported what units import, except for the models of audio, whose libraries start threads."""

import gc

from gateway.cli import main as main
from gateway.commands import serve as serve
from gateway.settings import load
from gateway.units import UNITS

for unit in ("chat", "events"):
    UNITS[unit](load({"TRILANE_LOG": "memory:"}))
gc.collect()
gc.freeze()
