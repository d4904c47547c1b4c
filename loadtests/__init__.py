"""Load tests, benchmarks and the fake upstream they share; run from the root of the repository."""
