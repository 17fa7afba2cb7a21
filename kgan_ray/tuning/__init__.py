"""Sweeps: the question (space), its proposals (search), the trials, the stages (sweep), the answer (verdict)."""
