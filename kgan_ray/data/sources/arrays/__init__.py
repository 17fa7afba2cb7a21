"""Recordings that lie many to a file, as arrays or in pickles."""
