"""The audio lane is measured with recorded speech: how right its words are, how late, and how many at once."""
