"""Growth is each figure against its load, a model that predicts it, and the page `GROWTH.md` that shows both."""
