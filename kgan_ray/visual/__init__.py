"""Pictures: stick figures, animations, charts."""
