"""The regression check compares small measurements with committed ones, as ratios to references beside them."""
