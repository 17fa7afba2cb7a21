"""What only measures: speed, scaling, overhead, and what the metrics see."""
