"""Motion that is made, not recorded."""
