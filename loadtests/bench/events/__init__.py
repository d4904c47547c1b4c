"""The events lane is measured with thousands of readers of one topic, and tens of thousands that only wait."""
