"""The harness measures: rounds of cases of targets, each on a fresh process on its core, a record for each."""
