"""The load clients and the fake upstream are C programs; `build.py` builds them where they are needed."""
