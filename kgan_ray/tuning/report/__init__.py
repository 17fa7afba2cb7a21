"""The answer, printed: on the terminal, as tables, as a page, in MLflow."""
