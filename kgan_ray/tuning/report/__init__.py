"""How an answer is told: tables, page, MLflow."""
