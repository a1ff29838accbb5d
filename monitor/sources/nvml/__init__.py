"""NVIDIA GPUs: `driver` asks, `policy` judges the answers, `source` turns them into readings."""
