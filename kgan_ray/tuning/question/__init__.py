"""What a sweep asks: the search-space file, read and checked."""
