"""The chat lane is measured beside the bare upstream, a relay, and what others run."""
