"""Where recordings come from: one reader a format."""
